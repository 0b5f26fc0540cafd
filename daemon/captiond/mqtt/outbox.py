"""Finals on their way to the broker: in order, bounded, kept until the broker has confirmed them.

Takes: finals, in the loop's thread, never waiting. Gives: one at a time to the task that sends them. When
full, the oldest gives way and is counted. What the broker refuses is held back, so that other topics go on.
Knows no broker and no clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class WaitingFinal:
    """``tries``: how often it was handed out to be sent."""

    topic: str
    payload: bytes
    tries: int = 0


class Outbox:
    """Every final that was put is confirmed, lost, or still here: ``len`` of them.

    The one that is being sent does not give way: nobody knows yet whether it has arrived. So at most
    ``max_finals + 1`` are here. ``on_lost`` is called with how many gave way.
    """

    def __init__(self, max_finals: int, on_lost: Callable[[int], None] = lambda count: None) -> None:
        self.confirmed = 0
        self.resent = 0
        self.lost = 0
        self._max_finals = max_finals
        self._on_lost = on_lost
        self._waiting: deque[WaitingFinal] = deque()
        self._sending: WaitingFinal | None = None
        self._held: set[str] = set()  # topics that the broker has refused
        self._finished = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + (self._sending is not None)

    def put(self, topic: str, payload: bytes) -> None:
        self._waiting.append(WaitingFinal(topic, payload))
        self._make_room()
        self._news.set()

    def finish(self) -> None:
        """Nothing more will be put: ``take`` gives what is here, and then None."""
        self._finished = True
        self._news.set()

    async def take(self) -> WaitingFinal | None:
        """The oldest final that is not held back, to be confirmed, held or given back; None at the end."""
        while True:
            for final in self._waiting:
                if final.topic not in self._held:
                    self._waiting.remove(final)
                    self._sending = final
                    self.resent += final.tries > 0
                    final.tries += 1
                    return final
            if self._finished:
                return None
            self._news.clear()
            await self._news.wait()

    def confirm(self) -> None:
        """The broker has the final that was taken."""
        self._sending = None
        self.confirmed += 1

    def hold(self) -> None:
        """The broker has refused the final that was taken: its topic waits until ``release``."""
        if self._sending is not None:
            self._held.add(self._sending.topic)
        self.give_back()

    def give_back(self) -> None:
        """Nobody knows whether the final that was taken, if any, has arrived: it is the next to be sent."""
        if self._sending is not None:
            self._waiting.appendleft(self._sending)
            self._sending = None
            self._make_room()

    def release(self) -> None:
        """What was held back may be tried again."""
        self._held.clear()
        self._news.set()

    def give_up(self) -> int:
        """The daemon ends: what is still here is lost. How many that are."""
        self.give_back()
        count = len(self._waiting)
        self._waiting.clear()
        self._lose(count)
        return count

    def _make_room(self) -> None:
        count = max(0, len(self._waiting) - self._max_finals)
        for _ in range(count):
            self._waiting.popleft()
        self._lose(count)

    def _lose(self, count: int) -> None:
        if count:
            self.lost += count
            self._on_lost(count)
