"""Websocket routes: a connection and what the edges share, until the connection ends; and who is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from websockets.asyncio.server import ServerConnection

from captiond.context import Context

Route = Callable[[ServerConnection, Context], Awaitable[None]]


class Conversations:
    """How many connections are being served. ``nobody`` is set while there is none."""

    def __init__(self) -> None:
        self.nobody = asyncio.Event()
        self.nobody.set()
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self._count += 1
        self.nobody.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self.nobody.set()
