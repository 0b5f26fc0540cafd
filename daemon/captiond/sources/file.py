"""``[[source]] kind = "file"``: an audio file spoken into a stream, at the pace of speech or faster.

Takes: one source's configuration. Gives: its audio to a session. Raises AudioError or ClientError for
what it cannot play; the other streams do not notice.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from captiond_engine.errors import CaptiondError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

from captiond.audio import read_file
from captiond.config import FileSource
from captiond.context import Context
from captiond.health import Health
from captiond.session import Session
from captiond.sessions import Wishes

PIECE_SAMPLES = SAMPLE_RATE_HZ // 10


async def play(source: FileSource, context: Context, health: Health) -> None:
    """Play the file once, or again and again, and wait until its last final is out. Raises CaptiondError."""
    pcm = await asyncio.to_thread(read_file, Path(source.path))
    owner = object()
    wishes = Wishes(source.language or None, source.prompt)
    session = await context.sessions.open(source.name, "file", wishes, owner)
    health.ok()
    with session.boundary():
        while True:
            await _once(source, session, pcm, owner)
            if not source.repeat or not len(pcm) or session.closing:
                break
    session.end("end")
    await session.closed.wait()
    if session.error:
        raise CaptiondError(f"its stream has failed ({session.error}).", code=session.error)


async def _once(source: FileSource, session: Session, pcm: Float32Array, owner: object) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for start in range(0, len(pcm), PIECE_SAMPLES):
        piece = pcm[start : start + PIECE_SAMPLES]
        if source.pace == "realtime":
            # A microphone gives a sample when it has been said, not before.
            await asyncio.sleep(began + (start + len(piece)) / SAMPLE_RATE_HZ - loop.time())
        await session.hear(piece, owner)
