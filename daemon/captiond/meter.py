"""Counts what passes by: every event of the hub, every batch of the device, and how each websocket ended.

Takes: published events, jobs and connections, without holding any of them up. Gives: the instruments of
``metrics`` their values, and those that are read from the daemon's state when somebody asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from captiond_engine.errors import DeviceError
from captiond_engine.speech_model import Device
from captiond_engine.types import SAMPLE_RATE_HZ, Decoding, EndReason, Job, SuppressReason
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from websockets.asyncio.server import ServerConnection

from captiond import wire
from captiond.admission import Admission
from captiond.hub import Hub
from captiond.mailbox import Published
from captiond.metrics import Metrics
from captiond.readiness import Readiness
from captiond.session import CloseReason, Session
from captiond.sessions import Sessions
from captiond.sinks.captions import TOO_SLOW

Converse = Callable[[ServerConnection], Awaitable[None]]

# A peer may choose the code with which it closes, so that others than these are not told apart.
CLOSE_CODES = frozenset((1000, 1001, 1003, 1007, 1008, 1009, 1011, 1013))
HEARD_AND_LOST = frozenset(("overrun", "behind", "device"))  # reasons of a loss; other audio never came
OPEN_SEGMENTS = 1_024  # whose first partial is waited for; more are not measured


class EventMeter:
    """A sink's box that counts every event of every stream. It keeps no text."""

    def __init__(self, metrics: Metrics, state: DaemonState) -> None:
        self._metrics = metrics
        self._state = state
        self._started_at: dict[tuple[str, int], float] = {}  # segments without a partial, in loop seconds
        for reason in get_args(CloseReason):
            metrics.streams_closed.labels(reason)
        for end in EndReason:
            metrics.segments_ended.labels(str(end))
        for why in SuppressReason:
            metrics.suppressed.labels(str(why))

    def put(self, message: Published) -> None:
        event, metrics = message.event, self._metrics
        match event:
            case wire.Partial():
                metrics.partials.inc()
                self._time_first(event)
                self._time_pass("partial", event.timings)
            case wire.Final():
                metrics.finals.inc()
                self._forget(event)
                self._time_pass("final", event.timings)
            case wire.Suppressed(reason=reason):
                metrics.suppressed.labels(reason).inc()
                self._forget(event)
            case wire.SpeechStarted():
                if len(self._started_at) < OPEN_SEGMENTS:
                    self._started_at[_key(event)] = asyncio.get_running_loop().time()
            case wire.SpeechEnded(reason=reason):
                metrics.segments_ended.labels(reason).inc()
            case wire.AudioLost(reason=reason, start_ms=start, end_ms=end):
                lost_s = max(0, end - start) / 1000
                metrics.audio_lost.labels(reason).inc(lost_s)
                self._state.gaps_s += 0.0 if reason in HEARD_AND_LOST else lost_s
            case wire.StreamOpened(source=source):
                metrics.streams_opened.labels(source).inc()
            case wire.StreamClosed(reason=reason):
                metrics.streams_closed.labels(reason).inc()
                self._close(str(event.stream))

    def finish(self, code: int, reason: str = "") -> None:
        """Nothing waits in it."""

    def _time_first(self, event: wire.Partial) -> None:
        if event.committed or event.tentative:
            started_at = self._started_at.pop(_key(event), None)
            if started_at is not None:
                self._metrics.first_partial.observe(asyncio.get_running_loop().time() - started_at)

    def _forget(self, event: wire.Final | wire.Suppressed) -> None:
        self._started_at.pop(_key(event), None)

    def _time_pass(self, kind: str, timings: wire.Timings | object) -> None:
        if not isinstance(timings, wire.Timings):
            return
        for instrument, milliseconds in (
            (self._metrics.queue, timings.queued_ms),
            (self._metrics.encode, timings.encode_ms),
            (self._metrics.decode, timings.decode_ms),
        ):
            if milliseconds is not None:
                instrument.labels(kind).observe(milliseconds / 1000)
        if isinstance(timings.endpoint_to_final_ms, int):
            self._metrics.finalization.observe(timings.endpoint_to_final_ms / 1000)

    def _close(self, stream: str) -> None:
        self._state.closed(stream)
        for key in [key for key in self._started_at if key[0] == stream]:
            del self._started_at[key]


def _key(event: wire.Partial | wire.Final | wire.Suppressed | wire.SpeechStarted) -> tuple[str, int]:
    return str(event.stream), event.segment


class DaemonState(Collector):
    """What is read when somebody asks, instead of being counted on the way."""

    def __init__(self, readiness: Readiness, admission: Admission) -> None:
        self._readiness = readiness
        self._admission = admission
        self._hub: Hub | None = None
        self._sessions: Sessions | None = None
        self._sources: set[str] = {"websocket"}
        self._heard_before = 0  # samples of streams that are closed
        self.gaps_s = 0.0  # parts of these timelines that never came

    def watch(self, hub: Hub, sessions: Sessions) -> None:
        """From now on there are streams."""
        self._hub, self._sessions = hub, sessions

    def closed(self, stream: str) -> None:
        """``stream`` is about to go; what it has heard is kept."""
        self._heard_before += sum(s.heard_until for s in self._present() if s.name == stream)

    def _present(self) -> list[Session]:
        return self._sessions.present() if self._sessions else []

    def collect(self) -> Iterator[Metric]:
        present = [session for session in self._present() if not session.closed.is_set()]
        yield _gauge("ready", "1 while /readyz says 200, else 0.", not self._readiness.reasons())
        meaning = (
            "How many parts do not do their work while the daemon serves, such as a broker that is away."
        )
        yield _gauge("degraded_parts", meaning, len(self._readiness.degraded()))
        yield _gauge("connections", "Connections open now, whatever for.", self._admission.count)
        by_source = Counter(session.source for session in present)
        self._sources |= by_source.keys()
        streams = GaugeMetricFamily(
            "captiond_streams", "Streams open now, by kind of source.", labels=["source"]
        )
        for source in sorted(self._sources):
            streams.add_metric([source], by_source[source])
        yield streams
        heard = self._heard_before + sum(session.heard_until for session in present)
        heard_s = max(0.0, heard / SAMPLE_RATE_HZ - self.gaps_s)
        yield CounterMetricFamily(
            "captiond_audio_heard_seconds", "Audio heard, of all streams.", value=heard_s
        )
        behind_ms = max((session.behind_ms for session in present), default=0)
        meaning = "How much heard audio waits for a pass, of the stream that is furthest behind."
        yield _gauge("behind_seconds", meaning, behind_ms / 1000)
        if self._sessions is not None:
            load = self._sessions.load()
            meaning = "Share of the device's time that speakers need; limits.load is its limit."
            yield _gauge("load_ratio", meaning, load.needed)
            meaning = "How many more speakers would fit, by limits.load and limits.max_streams."
            yield _gauge("free_streams", meaning, load.more)
        listeners = self._hub.box_count() if self._hub else 0
        yield _gauge(
            "subscribers", "Listeners, each speaker that hears its own stream among them.", listeners
        )


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"captiond_{name}", meaning, value=value)


class MeteredDevice:
    """A device that counts its batches, its failures and the time that it takes."""

    def __init__(self, device: Device, metrics: Metrics) -> None:
        self._device = device
        self._metrics = metrics

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        """As the device's. Raises DeviceError."""
        with self._timed():
            decodings = await self._device.run(jobs)
        self._metrics.device_batches.inc()
        for job in jobs:
            self._metrics.device_passes.labels(job.kind).inc()
        return decodings

    async def probe(self) -> None:
        """As the device's; no batch. Raises DeviceError."""
        with self._timed():
            await self._device.probe()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        except DeviceError:
            self._metrics.device_failures.inc()
            raise
        finally:
            self._metrics.device_busy.inc(loop.time() - began)


def metered(converse: Converse, metrics: Metrics) -> Converse:
    """``converse`` that counts with which code each websocket ended."""

    async def counted(connection: ServerConnection) -> None:
        try:
            await converse(connection)
        finally:
            sent = connection.protocol.close_sent
            known = sent is not None and sent.code in CLOSE_CODES
            metrics.websockets_closed.labels(str(sent.code) if sent and known else "other").inc()
            if sent and sent.reason == TOO_SLOW and not connection.protocol.close_rcvd_then_sent:
                metrics.slow_readers.inc()

    return counted
