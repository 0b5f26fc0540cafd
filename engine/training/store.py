"""Utterances on disk: one file of 16-bit samples at 16 kHz, and beside it one line of JSON for each
utterance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16000
LEVEL_RMS = 0.08  # every utterance is stored at this level


class Utterance(msgspec.Struct):
    """`offset` and `length` in samples; `words` are (start, end) in seconds where they are known."""

    text: str
    voice: str
    kind: str
    offset: int
    length: int
    words: list[tuple[float, float]] | None = None
    file: str = ""


class Store:
    """All utterances below a folder whose file begins with a name, samples mapped rather than read."""

    def __init__(self, folder: Path, name: str) -> None:
        self._sounds: dict[str, np.ndarray] = {}
        self.utterances: list[Utterance] = []
        for lines in sorted(folder.glob(f"{name}*.jsonl")):
            self._sounds[lines.name] = np.memmap(lines.with_suffix(".i16"), dtype=np.int16, mode="r")
            for line in lines.read_bytes().splitlines():
                utterance = msgspec.json.decode(line, type=Utterance)
                utterance.file = lines.name
                self.utterances.append(utterance)

    def samples(self, utterance: Utterance) -> np.ndarray:
        """float32 [samples], at `LEVEL_RMS`."""
        mapped = self._sounds[utterance.file]
        return mapped[utterance.offset : utterance.offset + utterance.length].astype(np.float32) / 32768


def write(folder: Path, name: str, spoken: Iterator[tuple[np.ndarray, Utterance]]) -> int:
    """One pair of files, whole or not at all; answers how many utterances."""
    folder.mkdir(parents=True, exist_ok=True)
    offset, count = 0, 0
    with (folder / f"{name}.sound").open("wb") as sound, (folder / f"{name}.lines").open("wb") as lines:
        for samples, utterance in spoken:
            utterance.offset, utterance.length = offset, len(samples)
            sound.write(np.clip(samples * 32767, -32768, 32767).astype(np.int16).tobytes())
            lines.write(msgspec.json.encode(utterance) + b"\n")
            offset, count = offset + len(samples), count + 1
    (folder / f"{name}.sound").rename(folder / f"{name}.i16")
    (folder / f"{name}.lines").rename(folder / f"{name}.jsonl")
    return count


def read_sound(path: Path) -> np.ndarray:
    """float32 [samples], 16 kHz, one channel."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)


def trimmed(samples: np.ndarray, margin: int = 640) -> np.ndarray | None:
    """Without the silence at both ends (42 dB below the loudest 10 ms), at `LEVEL_RMS`; None where nothing
    is heard.
    """
    frames = len(samples) // 160
    if frames < 20:
        return None
    loudness = np.sqrt((samples[: frames * 160].reshape(frames, 160) ** 2).mean(axis=1))
    heard = np.flatnonzero(loudness > max(loudness.max() * 10 ** (-42 / 20), 1e-5))
    if len(heard) < 10:
        return None
    kept = samples[max(0, heard[0] * 160 - margin) : (heard[-1] + 1) * 160 + margin]
    return (kept * (LEVEL_RMS / (np.sqrt((kept**2).mean()) + 1e-9))).astype(np.float32)
