"""A file or standard input as blocks of samples. Takes a path; ``-`` is standard input.

On standard input come raw PCM (16-bit, 16 kHz, mono) or a WAV file, as for ``captiond speak -``; a file that
is redirected there is read like any other. Knows no engine.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from os import fstat
from pathlib import Path

import numpy as np
from captiond_clients import errors as clients
from captiond_clients.audio_outbox import AudioShape
from captiond_clients.piped_audio import PipedAudio
from captiond_engine.audio.pcm import PcmDecoder
from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

from captiond.audio import AudioFile, open_audio

STANDARD_INPUT = Path("-")
BLOCK_SAMPLES = SAMPLE_RATE_HZ // 4


@asynccontextmanager
async def open_source(path: Path) -> AsyncIterator[AudioFile]:
    """``path``, opened as far as its head. AudioError for what is no audio, now or while it is read."""
    if path != STANDARD_INPUT:
        async with open_audio(path) as audio:
            yield audio
        return
    if stat.S_ISREG(fstat(sys.stdin.fileno()).st_mode):
        async with open_audio(Path("/dev/stdin")) as audio:
            yield audio
        return
    if sys.stdin.isatty():
        raise AudioError("Standard input is a terminal, not audio.", advice="Pipe audio into it.")
    piped = PipedAudio(sys.stdin.buffer, AudioShape())
    with _as_ours():
        await piped.open()
    yield AudioFile(_blocks(piped), None)


async def _blocks(piped: PipedAudio) -> AsyncIterator[Float32Array]:
    shape = piped.shape
    decoder = PcmDecoder(shape.encoding, shape.rate, shape.channels)
    waiting: list[Float32Array] = []
    with _as_ours():
        async for piece in piped.pieces():
            waiting.append(decoder.decode(piece))
            if sum(map(len, waiting)) >= BLOCK_SAMPLES:
                yield np.concatenate(waiting)
                waiting = []
    yield np.concatenate([*waiting, decoder.finish()])


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except clients.AudioError as error:
        raise AudioError(error.message, advice=error.advice) from None
