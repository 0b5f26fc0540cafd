"""``[[source]] kind = "file"``: an audio file spoken into a stream, at the pace of speech or faster.

Takes: one source's configuration. Gives: its audio to a session. Raises AudioError or ClientError for
what it cannot play; the other streams do not notice.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from captiond_engine.errors import CaptiondError
from captiond_engine.types import SAMPLE_RATE_HZ

from captiond.audio import AudioFile, open_audio
from captiond.config import FileSource
from captiond.context import Context
from captiond.health import Health
from captiond.session import Session
from captiond.sessions import Wishes

PIECE_SAMPLES = SAMPLE_RATE_HZ // 10


async def play(source: FileSource, context: Context, health: Health) -> None:
    """Play the file once, or again and again, and wait until its last final is out. Raises CaptiondError."""
    path = Path(source.path)
    owner = object()
    session: Session | None = None
    while session is None or (source.repeat and not session.closing):
        async with open_audio(path) as audio:
            if session is None:  # a file that cannot be read opens no stream
                wishes = Wishes(source.language or None, source.prompt)
                session = await context.sessions.open(source.name, "file", wishes, owner)
                health.ok()
            with session.boundary():
                if not await _once(source, session, audio, owner):
                    break
    session.end("end")
    await session.closed.wait()
    if session.error:
        raise CaptiondError(f"its stream has failed ({session.error}).", code=session.error)


async def _once(source: FileSource, session: Session, audio: AudioFile, owner: object) -> int:
    """Samples that were played."""
    loop = asyncio.get_running_loop()
    began, played = loop.time(), 0
    async for block in audio.blocks:
        for start in range(0, len(block), PIECE_SAMPLES):
            piece = block[start : start + PIECE_SAMPLES]
            played += len(piece)
            if source.pace == "realtime":
                # A microphone gives a sample when it has been said, not before.
                await asyncio.sleep(began + played / SAMPLE_RATE_HZ - loop.time())
            await session.hear(piece, owner)
        if session.closing:
            break
    return played
