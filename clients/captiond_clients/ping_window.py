"""How much audio is under way: pings between the audio, whose answers say that it has arrived.

Takes an open websocket and the number of bytes written to it; gives a wait while too much is unanswered.
Knows no audio and no reconnecting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

PING_WINDOW = 4  # unanswered pings


class PingWindow:
    """Of one socket after the other. A ping follows every ``every_bytes``."""

    def __init__(self, every_bytes: int) -> None:
        self._every_bytes = every_bytes
        self._unpinged = 0
        self._answers: deque[Awaitable[float]] = deque()

    def begin(self) -> None:
        """A new socket: nothing is under way."""
        self._unpinged = 0
        self._answers.clear()

    async def written(self, socket: ClientConnection, size: int) -> None:
        """``size`` more bytes are on their way. Raises ConnectionClosed."""
        self._unpinged += size
        if self._unpinged >= self._every_bytes:
            self._unpinged = 0
            self._answers.append(await socket.ping())

    @property
    def full(self) -> bool:
        return len(self._answers) > PING_WINDOW

    async def room(self) -> None:
        """Until the oldest ping is answered, or its socket is lost."""
        oldest = self._answers[0] if self._answers else None
        if oldest is None:
            return
        with suppress(ConnectionClosed):
            await oldest
        if self._answers and self._answers[0] is oldest:
            self._answers.popleft()
