"""What of the daemon's events goes to the broker, and where: the sink's box at the hub.

Takes: every published event. Gives: finals to the outbox, everything else that the broker is told to the
states. Never waits. Knows no broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from captiond import wire
from captiond.config import MqttConfig
from captiond.mailbox import Published
from captiond.mqtt.outbox import Outbox
from captiond.mqtt.states import States
from captiond.mqtt.topics import Topics
from captiond.query import View

ON, OFF = b"ON", b"OFF"


class MqttBox:
    """``follow`` gives the streams that the configuration names now; what these show is retained, as their
    number is bounded. It is asked whenever a stream is opened.

    ``epoch_of`` gives the epoch in which a stream's numbers count: by it a reader drops what comes twice.
    """

    def __init__(
        self,
        mqtt: MqttConfig,
        topics: Topics,
        outbox: Outbox,
        states: States,
        *,
        follow: Callable[[], Collection[str]],
        epoch_of: Callable[[str], str],
    ) -> None:
        self.finished = asyncio.Event()
        self._topics = topics
        self._outbox = outbox
        self._states = states
        self._epoch_of = epoch_of
        self._view = View(words=mqtt.words)
        self._partials = mqtt.partials
        self._streams = frozenset(mqtt.streams)
        self._follow = follow
        self._lasting: Collection[str] = ()
        self._speaking: set[str] = set()
        self._behind: dict[str, wire.Lag] = {}
        self._show_lasting()
        self._show_node()

    def put(self, message: Published) -> None:
        stream = str(message.event.stream)
        if not self._wants(stream):
            return
        match message.event:
            case wire.StreamOpened():
                self._show_lasting()
            case wire.Partial(segment=segment) if self._partials:
                self._states.partial(self._topics.of(stream, "partial"), self._payload(message), segment)
            case wire.Final(segment=segment):
                self._states.settle(self._topics.of(stream, "partial"), segment)
                self._outbox.put(self._topics.of(stream, "final"), self._payload(message))
            case wire.Suppressed(segment=segment):
                self._states.settle(self._topics.of(stream, "partial"), segment)
            case wire.SpeechStarted():
                self._speech(stream, on=True)
            case wire.SpeechEnded():
                self._speech(stream, on=False)
            case wire.Lag() as lag:
                self._lag(stream, lag if lag.level != "ok" else None)
            case wire.StreamClosed():
                self._close(stream)

    def finish(self, code: int, reason: str = "") -> None:
        self._outbox.finish()
        self._states.finish()
        self.finished.set()

    def _wants(self, stream: str) -> bool:
        return not self._streams or stream in self._streams

    def _payload(self, message: Published) -> bytes:
        """The event as on every other wire, and its stream's epoch, which elsewhere a hello has told."""
        epoch = self._epoch_of(str(message.event.stream))
        return message.encoded(self._view)[:-1] + b',"epoch":"%s"}' % epoch.encode()

    def _speech(self, stream: str, *, on: bool) -> None:
        (self._speaking.add if on else self._speaking.discard)(stream)
        self._states.show(
            self._topics.of(stream, "speech"), ON if on else OFF, retain=stream in self._lasting
        )
        self._show_node()

    def _lag(self, stream: str, lag: wire.Lag | None) -> None:
        self._behind.pop(stream, None)
        if lag is not None:
            self._behind[stream] = lag
        self._show_node()

    def _close(self, stream: str) -> None:
        self._states.settle(self._topics.of(stream, "partial"))
        if stream in self._speaking:
            self._speech(stream, on=False)
        if stream not in self._lasting:
            self._states.forget(self._topics.of(stream, "speech"))
        self._lag(stream, None)

    def _show_lasting(self) -> None:
        new = set(self._follow()).difference(self._lasting)
        self._lasting = {*self._lasting, *new}
        for name in sorted(new):
            self._states.show(self._topics.of(name, "speech"), OFF, retain=True)

    def _show_node(self) -> None:
        in_time = wire.Lag(behind_ms=0, level="ok")
        lag = max(self._behind.values(), key=lambda lag: lag.behind_ms, default=in_time)
        self._states.show(self._topics.speech, ON if self._speaking else OFF, retain=True)
        self._states.show(self._topics.lag, wire.encode(lag), retain=True)
