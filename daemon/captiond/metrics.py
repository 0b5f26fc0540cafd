"""What ``/metrics`` shows: every instrument that is counted on the way, with name, unit and meaning.

Gives: one registry of this daemon's own, and its text for Prometheus or as OpenMetrics. No label holds a
stranger's text, such as a stream's name, so that the number of series is bounded. What is counted where, the
callers know; what is read only when somebody asks is in ``meter``. Knows no socket and no stream.
"""

from __future__ import annotations

import platform
from functools import cached_property
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from captiond import __version__

# From what nobody notices to what nobody waits for.
SECONDS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
KINDS = ("partial", "final")
REFUSALS = (
    "bad_request",
    "capacity",  # limits.load
    "connections",  # limits.connections, limits.connections_per_address
    "full",  # limits.max_streams, limits.max_subscribers
    "handshake",  # gone, or cut off, before it was a request
    "host",
    "method",
    "not_found",
    "origin",
    "rate",  # limits.accepts_per_s
    "token_missing",
    "token_wrong",
    "unavailable",  # loading or stopping
)


class Metrics:
    """One daemon's instruments. Counting takes about a microsecond and never waits."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, which nobody looks at
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = {"version": __version__, "python": platform.python_version(), "max": version("max")}
        Info("captiond_build", "Versions of what runs.", registry=self.registry).info(build)
        self._model = Info("captiond_model", "The model and where it runs.", registry=self.registry)
        self._make_streams()
        self._make_transcripts()
        self._make_device()
        self._make_door()

    def _make_streams(self) -> None:
        self.streams_opened = self._counter("streams_opened", "Streams opened, by kind of source.", "source")
        self.streams_closed = self._counter("streams_closed", "Streams closed, by reason.", "reason")
        self.audio_lost = self._counter("audio_lost_seconds", "Audio reported as lost, by reason.", "reason")
        self.segments_ended = self._counter(
            "segments_ended", "Segments of speech, by what ended them.", "reason"
        )

    def _make_transcripts(self) -> None:
        self.partials = self._counter("partials", "Partials told: states that may be skipped on the way.")
        self.finals = self._counter("finals", "Finals told.")
        self.suppressed = self._counter(
            "segments_suppressed", "Segments that gave no caption, by reason.", "reason"
        )
        self.first_partial = self._seconds(
            "first_partial", "From speech.started to the first partial with text in it."
        )
        self.finalization = self._seconds(
            "finalization", "From speech.ended to the final; what the silence before it takes is not in it."
        )
        self.queue = self._seconds("queue", "How long a pass was due before the device took it.", "kind")
        self.encode = self._seconds("encode", "One pass through the encoder.", "kind")
        self.decode = self._seconds("decode", "One pass through the decoder.", "kind")
        for kind in KINDS:
            for instrument in (self.queue, self.encode, self.decode):
                instrument.labels(kind)

    def _make_device(self) -> None:
        self.device_batches = self._counter("device_batches", "Calls of the device that gave an answer.")
        self.device_passes = self._counter("device_passes", "Passes in these batches, by kind.", "kind")
        self.device_failures = self._counter("device_failures", "Calls of the device that failed.")
        self.device_busy = self._counter(
            "device_busy_seconds",
            "Time in which the device worked; its rate over that of captiond_audio_heard_seconds_total "
            "is the real-time factor.",
        )

    def _make_door(self) -> None:
        self.refused = self._counter("requests_refused", "Requests and connections refused.", "reason")
        for reason in REFUSALS:
            self.refused.labels(reason)
        self.websockets_closed = self._counter(
            "websockets_closed", "Websockets that ended, by the close code that was sent.", "code"
        )
        self.slow_readers = self._counter(
            "slow_readers", "Clients closed with 1013 because they read too slowly."
        )

    # --- parts that are not always there: no series before the first use ---------------------------------

    @cached_property
    def loop_stall(self) -> Histogram:
        """For the heartbeat: by how much the event loop was late, each time that it looked."""
        return self._seconds("event_loop_stall", "How late the event loop's heartbeat came.")

    @cached_property
    def loop_longest_stall(self) -> Gauge:
        name, text = "captiond_event_loop_longest_stall_seconds", "The longest stall since the start."
        return Gauge(name, text, registry=self.registry)

    @cached_property
    def mqtt_connected(self) -> Gauge:
        return Gauge(
            "captiond_mqtt_connected", "1 while the broker can be reached, else 0.", registry=self.registry
        )

    @cached_property
    def mqtt_outbox(self) -> Gauge:
        name, text = "captiond_mqtt_outbox_messages", "Messages that wait for the broker."
        return Gauge(name, text, registry=self.registry)

    @cached_property
    def mqtt_lost(self) -> Counter:
        return self._counter("mqtt_finals_lost", "Finals that gave way in a full outbox.")

    @cached_property
    def files_lost(self) -> Counter:
        return self._counter("files_lines_lost", "Lines that could not be written to files.")

    def stalled(self, late_s: float) -> None:
        """The heartbeat came ``late_s`` too late."""
        self.loop_stall.observe(late_s)
        self._longest_s = max(self._longest_s, late_s)
        self.loop_longest_stall.set(self._longest_s)

    _longest_s = 0.0

    # --- what it gives ----------------------------------------------------------------------------------

    def model(self, info: dict[str, str]) -> None:
        """The model that runs, once it does."""
        self._model.info(info)

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text, as OpenMetrics for those whose ``Accept`` header names it."""
        if "application/openmetrics-text" in accept.lower():
            return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"captiond_{name}", meaning, labels, registry=self.registry)

    def _seconds(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"captiond_{name}_seconds", meaning, labels, buckets=SECONDS, registry=self.registry)
