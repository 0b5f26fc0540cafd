"""Audio for a speaker: a file of any format libsndfile reads, or raw bytes; paced or as fast as it goes.

Takes a path or an open binary stream; gives pieces of bytes with the time at which each ends. Knows no
socket. Files are read in blocks, so that their length does not matter.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from os import fstat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from captiond_clients.audio_outbox import AudioShape
from captiond_clients.errors import AudioError

RATE_HZ = 16_000
PIECE_MS = 20
FILE_SHAPE = AudioShape("pcm_s16le", RATE_HZ, 1)  # what files are converted to


class AudioFile:
    """A sound file as 16 kHz mono s16le. Raises AudioError where it cannot be read as audio."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise AudioError(f"{path} is no file.", advice="Raw audio comes through standard input (-).")
        try:
            self._file = soundfile.SoundFile(str(path))
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            raise self._unreadable(error) from error

    def pieces(self) -> Iterator[bytes]:
        """Blocks of one second of the file, converted."""
        rate = self._file.samplerate
        resampler = None if rate == RATE_HZ else soxr.ResampleStream(rate, RATE_HZ, 1, dtype="float32")
        with self._file as file:
            while True:
                try:
                    block = file.read(rate, dtype="float32", always_2d=True)
                except (soundfile.LibsndfileError, RuntimeError) as error:
                    raise self._unreadable(error) from error
                mono = block.mean(axis=1, dtype=np.float32)
                if resampler is not None:
                    mono = resampler.resample_chunk(mono, last=len(block) < rate)
                if len(mono):
                    yield (np.clip(mono, -1, 1) * 32767).round().astype("<i2").tobytes()
                if len(block) < rate:
                    return

    def _unreadable(self, error: Exception) -> AudioError:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        return AudioError(
            f"{self._path} cannot be read as audio ({reason}).",
            advice="WAV, FLAC, Ogg and MP3 files are read; raw PCM goes through standard input (-).",
        )


async def cut_file(path: Path) -> AsyncIterator[bytes]:
    """``path`` in pieces of PIECE_MS."""
    size = FILE_SHAPE.bytes_of(PIECE_MS)
    for block in AudioFile(path).pieces():
        for offset in range(0, len(block), size):
            yield block[offset : offset + size]


async def cut_stream(stream: BinaryIO, shape: AudioShape) -> AsyncIterator[bytes]:
    """Raw bytes of ``stream`` as they come, in pieces of PIECE_MS at most."""
    size = max(shape.frame_bytes, shape.bytes_of(PIECE_MS))
    if stat.S_ISREG(fstat(stream.fileno()).st_mode):
        while piece := stream.read(size):
            yield piece
        return
    reader = asyncio.StreamReader()  # a pipe is waited for without a thread, so that Ctrl-C ends the wait
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    try:
        while piece := await reader.read(size):
            yield piece
    finally:
        transport.close()


async def at_pace(
    pieces: AsyncIterator[bytes], shape: AudioShape, start: float | None = None
) -> AsyncIterator[bytes]:
    """``pieces``, each when its last sample would have been captured, had capture begun at ``start``.

    ``start`` is a time of the running loop, now by default. Live audio, which cannot come early, is not held.
    """
    loop = asyncio.get_running_loop()
    start = loop.time() if start is None else start
    position = 0
    async for piece in pieces:
        position += len(piece)
        await asyncio.sleep(max(0.0, start + position / (shape.rate * shape.frame_bytes) - loop.time()))
        yield piece
