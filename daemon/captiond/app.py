"""The daemon as a whole: bind, load the model, serve, and stop in order.

Takes: a configuration and a way to load an engine. Gives: one port that answers from the first moment
(``/readyz`` says what is missing) until every final is out. Knows every part and no part's inside.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from captiond_engine.engine import Engine
from captiond_engine.errors import CaptiondError, DeviceError
from captiond_engine.progress import Progress, ProgressEvent
from captiond_engine.scheduler import Scheduler
from websockets.asyncio.server import ServerConnection

from captiond import __version__
from captiond.access import Access
from captiond.config import Config, SourceConfig
from captiond.context import Context
from captiond.health import Health
from captiond.http import Front
from captiond.hub import Hub
from captiond.listener import listen, page_address, tls_context
from captiond.messages import ClientError
from captiond.progress import describe
from captiond.readiness import Readiness
from captiond.sessions import Sessions
from captiond.sinks import ROUTES as SINK_ROUTES
from captiond.sinks import SINKS, Run
from captiond.sources import KINDS
from captiond.sources import ROUTES as SOURCE_ROUTES
from captiond.wire import CLOSE_SHUTDOWN

log = logging.getLogger(__name__)

T = TypeVar("T")
LOADING = "loading the model"  # the thread's name
Loader = Callable[[Progress], Engine]

ROUTES = SOURCE_ROUTES | SINK_ROUTES
FAILURES_IN_A_ROW = 3  # of the device, before the daemon calls itself not ready
GOODBYE_S = 2.0  # for the last messages and close frames, once every final is out


class App:
    """One daemon. ``on_bound`` is told the address once the port answers, ``progress`` how loading goes."""

    def __init__(
        self,
        config: Config,
        load: Loader,
        *,
        on_bound: Callable[[str], None] = lambda address: None,
        progress: Progress = lambda event: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.readiness = Readiness()
        self._config = config
        self._load = load
        self._on_bound = on_bound
        self._progress = progress
        self._on_ready = on_ready
        self._front = Front(Access(config.server), self.readiness, ROUTES, __version__)
        self._talking = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._tls = tls_context(config.server)
        self._sinks: list[asyncio.Task[None]] = []

    @property
    def context(self) -> Context | None:
        """Hub and sessions; None while the model is loading."""
        return self._front.context

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``, then end every stream with its finals. Raises CaptiondError."""
        self.readiness.block("model", f"The model {self._config.model.name} is being loaded.")
        server = await listen(self._config, self._front, self._converse, self._tls)
        try:
            self._on_bound(page_address(self._config.server, server))
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve(), name="serving")
                await stop.wait()
                self.readiness.stop()
                if self._front.context is not None:
                    await self._drain(self._front.context)
                serving.cancel()
        except* CaptiondError as group:
            raise first(group) from None
        finally:
            server.close(code=CLOSE_SHUTDOWN, reason="the daemon is stopping")
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await server.wait_closed()

    async def _serve(self) -> None:
        """Load the model, then run the device and the configured sources."""
        engine = await in_thread(self._loaded, name=LOADING)
        try:
            scheduler = Scheduler(
                engine.device,
                batch_limit=self._config.model.batch,
                on_error=lambda error: self._tell_failure(error, scheduler.failures),
                on_recovery=lambda: self.readiness.clear("device"),
            )
            context = make_context(self._config, engine, scheduler)
            for source in self._config.source:
                self.readiness.block(f"source {source.name}", f"Source {source.name} is starting.")
            self._front.context = context
            self.readiness.clear("model")
            self._on_ready()
            log.info("ready: model %s on %s", engine.traits.name, engine.info.get("device", "this machine"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scheduler.run(), name="scheduler")
                for source in self._config.source:
                    tasks.create_task(self._play(source, context), name=f"source {source.name}")
                for name, (wanted, run) in SINKS.items():
                    if wanted(self._config):
                        sink = tasks.create_task(self._sink(name, run, context), name=f"sink {name}")
                        self._sinks.append(sink)
        finally:
            engine.close()

    def _loaded(self) -> Engine:
        def tell(event: ProgressEvent) -> None:
            self.readiness.block("model", describe(event))
            self._progress(event)

        return self._load(tell)

    def _tell_failure(self, error: DeviceError, failures: int) -> None:
        log.error("%s", error)
        if failures >= FAILURES_IN_A_ROW:
            self.readiness.block("device", f"The device has failed {failures} times in a row: {error}")

    async def _play(self, source: SourceConfig, context: Context) -> None:
        """Run one source. What is wrong with it is told, and the others go on."""
        health = Health(self.readiness, f"source {source.name}")
        try:
            await KINDS[str(source.__struct_config__.tag)](source, context, health)
        except (CaptiondError, ClientError) as error:
            log.error("source %s does not run: %s", source.name, error)
            health.trouble(f"Source {source.name} does not run: {error}")

    async def _sink(self, name: str, run: Run, context: Context) -> None:
        """Run one sink until it is finished. What is wrong with it is told, and captions go on."""
        health = Health(self.readiness, f"sink {name}")
        try:
            await run(context, health)
        except CaptiondError as error:
            log.error("%s does not run: %s", name, error)
            health.trouble(f"{name} does not run: {error}")

    async def _converse(self, connection: ServerConnection) -> None:
        path = (connection.request.path if connection.request else "").partition("?")[0]
        if self._front.context is None:
            return
        self._talking += 1
        self._nobody.clear()
        try:
            await ROUTES[path](connection, self._front.context)
        finally:
            self._talking -= 1
            if not self._talking:
                self._nobody.set()

    async def _drain(self, context: Context) -> None:
        """Every stream's finals first, then every box's last message, then close code 1001."""
        log.info("stopping: finishing %d streams", len(context.sessions.present()))
        try:
            async with asyncio.timeout(self._config.limits.drain_ms / 1000):
                await context.sessions.drain("shutdown")
        except TimeoutError:
            log.warning("some streams had no final in time")
        for box in context.hub.boxes():
            box.finish(CLOSE_SHUTDOWN, "the daemon is stopping")
        context.hub.finish_sinks(CLOSE_SHUTDOWN, "the daemon is stopping")
        if self._sinks:
            await asyncio.wait(self._sinks, timeout=GOODBYE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._nobody.wait()


def load_engine(config: Config, progress: Progress) -> Engine:
    """The engine that ``config`` asks for; blocking. A model that is not here is downloaded."""
    model = config.model
    engine = Engine.load(model.name, device=model.device, precision=model.precision, progress=progress)
    return engine.with_windows(
        None if model.window_partial == "auto" else model.window_partial,
        None if model.window_final == "auto" else model.window_final,
    )


def make_context(config: Config, engine: Engine, scheduler: Scheduler) -> Context:
    """Hub and sessions over ``engine``, as the edges see them."""
    hub = Hub(
        server=f"captiond/{__version__}",
        model=engine.traits.name,
        max_finals=config.history.finals,
        max_closed=config.history.streams,
        max_facts=config.limits.queue_facts,
        max_bytes=config.limits.queue_bytes,
    )
    return Context(config, hub, Sessions(config, engine, scheduler, hub))


async def in_thread(work: Callable[[], T], name: str) -> T:
    """``work()`` in a thread that a stopping process does not wait for; compiling cannot be interrupted."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # None only where T is

    def run() -> None:
        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # carried to the task that waits, whatever it is
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer


def first(group: BaseExceptionGroup[CaptiondError]) -> CaptiondError:
    """One error of a group, however deep: people are told one thing at a time."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner if isinstance(inner, CaptiondError) else CaptiondError(str(inner))
