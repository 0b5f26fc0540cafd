"""The shape of a websocket route: a connection and what the edges share, until the connection ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from websockets.asyncio.server import ServerConnection

from captiond.context import Context

Route = Callable[[ServerConnection, Context], Awaitable[None]]
