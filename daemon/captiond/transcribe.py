"""Files to text without a socket: the daemon's own path, as fast as it goes.

Takes: a path and an engine. Gives: the events of one stream, in order. What a file says here is what it
would say spoken into the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
from captiond_engine.engine import Engine
from captiond_engine.scheduler import Scheduler
from captiond_engine.types import Float32Array

from captiond import wire
from captiond.app import make_context
from captiond.audio import read_file
from captiond.config import Config
from captiond.hub import Missed
from captiond.mailbox import Mailbox
from captiond.query import View
from captiond.session import Session
from captiond.sessions import Wishes

UNBOUNDED = 1_000_000_000  # the reader is in this process: what waits is bounded by the file


async def transcribe(path: Path, config: Config, engine: Engine) -> AsyncGenerator[bytes, None]:
    """The events of ``path`` as JSON. Raises AudioError before the first."""
    pcm = await asyncio.to_thread(read_file, path)
    scheduler = Scheduler(engine.device, batch_limit=1)
    context = make_context(config, engine, scheduler)
    box = Mailbox(View(words=True), max_facts=UNBOUNDED, max_bytes=UNBOUNDED)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scheduler.run(), name="scheduler")
        session = await context.sessions.open("file", "file", Wishes(partials=False), box)
        context.hub.subscribe(session.name, box, context.hub.hello(), Missed(since=session.first_seq))
        tasks.create_task(_speak(session, pcm, box), name="file reading")
        while (message := await box.get()) is not None:
            yield message
        running.cancel()


async def _speak(session: Session, pcm: Float32Array, box: Mailbox) -> None:
    with session.boundary():
        await session.hear(pcm, box)
    session.end("end")
    await session.closed.wait()
    box.finish(wire.CLOSE_DONE)


async def finals_of(path: Path, config: Config, engine: Engine) -> list[wire.Final]:
    """All finals of ``path``. Raises AudioError."""
    finals: list[wire.Final] = []
    async with aclosing(transcribe(path, config, engine)) as messages:
        async for message in messages:
            if b'"transcript.final"' in message:
                finals.append(msgspec.json.decode(message, type=wire.Final))
    return finals


def to_text(finals: Sequence[wire.Final]) -> str:
    """One line a segment."""
    return "".join(f"{final.text}\n" for final in finals)


def to_srt(finals: Sequence[wire.Final]) -> str:
    """SubRip: numbered cues, a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_clock(final.start_ms, ',')} --> {_clock(final.end_ms, ',')}\n{final.text}\n\n"
        for number, final in enumerate(finals, 1)
    )


def to_vtt(finals: Sequence[wire.Final]) -> str:
    """WebVTT (W3C): characters that begin a tag or a reference are escaped."""
    cues = (
        f"{_clock(final.start_ms, '.')} --> {_clock(final.end_ms, '.')}\n{_escaped(final.text)}\n\n"
        for final in finals
    )
    return "WEBVTT\n\n" + "".join(cues)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


WRITERS: dict[str, Callable[[Sequence[wire.Final]], str]] = {"text": to_text, "srt": to_srt, "vtt": to_vtt}
