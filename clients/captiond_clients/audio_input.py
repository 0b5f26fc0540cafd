"""Audio for a speaker: a file of any format, paced or as fast as it goes.

Takes a path; gives pieces of bytes with the time at which each ends. libsndfile reads what it can (WAV,
FLAC, Ogg, MP3), PyAV everything else where it is installed. Knows no socket. Files are read in blocks, so
that their length does not matter.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

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
        self._container: Any = None
        try:
            self._file = soundfile.SoundFile(str(path))
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            if importlib.util.find_spec("av") is None:
                raise self._unreadable(error) from error
            self._container = self._opened()

    def pieces(self) -> Iterator[bytes]:
        """Blocks of one second of the file, converted."""
        return self._file_pieces() if self._container is None else self._container_pieces()

    def _file_pieces(self) -> Iterator[bytes]:
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

    def _opened(self) -> Any:
        import av

        try:
            container = av.open(str(self._path), metadata_errors="replace")
            if container.streams.best("audio") is None:
                raise AudioError(f"{self._path} has no audio in it.")
        except (av.FFmpegError, OSError) as error:
            raise self._unreadable(error) from error
        return container

    def _container_pieces(self) -> Iterator[bytes]:
        """The user's own file, read by the user's own program: PyAV needs no process of its own here."""
        import av

        resampler = av.AudioResampler("s16", "mono", RATE_HZ, frame_size=RATE_HZ)
        try:
            with self._container as container:
                for frame in container.decode(container.streams.best("audio")):
                    frame.pts = None
                    for made in resampler.resample(frame):
                        yield made.to_ndarray().astype("<i2").tobytes()
                for made in resampler.resample(None):
                    yield made.to_ndarray().astype("<i2").tobytes()
        except (av.FFmpegError, ValueError) as error:  # ValueError: the sound changes its shape on the way
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> AudioError:
        reason = getattr(error, "error_string", "") or getattr(error, "strerror", "") or str(error)
        more = "" if importlib.util.find_spec("av") else " For others: pip install 'captiond[av]'."
        return AudioError(
            f"{self._path} cannot be read as audio ({str(reason).strip().rstrip('.')}).",
            advice=f"WAV, FLAC, Ogg and MP3 files are read; raw PCM goes through standard input (-).{more}",
        )


async def cut_file(path: Path) -> AsyncIterator[bytes]:
    """``path`` in pieces of PIECE_MS."""
    size = FILE_SHAPE.bytes_of(PIECE_MS)
    for block in AudioFile(path).pieces():
        for offset in range(0, len(block), size):
            yield block[offset : offset + size]


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
