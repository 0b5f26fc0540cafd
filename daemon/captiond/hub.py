"""Fan-out: numbers every stream's events, remembers the facts, and fills the boxes of those who listen.

Takes: events of sessions. Gives: numbered events into mailboxes, and to a late subscriber what it
missed. All calls come from the loop's thread and never wait: a slow reader costs nobody else. Knows no
socket and no engine.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from msgspec.structs import replace

from captiond import wire
from captiond.config import HistoryConfig, LimitsConfig
from captiond.mailbox import Mailbox, Published
from captiond.query import View

HELD_FACTS = 4_096  # while a sink is started anew, which takes limits.drain_ms at most
FACTS_PER_FINAL = 8  # started, ended, final and some more: what history keeps around each final

E = TypeVar("E", bound=wire.Event)
EVERY_STREAM = "*"


class Box(Protocol):
    """Where events are put: called in the loop's thread, must neither wait nor raise."""

    def put(self, message: Published) -> None: ...

    def finish(self, code: int, reason: str = "") -> None: ...


class Held:
    """What comes while a sink has no box: the newest ``HELD_FACTS`` facts, for the one it attaches next."""

    def __init__(self) -> None:
        self._facts: deque[Published] = deque(maxlen=HELD_FACTS)
        self._end: tuple[int, str] | None = None

    def put(self, message: Published) -> None:
        if not isinstance(message.event, wire.Partial):
            self._facts.append(message)

    def finish(self, code: int, reason: str = "") -> None:
        self._end = (code, reason)

    def hand_to(self, box: Box) -> None:
        for message in self._facts:
            box.put(message)
        if self._end:
            box.finish(*self._end)


class Feed:
    """The numbered events of one stream name. Numbers go on when the name is opened again."""

    def __init__(self, name: str, *, max_finals: int) -> None:
        self.name = name
        self.epoch = secrets.token_hex(4)
        self.seq = 0
        self.last_segment = 0  # the highest segment number told
        self.open = False
        self.partial: Published | None = None
        self.boxes: set[Mailbox] = set()
        self._max_finals = max_finals
        self._finals = 0
        self._facts: deque[tuple[int, Published]] = deque()  # with the hub's own order
        self._forgotten_seq = 0  # the newest fact that history no longer has

    def number(self, event: E) -> E:
        """``event`` with this stream's name and its next number."""
        self.seq += 1
        return replace(event, stream=self.name, seq=self.seq)

    def remember(self, order: int, message: Published) -> None:
        event = message.event
        if isinstance(event, wire.Partial):
            self.partial = message
            return
        if isinstance(event, wire.Final | wire.Suppressed | wire.SpeechStarted | wire.SpeechEnded):
            self.last_segment = max(self.last_segment, event.segment)
        if self._settles(event):
            self.partial = None
        self._facts.append((order, message))
        self._finals += isinstance(event, wire.Final)
        while self._facts and (
            self._finals > self._max_finals or len(self._facts) > (self._max_finals + 1) * FACTS_PER_FINAL
        ):
            _, oldest = self._facts.popleft()
            self._finals -= isinstance(oldest.event, wire.Final)
            self._forgotten_seq = oldest.seq

    def _settles(self, event: wire.Event) -> bool:
        """Whether the partial that stands now is no longer the state of an open segment."""
        if isinstance(event, wire.StreamClosed):
            return True
        shown = self.partial.event if self.partial else None
        if not isinstance(event, wire.Final | wire.Suppressed) or not isinstance(shown, wire.Partial):
            return False
        return shown.segment <= event.segment

    def finals(self) -> list[tuple[int, Published]]:
        return [(order, fact) for order, fact in self._facts if isinstance(fact.event, wire.Final)]

    def since(self, seq: int) -> list[Published] | None:
        """All facts after number ``seq``; None where history does not reach back that far."""
        if not self._forgotten_seq <= seq <= self.seq:
            return None
        return [fact for _, fact in self._facts if fact.seq > seq]


@dataclass(frozen=True, slots=True)
class Missed:
    """What a subscriber asks to be told first."""

    finals: int = 0
    epoch: str | None = None
    since: int | None = None


@dataclass
class Hub:
    """All feeds. ``max_closed`` bounds how many closed names are remembered."""

    server: str
    model: str
    max_finals: int = 1_000
    max_closed: int = 64
    max_facts: int = 64
    max_bytes: int = 1_048_576
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    _feeds: dict[str, Feed] = field(default_factory=dict, init=False)
    _everyone: set[Mailbox] = field(default_factory=set, init=False)
    _sinks: dict[Box, str] = field(default_factory=dict, init=False)  # each with the name of its sink
    _held: dict[str, Held] = field(default_factory=dict, init=False)
    _order: int = field(default=0, init=False)

    def feed(self, name: str) -> Feed:
        """The feed of ``name``, made where it is new."""
        if name not in self._feeds:
            self._feeds[name] = Feed(name, max_finals=self.max_finals)
        return self._feeds[name]

    def open(self, name: str, source: str) -> Feed:
        feed = self.feed(name)
        feed.open = True
        self.publish(feed, wire.StreamOpened(source=source))
        return feed

    def close(self, feed: Feed, reason: str, error: str | None = None) -> None:
        told = wire.StreamClosed(reason=reason)
        self.publish(feed, replace(told, error=error) if error else told)
        feed.open = False
        self._feeds[feed.name] = self._feeds.pop(feed.name)  # the most recently closed comes last
        self._forget()

    def publish(self, feed: Feed, event: wire.Event) -> None:
        """Number ``event`` and put it into every box that listens to ``feed``."""
        message = Published(feed.number(event))
        self._order += 1
        feed.remember(self._order, message)
        for box in (*feed.boxes, *self._everyone, *self._sinks, *self._held.values()):
            box.put(message)

    def tell(self, feed: Feed, box: Mailbox, event: wire.Event) -> None:
        """Number ``event`` and put it into one box only; the others see a number skipped."""
        box.put(Published(feed.number(event)))

    def subscribe(self, name: str, box: Mailbox, hello: wire.Hello, missed: Missed) -> None:
        """Say hello, tell what was missed and the present state, then everything live."""
        if name == EVERY_STREAM:
            gap = missed.since is not None  # numbers are counted per stream: one of them cannot resume all
            self._everyone.add(box)
            finals = sorted(entry for feed in self._feeds.values() for entry in _keyed(feed))
            past = [fact for _, _, fact in finals[-missed.finals :]] if missed.finals else []
            partials = [feed.partial for feed in self._feeds.values() if feed.partial]
            hello = replace(hello, epoch=self.epoch, seq=0)
        else:
            feed = self.feed(name)
            feed.boxes.add(box)
            known = missed.since is not None and missed.epoch in (None, feed.epoch)
            resumed = feed.since(missed.since or 0) if known else None
            gap = missed.since is not None and resumed is None
            finals_only = [fact for _, fact in feed.finals()][-missed.finals :] if missed.finals else []
            past = finals_only if resumed is None else resumed
            newer = feed.partial is not None and (resumed is None or feed.partial.seq > (missed.since or 0))
            partials = [feed.partial] if feed.partial and newer else []
            seq = feed.seq if resumed is None else missed.since
            hello = replace(hello, epoch=feed.epoch, seq=seq, stream=name)
        if gap:
            hello = replace(hello, gap=True)
        box.begin([Published(hello), *past, *partials])

    def unsubscribe(self, name: str, box: Mailbox) -> None:
        self._everyone.discard(box)
        feed = self._feeds.get(name)
        if feed:
            feed.boxes.discard(box)
            self._forget()

    def attach(self, box: Box, name: str = "") -> None:
        """From now on ``box``, of the sink ``name``, gets every event of every stream; it is no listener.

        What was held for the sink comes first.
        """
        self._sinks[box] = name
        if held := self._held.pop(name, None):
            held.hand_to(box)

    def detach(self, box: Box) -> None:
        self._sinks.pop(box, None)

    def hold(self, name: str) -> None:
        """Finish the boxes of the sink ``name``; what comes now waits for the one that it attaches next."""
        for box in [box for box, owner in self._sinks.items() if owner == name]:
            self.detach(box)
            box.finish(wire.CLOSE_DONE)
        self._held.setdefault(name, Held())

    def release(self, name: str) -> None:
        """The sink ``name`` is gone: nothing is held for it any more."""
        self._held.pop(name, None)

    def finish_sinks(self, code: int, reason: str) -> None:
        """Tell every sink that nothing more will come."""
        for box in (*self._sinks, *self._held.values()):
            box.finish(code, reason)

    def reconfigure(self, history: HistoryConfig, limits: LimitsConfig) -> None:
        """For streams and listeners that come from now on."""
        self.max_finals, self.max_closed = history.finals, history.streams
        self.max_facts, self.max_bytes = limits.queue_facts, limits.queue_bytes

    def hello(self) -> wire.Hello:
        return wire.Hello(server=self.server, model=self.model, epoch=self.epoch, seq=0)

    def mailbox(self, view: View, *, speaks: bool = False) -> Mailbox:
        return Mailbox(view, max_facts=self.max_facts, max_bytes=self.max_bytes, speaks=speaks)

    def listeners(self, feed: Feed) -> int:
        return len(feed.boxes) + len(self._everyone)

    def boxes(self) -> set[Mailbox]:
        """Every box that anybody reads."""
        return self._everyone.union(*(feed.boxes for feed in self._feeds.values()))

    def box_count(self) -> int:
        """How many boxes are read, without naming them."""
        return len(self._everyone) + sum(len(feed.boxes) for feed in self._feeds.values())

    def _forget(self) -> None:
        """Drop names that never spoke and the longest closed ones that nobody listens to."""
        idle = [feed for feed in self._feeds.values() if not feed.open and not feed.boxes]
        spoken = [feed for feed in idle if feed.seq]
        for feed in [feed for feed in idle if not feed.seq] + spoken[: max(0, len(spoken) - self.max_closed)]:
            del self._feeds[feed.name]


def _keyed(feed: Feed) -> list[tuple[int, str, Published]]:
    return [(order, feed.name, fact) for order, fact in feed.finals()]
