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
from captiond.mailbox import Mailbox, Published
from captiond.query import View

FACTS_PER_FINAL = 8  # started, ended, final and some more: what history keeps around each final

E = TypeVar("E", bound=wire.Event)
EVERY_STREAM = "*"


class Box(Protocol):
    """Where events are put: called in the loop's thread, must neither wait nor raise."""

    def put(self, message: Published) -> None: ...

    def finish(self, code: int, reason: str = "") -> None: ...


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
    _sinks: set[Box] = field(default_factory=set, init=False)
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
        for box in (*feed.boxes, *self._everyone, *self._sinks):
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

    def attach(self, box: Box) -> None:
        """From now on ``box``, a sink's, gets every event of every stream; it counts as no listener."""
        self._sinks.add(box)

    def detach(self, box: Box) -> None:
        self._sinks.discard(box)

    def finish_sinks(self, code: int, reason: str) -> None:
        """Tell every sink that nothing more will come."""
        for box in self._sinks:
            box.finish(code, reason)

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
