"""Measuring sets: a folder with ``manifest.jsonl`` and its audio files.

Takes paths; gives clips with their utterances' true bounds in seconds. A row has ``id, path, seconds, text``
and may have ``segments`` (``speech_start, speech_end, text`` each), ``speech_start``/``speech_end``,
``words`` (``text, end``) and ``condition``. Knows no daemon and no metric.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
GRID_SAMPLES = 160  # energy is looked at in steps of 10 ms
SHORTEST_LOUD = 3  # grid steps
SHORTEST_PIECE_S = 0.1
SHORTEST_PAUSE_S = 0.3
ABOVE_FLOOR_DB = 8.0
BELOW_PEAK_DB = 40.0

Float32Array = NDArray[np.float32]
Bounds = Literal["manifest", "energy", "none"]
WordEnds = Literal["manifest", "spread", "unknown"]
Row = dict[str, Any]


class ClipError(Exception):
    """A manifest or audio file that cannot be used: which, where, and why."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech: bounds in seconds of the clip, and the end of each word of ``text.split()``."""

    start: float
    end: float
    text: str
    word_ends: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """One row. ``group``: the manifest's folder. ``voices``: a clip without speech that holds voices.

    ``word_ends``: marked in the manifest, spread over a stretch of speech whose text is known, or unknown
    (several stretches by energy with one text between them: their words are placed too roughly to time).
    ``cuts``: where a session may be cut into segments of one utterance each, in seconds; else empty.
    """

    id: str
    group: str
    condition: str
    path: Path
    seconds: float
    text: str
    utterances: tuple[Utterance, ...]
    bounds: Bounds
    word_ends: WordEnds
    voices: bool
    cuts: tuple[tuple[float, float], ...]

    @property
    def is_session(self) -> bool:
        return bool(self.cuts)

    @property
    def is_speech(self) -> bool:
        return bool(self.text.strip())


def find_manifests(path: Path) -> list[Path]:
    """The manifest itself, the folder's, or those of its direct subfolders; none: an empty list."""
    if path.is_file():
        return [path]
    own = path / "manifest.jsonl"
    return [own] if own.is_file() else sorted(path.glob("*/manifest.jsonl"))


def read_manifest(manifest: Path) -> list[Clip]:
    """All clips of one manifest. Raises ClipError naming the line that cannot be used."""
    clips = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            clips.append(_clip(json.loads(line), manifest))
        except (ValueError, KeyError, TypeError) as error:
            raise ClipError(f"{manifest}:{number}: not a clip ({type(error).__name__}: {error})") from error
    return clips


def read_audio(path: Path) -> Float32Array:
    """float32 [samples] at 16 kHz, one channel. Raises ClipError for anything else."""
    try:
        pcm, rate_hz = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise ClipError(f"{path}: cannot be read ({error})") from error
    if rate_hz != SAMPLE_RATE_HZ or pcm.ndim != 1:
        raise ClipError(f"{path}: {rate_hz} Hz, shape {pcm.shape}; the bench wants 16 kHz mono")
    return np.asarray(pcm, dtype=np.float32)


def speech_pieces(pcm: Float32Array) -> list[tuple[float, float]]:
    """Stretches of speech by energy on a 10 ms grid, in seconds; empty where nothing stands out.

    Speech is what is 8 dB above the clip's floor (its 10th percentile) and within 40 dB of its peak, for at
    least 30 ms on end. Stretches less than 300 ms apart are one; one of less than 100 ms is a click.
    """
    steps = len(pcm) // GRID_SAMPLES
    if not steps:
        return []
    power = (pcm[: steps * GRID_SAMPLES].reshape(steps, GRID_SAMPLES).astype(np.float64) ** 2).mean(axis=1)
    level_db = 10 * np.log10(power + 1e-10)
    threshold_db = max(np.percentile(level_db, 10) + ABOVE_FLOOR_DB, level_db.max() - BELOW_PEAK_DB)
    edges = np.diff(np.concatenate(([0], (level_db > threshold_db).astype(np.int8), [0])))
    grid_s = GRID_SAMPLES / SAMPLE_RATE_HZ
    pieces: list[tuple[float, float]] = []
    for start, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if end - start < SHORTEST_LOUD:
            continue
        if pieces and start * grid_s - pieces[-1][1] < SHORTEST_PAUSE_S:
            pieces[-1] = (pieces[-1][0], float(end * grid_s))
        else:
            pieces.append((float(start * grid_s), float(end * grid_s)))
    return [piece for piece in pieces if piece[1] - piece[0] >= SHORTEST_PIECE_S]


def spread(text: str, pieces: list[tuple[float, float]]) -> tuple[Utterance, ...]:
    """The words of ``text`` shared out over stretches of speech by their length in characters.

    For where nobody marked the words. A space counts as one character, so that short words are not
    infinitely short; a word belongs to the stretch in which its end falls.
    """
    words = text.split()
    lengths = np.array([len(word) + 1 for word in words], dtype=np.float64)
    spoken = np.cumsum([end - start for start, end in pieces])
    ends = np.cumsum(lengths) / lengths.sum() * spoken[-1] if words else lengths
    own = np.searchsorted(spoken, ends - 1e-9)
    utterances = []
    for index, (start, end) in enumerate(pieces):
        before = spoken[index] - (end - start)
        here = np.flatnonzero(own == index)
        utterances.append(
            Utterance(
                start,
                end,
                " ".join(words[i] for i in here),
                tuple(float(start + ends[i] - before) for i in here),
            )
        )
    return tuple(utterances)


def _clip(row: Row, manifest: Path) -> Clip:
    path = manifest.parent / str(row["path"])
    text = str(row["text"])
    utterances, bounds = _utterances(row, path, text)
    group = manifest.parent.name
    return Clip(
        id=str(row["id"]),
        group=group,
        condition=str(row.get("condition") or group),
        path=path,
        seconds=float(row["seconds"]),
        text=" ".join(str(part["text"]) for part in row["segments"]) if "segments" in row else text,
        utterances=utterances,
        bounds=bounds,
        word_ends=_word_ends(row, bounds, utterances),
        voices=bool(row.get("human_babble") or row.get("vocals")),
        cuts=tuple((float(part["start"]), float(part["end"])) for part in row.get("segments", ())),
    )


def _word_ends(row: Row, bounds: Bounds, utterances: tuple[Utterance, ...]) -> WordEnds:
    if "words" in (row.get("segments") or [row])[0]:
        return "manifest"
    return "spread" if bounds == "manifest" or len(utterances) == 1 else "unknown"


def _utterances(row: Row, path: Path, text: str) -> tuple[tuple[Utterance, ...], Bounds]:
    if not text.strip():
        return (), "none"
    if "segments" in row:
        return tuple(part for segment in row["segments"] for part in _marked(segment)), "manifest"
    if "speech_start" in row:
        return _marked(row), "manifest"
    pieces = speech_pieces(read_audio(path)) or [(0.0, float(row["seconds"]))]
    return spread(text, pieces), "energy"


def _marked(row: Row) -> tuple[Utterance, ...]:
    start, end = float(row["speech_start"]), float(row["speech_end"])
    if "words" not in row:
        return spread(str(row["text"]), [(start, end)])
    text = " ".join(str(word["text"]) for word in row["words"])
    return (Utterance(start, end, text, tuple(float(word["end"]) for word in row["words"])),)
