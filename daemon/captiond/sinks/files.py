"""Captions to files: ``[files]``. Finals, and what was lost of the audio, appended as they come.

Takes: every event of the hub, without ever holding it up: writing happens in a thread. Gives: files. A disk
that refuses costs no caption: it is told once, tried again, and ``/readyz`` names it without calling the
daemon unready, as captions are served all the same. Knows neither names nor formats of the files.
"""

from __future__ import annotations

import asyncio
import logging
import time

from captiond_engine.types import ms_from_samples

from captiond.context import Context
from captiond.files.outbox import FactBox, StreamTime
from captiond.files.writer import FileWriter, Outcome
from captiond.health import Health

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
SWEEP_S = 3_600.0  # how long a file that is too old may stay


async def run(context: Context, health: Health) -> None:
    """Write until the hub has nothing more to tell, and then what is left."""
    writer = FileWriter(context.config.files)
    box = FactBox(
        formats=writer.formats,
        streams=context.config.files.streams,
        time_of=lambda name: stream_time(context, name),
        epoch_of=lambda name: context.hub.feed(name).epoch,
        clock=time.time,
    )
    context.hub.attach(box, "files")
    try:
        await FilesSink(writer, box, context, health).run()
    finally:
        context.hub.detach(box)


def stream_time(context: Context, name: str) -> StreamTime | None:
    """Of the open stream ``name``."""
    for session in context.sessions.present():
        if session.name == name:
            return StreamTime(session.opened_at, ms_from_samples(session.heard_until))
    return None


class FilesSink:
    """The task between box and writer: one batch at a time, slower and slower while the disk refuses."""

    def __init__(self, writer: FileWriter, box: FactBox, context: Context, health: Health) -> None:
        self._writer = writer
        self._box = box
        self._lost = context.metrics.files_lost
        self._health = health
        self._trouble = ""
        self._wait_s = FIRST_WAIT_S

    async def run(self) -> None:
        """Until the box is finished and empty, or the disk refuses what is left."""
        try:
            if await self._look() is None:
                self._health.ok()
            while not self._box.finished or len(self._box):
                await self._rest()
                error = await (self._write() if len(self._box) else self._look())
                if error and self._box.finished:
                    break
        finally:
            self._box.give_up()
            self._count()
            if lost := self._box.forget_losses():
                log.error("the daemon stops; %d finals were not written to %s", lost, self._writer.folder)

    async def _rest(self) -> None:
        if self._trouble:
            await self._box.wait(self._wait_s, for_facts=False)
            self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)
        else:
            await self._box.wait(SWEEP_S if self._writer.sweeps else None)

    async def _write(self) -> OSError | None:
        """One batch; what stopped it."""
        facts, alive = self._box.take(), self._box.alive()
        outcome: Outcome = await asyncio.to_thread(self._writer.write, facts, alive)
        self._box.settle(outcome.written)
        self._count()
        return self._tell(outcome.error)

    async def _look(self) -> OSError | None:
        """With nothing to write: whether it could be, and what is too old by now."""
        return self._tell(await asyncio.to_thread(self._writer.prepare))

    def _tell(self, error: OSError | None) -> OSError | None:
        if error is not None:
            self._refused(error)
        elif self._trouble:
            self._works_again()
        return error

    def _count(self) -> None:
        if lines := self._box.newly_lost_lines():
            self._lost.inc(lines)

    def _refused(self, error: OSError) -> None:
        trouble = f"Captions are not written to {self._writer.folder}: {error.strerror or error}."
        if trouble != self._trouble:
            log.error("%s They are shown to listeners all the same; the files are tried again.", trouble)
        self._trouble = trouble
        self._health.degraded(trouble)

    def _works_again(self) -> None:
        lost = self._box.forget_losses()
        log.warning("captions are written to %s again; %d finals were lost", self._writer.folder, lost)
        self._trouble, self._wait_s = "", FIRST_WAIT_S
        self._health.ok()
