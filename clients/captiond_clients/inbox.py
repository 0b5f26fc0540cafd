"""Events that wait for their reader: in order, bounded, partial states replaced by newer ones.

When full, whoever puts waits, so that reading from the daemon stops. Knows no socket.
"""

from __future__ import annotations

import asyncio
from collections import deque

from captiond_clients.errors import ClientError
from captiond_clients.events import Event, Partial

LIMIT_EVENTS = 1024


class Inbox:
    """One writer, one reader."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._finished = False
        self._failure: ClientError | None = None

    async def put(self, event: Event) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(event, Partial) and isinstance(last, Partial) and last.segment == event.segment:
            self._events[-1] = event
        else:
            while len(self._events) >= LIMIT_EVENTS:
                self._room.clear()
                await self._room.wait()
            self._events.append(event)
        self._news.set()

    def finish(self, failure: ClientError | None) -> None:
        """Nothing more comes; the reader gets ``failure`` after the last event."""
        self._finished = True
        self._failure = failure
        self._news.set()

    async def take(self) -> Event | None:
        """The oldest event, when there is one; None at the end. Raises the failure that was the end."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._finished:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._events.popleft()
