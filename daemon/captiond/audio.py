"""An audio file to 16 kHz mono float32, a block at a time. Takes a path, gives samples; knows no stream.

libsndfile reads what it can (WAV, FLAC, Ogg, MP3); everything else goes to PyAV in its own process, where
that is installed. No file is ever held whole.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

from captiond.containers import media
from captiond.containers.decoder import Decoder, Gap, Heard, Opened, file_of

BLOCK_S = 1  # of a file held at a time, and lost with a damage that ends it
BLOCK_SAMPLES = BLOCK_S * SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class AudioFile:
    """``blocks``: float32 [samples] in [-1, 1], finite. ``length_ms``: what the file says; None: nothing."""

    blocks: AsyncIterator[Float32Array]
    length_ms: int | None


@asynccontextmanager
async def open_audio(path: Path) -> AsyncIterator[AudioFile]:
    """``path``, opened as far as its head. AudioError for what is no audio, now or while it is read."""
    file = await asyncio.to_thread(_soundfile, path)
    if file is None:
        async with file_of(path) as decoder:
            heard = _named(path, decoder)
            opened = await anext(heard)
            says_ms = opened.length_ms if isinstance(opened, Opened) else None
            yield AudioFile(_container_blocks(heard), says_ms)
        return
    reading = threading.Lock()
    try:
        blocks = _soundfile_blocks(path, file, reading)
        yield AudioFile(blocks, int(file.frames) * 1000 // int(file.samplerate))
    finally:
        # A read whose reader was cancelled goes on in its thread, and libsndfile crashes where the file is
        # closed under it.
        await asyncio.to_thread(_close, file, reading)


def _close(file: soundfile.SoundFile, reading: threading.Lock) -> None:
    with reading:
        file.close()


def _soundfile(path: Path) -> soundfile.SoundFile | None:
    """``path`` as libsndfile opens it; None where only PyAV may know its format. Raises AudioError."""
    try:
        return soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        if not path.is_file():
            raise AudioError(f"{path}: there is no such file.") from None
        if not os.access(path, os.R_OK):
            raise AudioError(f"{path}: this file may not be read.") from None
        if not media.installed():
            raise _unreadable(path, error) from None
        return None


async def _named(path: Path, decoder: Decoder) -> AsyncIterator[Heard]:
    """What the decoder tells; its errors name the file."""
    what = "this is no audio that can be read here."
    try:
        async for heard in decoder.heard():
            yield heard
            what = "cannot be read to its end."
    except AudioError as error:
        raise AudioError(f"{path}: {what} {error.message}", code=error.code) from None


async def _container_blocks(heard: AsyncIterator[Heard]) -> AsyncIterator[Float32Array]:
    async for each in heard:
        if isinstance(each, np.ndarray):
            yield each
        elif isinstance(each, Gap):  # times are the file's own, so silence stands where it has no sound
            for start in range(0, each.samples, BLOCK_SAMPLES):
                yield np.zeros(min(BLOCK_SAMPLES, each.samples - start), np.float32)


async def _soundfile_blocks(
    path: Path, file: soundfile.SoundFile, reading: threading.Lock
) -> AsyncIterator[Float32Array]:
    rate_hz = int(file.samplerate)
    blocks = file.blocks(BLOCK_S * rate_hz, dtype="float32", always_2d=True)
    mono = (np.nan_to_num(block.mean(axis=1, dtype=np.float32), posinf=0, neginf=0) for block in blocks)
    pieces = _resampled(mono, rate_hz)

    def read() -> Float32Array | None:
        with reading:
            return next(pieces, None)

    try:
        while (piece := await asyncio.to_thread(read)) is not None:
            yield np.clip(piece, -1, 1)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot be read to its end ({_reason(error)}).") from None


def _resampled(pieces: Iterator[Float32Array], rate_hz: int) -> Iterator[Float32Array]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from pieces
        return
    resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield np.asarray(resampler.resample_chunk(piece), np.float32)
    yield np.asarray(resampler.resample_chunk(np.zeros(0, np.float32), last=True), np.float32)


def _unreadable(path: Path, error: Exception) -> AudioError:
    more = "" if media.installed() else f" Other formats need PyAV. {media.ADVICE}"
    return AudioError(
        f"{path}: this is no audio that can be read here ({_reason(error)}).",
        advice=f"WAV, FLAC, OGG and MP3 files are understood.{more}",
    )


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__
