"""What waits to be sent to one client: one partial a stream, and a bounded number of facts.

Takes: published events, from the loop's own thread, never waiting. Gives: encoded messages, in order,
to the one task that writes them. A newer partial replaces the older. When facts no longer fit, the
reader is too slow: the box empties itself and says so. Knows no socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from msgspec import UNSET
from msgspec.structs import replace

from captiond import wire
from captiond.query import View


class SlowReaderError(Exception):
    """The client reads more slowly than facts come."""


class Published:
    """A numbered event, encoded at most once for each combination of ``words`` and ``timings``."""

    __slots__ = ("_encoded", "event")

    def __init__(self, event: wire.Event) -> None:
        self.event = event
        self._encoded: dict[tuple[bool, bool], bytes] = {}

    @property
    def seq(self) -> int:
        return int(self.event.seq or 0)

    def encoded(self, view: View) -> bytes:
        key = (view.words, view.timings)
        if key not in self._encoded:
            self._encoded[key] = wire.encode(self._shown(view))
        return self._encoded[key]

    def _shown(self, view: View) -> wire.Event:
        event = self.event
        if not isinstance(event, wire.Partial | wire.Final):
            return event
        if not view.timings:
            event = replace(event, timings=UNSET)
        if isinstance(event, wire.Final) and not view.words:
            event = replace(event, words=UNSET)
        return event


class Mailbox:
    """One client's box. What it is told first is bounded by whoever asked for it.

    ``speaks``: the client is the speaker, so answers to what it said are for it.
    """

    def __init__(self, view: View, *, max_facts: int, max_bytes: int, speaks: bool = False) -> None:
        self.view = view
        self.told_seq = 0  # of the last message that was taken out
        self._speaks = speaks
        self._max_facts = max_facts
        self._max_bytes = max_bytes
        self._backlog: deque[Published] = deque()
        self._waiting: dict[tuple[str, int], Published] = {}  # in the order of seq
        self._facts = 0
        self._bytes = 0
        self._count = 0
        self._overflowed = False
        self._close: tuple[int, str] | None = None
        self._news = asyncio.Event()

    def begin(self, messages: Iterable[Published]) -> None:
        """What the client is told before anything live."""
        self._backlog.extend(message for message in messages if self.wants(message.event))
        self._news.set()

    def wants(self, event: wire.Event) -> bool:
        return self.view.events in event.reach and (self._speaks or not event.answer)

    def put(self, message: Published) -> None:
        """Keep ``message`` for the client; refused silently once the box is finished or has overflowed."""
        if self._overflowed or self._close is not None or not self.wants(message.event):
            return
        event = message.event
        partial_key = ("partial " + str(event.stream), 0)
        replaced = isinstance(event, wire.Partial | wire.Final | wire.StreamClosed)
        if replaced and partial_key in self._waiting:
            self._drop(partial_key)  # a final settles what it showed; the next partial heals the rest
        if isinstance(event, wire.Partial):
            self._keep(partial_key, message)
        else:
            self._count += 1
            self._facts += 1
            self._keep(("fact", self._count), message)
        if self._facts > self._max_facts or self._bytes > self._max_bytes:
            self._overflowed = True
            self._waiting.clear()
            self._backlog.clear()
            self._facts = self._bytes = 0
        self._news.set()

    def finish(self, code: int, reason: str = "") -> None:
        """After what is in the box, nothing more; the connection is to be closed with ``code``."""
        if self._close is None:
            self._close = (code, reason)
        self._news.set()

    async def get(self) -> bytes | None:
        """The next message; None when the box is finished and empty. Raises SlowReaderError."""
        while True:
            if self._overflowed:
                raise SlowReaderError
            if self._backlog:
                return self._take(self._backlog.popleft())
            if self._waiting:
                key = next(iter(self._waiting))
                self._facts -= key[0] == "fact"
                return self._take(self._drop(key))
            if self._close is not None:
                return None
            self._news.clear()
            await self._news.wait()

    @property
    def close_code(self) -> tuple[int, str]:
        """With what to close once ``get`` gave None."""
        return self._close or (wire.CLOSE_DONE, "")

    def __len__(self) -> int:
        return len(self._backlog) + len(self._waiting)

    def _keep(self, key: tuple[str, int], message: Published) -> None:
        self._waiting[key] = message
        self._bytes += len(message.encoded(self.view))

    def _drop(self, key: tuple[str, int]) -> Published:
        message = self._waiting.pop(key)
        self._bytes -= len(message.encoded(self.view))
        return message

    def _take(self, message: Published) -> bytes:
        self.told_seq = message.seq
        return message.encoded(self.view)
