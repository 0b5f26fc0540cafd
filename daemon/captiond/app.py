"""The daemon as a whole: bind, load the model, serve, obey a reload, and stop in order.

Takes: a configuration and a way to load an engine. Gives: one port that answers from the first moment
(``/readyz`` says what is missing) until every final is out. Knows every part and no part's inside.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress

from captiond_engine.engine import Engine
from captiond_engine.errors import CaptiondError, ConfigError, DeviceError
from captiond_engine.progress import Progress
from captiond_engine.scheduler import Scheduler
from websockets.asyncio.server import ServerConnection

from captiond import __version__
from captiond.access import Access
from captiond.admission import Admission
from captiond.config import Config, LogConfig
from captiond.context import Context, counted, make_context
from captiond.http import Front
from captiond.listener import listen, load_pair, page_address, tls_context
from captiond.loading import CLOSING, LOADING, StartNews, batch_limit, in_thread
from captiond.meter import DaemonState, EventMeter, MeteredDevice, metered
from captiond.metrics import Metrics
from captiond.parts import Parts
from captiond.readiness import Readiness
from captiond.reload import Change, check_sinks, prepare
from captiond.routes import Conversations
from captiond.sinks import ROUTES as SINK_ROUTES
from captiond.sources import ROUTES as SOURCE_ROUTES
from captiond.systemd import Notifier
from captiond.vitals import Vitals
from captiond.wire import CLOSE_SHUTDOWN

log = logging.getLogger(__name__)

Loader = Callable[[Progress], Engine]

ROUTES = SOURCE_ROUTES | SINK_ROUTES
FAILURES_IN_A_ROW = 3  # of the device, before the daemon calls itself not ready
GOODBYE_S = 1.5  # for the last messages and close frames, once every final is out
LEAVE_S = 0.25  # for the device, and for the last sockets, even where that time is over


class App:
    """One daemon. ``on_bound`` is told the address once the port answers, ``progress`` how loading goes.

    ``reread`` gives the configuration anew when a reload is asked for (ConfigError: the old one stays), and
    ``set_log`` is given the [log] table that holds then.
    """

    def __init__(
        self,
        config: Config,
        load: Loader,
        *,
        on_bound: Callable[[str], None] = lambda address: None,
        progress: Progress = lambda event: None,
        on_ready: Callable[[], None] = lambda: None,
        reread: Callable[[], Config] | None = None,
        set_log: Callable[[LogConfig], None] = lambda log: None,
        notifier: Notifier | None = None,
    ) -> None:
        self.readiness = Readiness()
        self.metrics = Metrics()
        self.admission = Admission(config.limits)
        self._state = DaemonState(self.readiness, self.admission)
        self.metrics.registry.register(self._state)
        self._config = config
        self._load = load
        self._on_bound = on_bound
        self._progress = progress
        self._on_ready = on_ready
        self._reread = reread or (lambda: self._config)
        self._set_log = set_log
        self._notifier = notifier or Notifier()
        access = Access(config.server)
        self._front = Front(access, self.admission, self.readiness, ROUTES, __version__, self.metrics)
        self._conversations = Conversations()
        self._tls: ssl.SSLContext | None = tls_context(config.server)
        self._parts: Parts | None = None
        self._reload_asked = asyncio.Event()
        self._ready = False
        check_sinks(config)

    @property
    def context(self) -> Context | None:
        """Hub and sessions; None while the model is loading."""
        return self._front.context

    def reload(self) -> None:
        """Read the configuration anew and follow it, soon; from the loop's thread."""
        self._reload_asked.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``, then end every stream with its finals. Raises CaptiondError."""
        self.readiness.block("model", f"The model {self._config.model.name} is being loaded.")
        server = await listen(self._config, self._front, metered(self._converse, self.metrics), self._tls)
        loop = asyncio.get_running_loop()
        leave_at = 0.0
        try:
            self._on_bound(page_address(self._config.server, server.port))
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve(), name="serving")
                reloading = tasks.create_task(self._obey_reloads(), name="reloading")
                await stop.wait()
                self.readiness.stop()
                self._notifier.stopping()
                reloading.cancel()
                leave_at = loop.time() + self._config.limits.drain_ms / 1000 + GOODBYE_S
                if self._front.context is not None:
                    await self._drain(self._front.context, leave_at)
                serving.cancel()
        except* CaptiondError as group:
            raise first(group) from None
        finally:
            server.close(code=CLOSE_SHUTDOWN, reason="the daemon is stopping")
            with suppress(TimeoutError):
                async with asyncio.timeout(max(leave_at - loop.time(), LEAVE_S)):
                    await server.wait_closed()

    async def _serve(self) -> None:
        """Load the model, then run the device and the configured sources and sinks."""
        news = StartNews(self.readiness, self._notifier, self._progress)
        engine = await in_thread(lambda: self._load(news), name=LOADING)
        try:
            scheduler = Scheduler(
                MeteredDevice(engine.device, self.metrics),
                batch_limit=batch_limit(self._config.model, engine),
                on_error=lambda error: self._tell_failure(error, scheduler.failures),
                on_recovery=lambda: self.readiness.clear("device"),
            )
            await scheduler.probe()  # the way that every job will go
            context = make_context(self._config, engine, scheduler, self.metrics)
            self._state.watch(context.hub, context.sessions)
            context.hub.attach(EventMeter(self.metrics, self._state))
            self.metrics.model(engine.info)
            vitals = Vitals(scheduler, self.readiness, self.metrics, self._notifier, self._sentence)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scheduler.run(), name="scheduler")
                tasks.create_task(vitals.keep_asking(), name="device probe")
                self._parts = Parts(context, self.readiness, tasks)
                self._parts.start()
                self._front.context = context
                self.readiness.clear("model")
                await self._parts.first_words()
                self._tell_ready(engine)
                tasks.create_task(vitals.beat(), name="heartbeat")
        finally:
            with suppress(TimeoutError):  # a device that hangs: the process ends without it
                async with asyncio.timeout(LEAVE_S):
                    await in_thread(engine.close, name=CLOSING)

    def _tell_ready(self, engine: Engine) -> None:
        self._ready = True
        self._notifier.ready()
        self._on_ready()
        log.info("ready: model %s on %s", engine.traits.name, engine.info.get("device", "this machine"))

    def _sentence(self) -> str:
        context = self._front.context
        what = context.summary() if context else "starting"
        return "; ".join([what, *self.readiness.reasons(), *self.readiness.degraded()])

    def _tell_failure(self, error: DeviceError, failures: int) -> None:
        log.error("%s", error, extra={"code": error.code})
        if failures >= FAILURES_IN_A_ROW:
            self.readiness.block("device", f"The device has failed {failures} times in a row: {error}")

    # --- reload -----------------------------------------------------------------------------------------

    async def _obey_reloads(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            if self._ready:
                self._notifier.reloading()
            await self._reload()
            if self._ready:
                self._notifier.status(self._sentence())
                self._notifier.ready()

    async def _reload(self) -> None:
        """Follow the configuration as it is now: all of it, or nothing where it cannot be used."""
        try:
            wanted = await asyncio.to_thread(self._reread)
            change = prepare(self._config, wanted)
            if self._tls:
                load_pair(self._tls, change.config.server)
        except ConfigError as error:
            log.error("the configuration is not followed, the one before holds: %s", error)
            self.readiness.degrade("configuration", f"The configuration is not followed: {error}")
            return
        self.readiness.clear("configuration")
        for key in change.waiting:
            log.warning("the configuration has changed %s, which needs a restart", key)
        await self._follow(change)
        log.info("the configuration was read again and holds")

    async def _follow(self, change: Change) -> None:
        before, self._config = self._config, change.config
        self._front.access = change.access
        self.admission.limits = change.config.limits
        if before.log != change.config.log:
            self._set_log(change.config.log)
        if self._front.context and self._parts:
            self._front.context.reconfigure(change.config)
            await self._parts.follow(before)

    # --- stop -------------------------------------------------------------------------------------------

    async def _converse(self, connection: ServerConnection) -> None:
        path = (connection.request.path if connection.request else "").partition("?")[0]
        if self._front.context is not None:
            with self._conversations.one_more():
                await ROUTES[path](connection, self._front.context)

    async def _drain(self, context: Context, leave_at: float) -> None:
        """Every stream's finals first, then every box's last message, then close code 1001."""
        finishing = f"stopping: finishing {counted(len(context.sessions.present()), 'stream')}"
        log.info("%s", finishing)
        self._notifier.status(finishing)
        try:
            async with asyncio.timeout_at(leave_at - GOODBYE_S):
                await context.sessions.drain("shutdown")
        except TimeoutError:
            log.warning("some streams had no final in time")
            for session in context.sessions.present():
                session.abandon()
        for box in context.hub.boxes():
            box.finish(CLOSE_SHUTDOWN, "the daemon is stopping")
        if self._parts:
            await self._parts.finish_sinks(CLOSE_SHUTDOWN, "the daemon is stopping", until=leave_at)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(leave_at):
                await self._conversations.nobody.wait()


def first(group: BaseExceptionGroup[CaptiondError]) -> CaptiondError:
    """One error of a group, however deep: people are told one thing at a time."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner if isinstance(inner, CaptiondError) else CaptiondError(str(inner))
