"""Listening: one subscription that outlives its sockets, pulled by whoever reads it.

Takes an address and a subscription; gives events in order. After a loss it asks for what it missed and drops
what it has already told. No task and no queue of its own: a slow reader is felt by the daemon, which then
coalesces partial states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from captiond_clients.connection import Backoff, closed_error, open_socket, websocket_url
from captiond_clients.errors import ClientError, RefusedError, UnreachableError
from captiond_clients.events import ErrorEvent, Event, Hello, StreamOpened, parse

LONGEST_HISTORY = 1000  # what a daemon sends at most (protocol.md)


class Listener:
    """Iterate to hear. A ``Hello`` comes first and again after each reconnect."""

    def __init__(
        self,
        url: str,
        *,
        query: Mapping[str, str | int | None],
        history: int,
        token: str | None,
        patience_s: float,
        on_trouble: Callable[[ClientError], None] | None,
    ) -> None:
        self._url = url
        self._query = dict(query)
        self._history = history
        self._token = token
        self._backoff = Backoff(patience_s)
        self._on_trouble = on_trouble
        self._socket: ClientConnection | None = None
        self._hello: Hello | None = None
        self._fresh_hello = False
        self._told: dict[str | None, int] = {}  # the newest seq told of each stream, in this epoch
        self._skip: dict[str | None, int] = {}  # up to where a resumed connection repeats what was told
        self._fatal: ErrorEvent | None = None

    async def open(self) -> None:
        """The first connection; it is not waited for."""
        await self._connect()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._fresh_hello and self._hello is not None:
                self._fresh_hello = False
                return self._hello
            assert self._socket is not None, "open() comes first"
            try:
                message = await self._socket.recv()
            except ConnectionClosed as closed:
                if await self._ended(closed):
                    raise StopAsyncIteration from None
                continue
            if isinstance(message, str) and self._is_news(event := parse(message)):
                return event

    def _is_news(self, event: Event) -> bool:
        """False for what an earlier connection has already told."""
        if isinstance(event, ErrorEvent):
            self._fatal = event if event.fatal else None
            return True
        if isinstance(event, StreamOpened):  # numbering of this stream begins
            self._skip.pop(event.stream, None)
        if event.seq <= self._skip.get(event.stream, 0):
            return False
        self._told[event.stream] = event.seq
        self._backoff.news()
        return True

    async def _ended(self, closed: ConnectionClosed) -> bool:
        """True when the daemon has nothing more to say; else a new connection has been made."""
        if self._fatal is not None:
            raise RefusedError(self._fatal.code, self._fatal.message) from closed
        if closed.rcvd is not None and closed.rcvd.code == 1000:
            return True
        failure = closed_error(closed)
        if not isinstance(failure, UnreachableError):
            raise failure
        while True:
            await self._backoff.wait(failure, self._on_trouble)
            try:
                await self._connect()
                return False
            except UnreachableError as error:
                failure = error

    async def _connect(self) -> None:
        before = self._hello
        query = dict(self._query)
        if before is None:
            query["history"] = self._history
        else:
            query["epoch"] = str(before.epoch)
            query["history"] = LONGEST_HISTORY
            if query["stream"] != "*":  # a seq counts one stream; of all streams the whole history is asked
                query["since"] = max(self._told.values(), default=before.seq)
        address = websocket_url(self._url, "/v1/captions", query)
        self._socket, self._hello = await open_socket(address, self._token)
        self._fresh_hello = True
        if before is not None and before.epoch == self._hello.epoch:
            self._skip = dict(self._told)
        else:
            self._told, self._skip = {}, {}
