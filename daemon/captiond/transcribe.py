"""Files to text without a socket: the daemon's own path, as fast as it goes.

Takes: a path and an engine. Gives: the events of one stream, in order. What a file says here is what it
would say spoken into the daemon. Knows no output format.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path

from captiond_engine.engine import Engine
from captiond_engine.errors import AudioError
from captiond_engine.scheduler import Scheduler

from captiond import wire
from captiond.audio import AudioFile, open_audio
from captiond.config import Config
from captiond.context import make_context
from captiond.hub import Missed
from captiond.mailbox import Mailbox
from captiond.query import View
from captiond.session import Session
from captiond.sessions import Wishes

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
UNBOUNDED = 1_000_000_000  # the reader is in this process: what waits is bounded by the file


async def transcribe(path: Path, config: Config, engine: Engine) -> AsyncGenerator[bytes, None]:
    """The events of ``path`` as JSON; its stream has the file's name.

    Raises AudioError before the first for what is no audio, and after the last where it broke off.
    """
    async with open_audio(path) as audio:
        fault: list[AudioError] = []
        async for message in _events_of(path, audio, config, engine, fault):
            yield message
    if fault:
        raise fault[0]


async def _events_of(
    path: Path, audio: AudioFile, config: Config, engine: Engine, fault: list[AudioError]
) -> AsyncGenerator[bytes, None]:
    scheduler = Scheduler(engine.device, batch_limit=1)
    context = make_context(config, engine, scheduler)
    box = Mailbox(View(words=True), max_facts=UNBOUNDED, max_bytes=UNBOUNDED)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scheduler.run(), name="scheduler")
        name = NOT_IN_A_NAME.sub("-", path.name)[:64]
        session = await context.sessions.open(name, "file", Wishes(partials=False), box)
        context.hub.subscribe(session.name, box, context.hub.hello(), Missed(since=session.first_seq))
        tasks.create_task(_speak(session, audio, box, fault), name="file reading")
        while (message := await box.get()) is not None:
            yield message
        running.cancel()


async def _speak(session: Session, audio: AudioFile, box: Mailbox, fault: list[AudioError]) -> None:
    with session.boundary():
        try:
            async for block in audio.blocks:
                await session.hear(block, box)
        except AudioError as error:  # what was read before is still captioned
            fault.append(error)
    session.end("end")
    await session.closed.wait()
    box.finish(wire.CLOSE_DONE)
