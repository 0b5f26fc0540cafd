"""The configured sources and sinks as tasks: started, restarted and ended as the configuration says.

Takes: the context, whose configuration may be replaced while they run, and a task group. Gives: what each of
them has to say of itself to readiness. No final is lost when a sink is restarted: what comes in between waits
at the hub. Knows no source and no sink.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from captiond_engine.errors import CaptiondError

from captiond.config import Config, SourceConfig
from captiond.context import Context
from captiond.health import Health
from captiond.messages import ClientError
from captiond.readiness import Readiness
from captiond.reload import fingerprint
from captiond.sinks import SINKS
from captiond.sources import KINDS

log = logging.getLogger(__name__)

FIRST_WORD_S = (
    5.0  # for a source or sink to say how it is; who is silent for longer does not hold up the rest
)


class Word(Health):
    """A part's health that knows whether the part has said anything yet."""

    def __init__(self, readiness: Readiness, name: str) -> None:
        super().__init__(readiness, name)
        self.said = asyncio.Event()

    def ok(self) -> None:
        super().ok()
        self.said.set()

    def degraded(self, reason: str) -> None:
        super().degraded(reason)
        self.said.set()

    def trouble(self, reason: str) -> None:
        super().trouble(reason)
        self.said.set()


@dataclass(slots=True)
class _Part:
    """One that was started with what ``fingerprint`` saw. ``limit``: when a sink's run must be over."""

    word: Word
    fingerprint: tuple[object, ...]
    task: asyncio.Task[None] | None = None
    limit: asyncio.Timeout | None = None
    again: bool = False  # to be run anew once it has finished
    failed: bool = False


class Parts:
    """All sources and sinks of one daemon."""

    def __init__(self, context: Context, readiness: Readiness, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._readiness = readiness
        self._tasks = tasks
        self._sources: dict[str, _Part] = {}
        self._sinks: dict[str, _Part] = {}

    def start(self) -> None:
        """Start all that the configuration names: sinks first, so that they miss nothing."""
        for name in SINKS:
            if self._is_wanted(name):
                self._start_sink(name)
        for source in self._context.config.source:
            self._start_source(source)

    async def first_words(self) -> None:
        """Until each has said how it is, or the time for that is over."""
        until = asyncio.get_running_loop().time() + FIRST_WORD_S
        for part in (*self._sources.values(), *self._sinks.values()):
            await _first_word(part, until)

    async def follow(self, before: Config) -> None:
        """Change what the context's configuration has changed since ``before``, and start what had failed."""
        async with asyncio.TaskGroup() as changes:
            for name in SINKS:
                changes.create_task(self._change_sink(name), name=f"reload sink {name}")
            wanted = {source.name: source for source in self._context.config.source}
            for name in dict.fromkeys((*(source.name for source in before.source), *wanted)):
                changes.create_task(self._change_source(name, wanted.get(name)), name=f"reload source {name}")

    async def finish_sinks(self, code: int, reason: str, until: float) -> None:
        """Nothing more comes: sinks deliver what they can ``until`` this, the loop's time."""
        self._context.hub.finish_sinks(code, reason)
        running = [part.task for part in self._sinks.values() if part.task]
        if running:
            await asyncio.wait(running, timeout=max(0.0, until - asyncio.get_running_loop().time()))

    # --- sinks ------------------------------------------------------------------------------------------

    def _is_wanted(self, name: str) -> bool:
        wanted, _ = SINKS[name]
        return wanted(self._context.config)

    def _table(self, name: str) -> tuple[object, ...]:
        return fingerprint(getattr(self._context.config, name))

    def _start_sink(self, name: str) -> None:
        part = self._sinks[name] = _Part(Word(self._readiness, f"sink {name}"), self._table(name))
        self._context.hub.hold(name)
        part.task = self._tasks.create_task(self._keep_sink(name, part), name=f"sink {name}")

    async def _keep_sink(self, name: str, part: _Part) -> None:
        """Run one sink until it is finished, and anew where that was asked for."""
        part.again = True
        while part.again:
            part.again = False
            await self._run_sink(name, part)
        self._context.hub.release(name)

    async def _run_sink(self, name: str, part: _Part) -> None:
        """Run it once. What is wrong with it is told, and captions go on."""
        _, run = SINKS[name]
        part.failed = False
        try:
            async with asyncio.timeout(None) as part.limit:
                await run(self._context, part.word)
        except CaptiondError as error:
            log.error("%s does not run: %s", name, error, extra={"sink": name, "code": error.code})
            part.word.trouble(f"{name} does not run: {error}")
            part.failed = True
        except TimeoutError:
            if part.limit is None or not part.limit.expired():
                raise
            log.warning("%s could not deliver everything in time", name, extra={"sink": name})
        finally:
            part.limit = None

    async def _change_sink(self, name: str) -> None:
        """Start, restart or end one sink where its table has changed; start it again where it had failed."""
        part, wanted, until = self._sinks.get(name), self._is_wanted(name), self._drained_at()
        if part is None or part.task is None or part.task.done():
            self._sinks.pop(name, None)
            self._readiness.clear(f"sink {name}")
            if wanted:
                self._start_sink(name)
                await _first_word(self._sinks[name], until)
            return
        if wanted and part.fingerprint == self._table(name):
            return
        log.info("%s is %s", name, "started anew" if wanted else "ended", extra={"sink": name})
        part.fingerprint, part.again = self._table(name), wanted
        part.word.said.clear()
        self._context.hub.hold(name)
        if part.limit is not None:
            part.limit.reschedule(until)
        if wanted:
            await _first_word(part, until + FIRST_WORD_S)
        else:
            await asyncio.wait([part.task])
            del self._sinks[name]
            self._readiness.clear(f"sink {name}")

    # --- sources ----------------------------------------------------------------------------------------

    def _start_source(self, source: SourceConfig) -> None:
        word = Word(self._readiness, f"source {source.name}")
        self._readiness.block(word.name, f"Source {source.name} is starting.")
        part = self._sources[source.name] = _Part(word, fingerprint(source))
        part.task = self._tasks.create_task(self._play(source, part), name=word.name)

    async def _play(self, source: SourceConfig, part: _Part) -> None:
        """Run one source. What is wrong with it is told, and the others go on."""
        try:
            await KINDS[str(source.__struct_config__.tag)](source, self._context, part.word)
        except (CaptiondError, ClientError) as error:
            told = {"stream": source.name, "code": error.code}
            log.error("source %s does not run: %s", source.name, error, extra=told)
            part.word.trouble(f"Source {source.name} does not run: {error}")
            part.failed = True

    async def _change_source(self, name: str, wanted: SourceConfig | None) -> None:
        """Start, restart or end one source, with its last finals; start it again where it had failed."""
        part = self._sources.get(name)
        if part and wanted and part.fingerprint == fingerprint(wanted) and not part.failed:
            return
        if part:
            await self._end_source(name, part)
        if wanted:
            self._start_source(wanted)
            await _first_word(self._sources[name], asyncio.get_running_loop().time() + FIRST_WORD_S)

    async def _end_source(self, name: str, part: _Part) -> None:
        own = [s for s in self._context.sessions.present() if s.name == name and s.source in KINDS]
        for session in own:
            session.end("end")  # a source that speaks no more need not be there for its last final
        if part.task is not None:
            part.task.cancel()
            await asyncio.wait([part.task])
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._drained_at()):
                for session in own:
                    await session.closed.wait()
        del self._sources[name]
        self._readiness.clear(part.word.name)

    def _drained_at(self) -> float:
        """When what begins to finish now must have finished."""
        return asyncio.get_running_loop().time() + self._context.config.limits.drain_ms / 1000


async def _first_word(part: _Part, until: float) -> None:
    """Until ``part`` has said how it is, or its time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await part.word.said.wait()
