"""An audio file to 16 kHz mono float32. Takes a path, gives samples; knows no stream and no wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

BLOCK_S = 10  # of a file held in its own rate and channels at a time


def length_ms(path: Path) -> int:
    """How long ``path`` says it plays. Raises AudioError for what does not begin like audio."""
    with _opened(path) as file:
        return int(file.frames) * 1000 // int(file.samplerate)


def read_file(path: Path) -> Float32Array:
    """All of ``path``, float32 [samples] in [-1, 1], finite. Raises AudioError for what is no audio."""
    with _opened(path) as file:
        rate_hz = int(file.samplerate)
        blocks = file.blocks(BLOCK_S * rate_hz, dtype="float32", always_2d=True)
        mono = (np.nan_to_num(block.mean(axis=1, dtype=np.float32), posinf=0, neginf=0) for block in blocks)
        pieces = [np.zeros(0, np.float32), *_resampled(mono, rate_hz)]
    return np.clip(np.concatenate(pieces), -1, 1).astype(np.float32, copy=False)


def _resampled(pieces: Iterator[Float32Array], rate_hz: int) -> Iterator[Float32Array]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from pieces
        return
    resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield np.asarray(resampler.resample_chunk(piece), np.float32)
    yield np.asarray(resampler.resample_chunk(np.zeros(0, np.float32), last=True), np.float32)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(str(path)) as file:
            yield file
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        if not path.exists():
            raise AudioError(f"{path}: there is no such file.") from None
        reason = str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__
        raise AudioError(
            f"{path}: this is no audio that can be read here ({reason}).",
            advice="WAV, FLAC, OGG and MP3 files are understood.",
        ) from None
