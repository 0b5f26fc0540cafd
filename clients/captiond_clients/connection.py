"""How to reach a daemon: its address, the socket, what a failure means, and when to try again.

Takes the address a person typed and query parameters; gives an open websocket whose ``hello`` has been
read, or a ClientError. Knows nothing of streams, resume or audio.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from socket import gaierror
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from captiond_clients.errors import ClientError, ProtocolError, RefusedError, UnreachableError
from captiond_clients.events import ErrorEvent, Hello, parse

DEFAULT_URL = "http://127.0.0.1:8765"
OPEN_TIMEOUT_S = 10.0
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
MAX_MESSAGE_BYTES = 4 << 20
START_IT = "Start one with `captiond serve`, or name another address with --url."

# Worth another try: the daemon is starting, stopping or overloaded, or something between us and it is.
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# Close codes by which the daemon says that it is our fault (protocol.md).
_OUR_FAULT = {1002: "protocol", 1003: "wrong_frame", 1007: "bad_text", 1008: "policy", 1009: "too_big"}


def websocket_url(base: str, route: str, query: Mapping[str, str | int | None]) -> str:
    """``base`` (http, https, ws, wss; a path is kept) with ``route`` and the parameters that are not None."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise RefusedError("bad_url", f"{base!r} is no address of a daemon.", advice=f"Say {DEFAULT_URL}.")
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{route}{'?' if asked else ''}{asked}"


@dataclass(slots=True)
class Backoff:
    """Waits between tries: doubling up to a limit, each with jitter, for at most ``patience_s`` in all.

    All in all means until ``news()``: a daemon that takes each connection and drops it is no progress.
    """

    patience_s: float
    delay_s: float = FIRST_DELAY_S
    started: float | None = None
    longest_s: float = LONGEST_DELAY_S

    def news(self) -> None:
        """The daemon has said something new: patience and delay begin afresh."""
        self.delay_s = FIRST_DELAY_S
        self.started = None

    async def wait(self, failure: ClientError, tell: Callable[[ClientError], None] | None = None) -> None:
        """Sleeps before the next try; raises ``failure`` when patience is at an end.

        ``tell`` is called with a failure that is waited for; its ``retry_in_s`` says how long.
        """
        now = asyncio.get_running_loop().time()
        self.started = now if self.started is None else self.started
        left = self.started + self.patience_s - now
        if left <= 0:
            raise failure
        failure.retry_in_s = min(left, self.delay_s * random.uniform(0.5, 1.0))
        if tell is not None:
            tell(failure)
        await asyncio.sleep(failure.retry_in_s)
        self.delay_s = min(self.longest_s, 2 * self.delay_s)


def closed_error(closed: ConnectionClosed) -> ClientError:
    """What a closed socket means: RefusedError where trying again cannot help, else UnreachableError."""
    code = closed.rcvd.code if closed.rcvd else 1006
    reason = f": {closed.rcvd.reason}" if closed.rcvd and closed.rcvd.reason else ""
    if code in _OUR_FAULT:
        return RefusedError(_OUR_FAULT[code], f"The daemon closed the connection ({code}){reason}.")
    return UnreachableError(f"The connection to the daemon was lost ({code}){reason}.")


def _status_error(url: str, refused: InvalidStatus) -> ClientError:
    status = refused.response.status_code
    said = _message(bytes(refused.response.body or b""))
    what = f"The daemon at {urlsplit(url).netloc} answered {status}{': ' if said else ''}{said}"
    if status in _PASSING_STATUS:
        return UnreachableError(what, advice="It may still be loading its model, or be full; /readyz tells.")
    code = {401: "unauthorized", 403: "forbidden", 404: "not_found", 421: "wrong_host"}.get(status, "refused")
    return RefusedError(code, what)


def _message(body: bytes) -> str:
    """What a refusal says: plain text, or the "message" of a JSON object."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    text = told.get("message", "") if isinstance(told, dict) else body.decode("utf-8", "replace")
    return str(text).strip()[:300]


async def open_socket(url: str, token: str | None, *, max_queue: int = 16) -> tuple[ClientConnection, Hello]:
    """One try. At most ``max_queue`` received messages wait to be read; nothing is compressed.

    Raises UnreachableError where a later try may succeed, RefusedError or ProtocolError where not.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else None
    address = urlsplit(url).netloc
    try:
        socket = await connect(
            url,
            additional_headers=headers,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=max_queue,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=2,
            proxy=None,  # a daemon is on this machine or near it, whatever the environment says of proxies
        )
    except InvalidStatus as error:
        raise _status_error(url, error) from error
    except InvalidURI as error:
        raise RefusedError("bad_url", f"{address!r} is no address of a daemon: {error}.") from error
    except (OSError, TimeoutError) as error:
        if isinstance(error, gaierror):  # its numbers are not the system's
            why = "there is no host of that name"
        else:
            why = os.strerror(error.errno).lower() if error.errno else str(error) or "no answer in time"
        raise UnreachableError(f"No daemon answers at {address} ({why}).", advice=START_IT) from error
    except (InvalidHandshake, ConnectionClosed, EOFError) as error:
        raise ProtocolError(f"What answers at {address} is no captiond daemon ({error}).") from error
    try:
        return socket, await _read_hello(socket)
    except BaseException:
        await socket.close()
        raise


async def _read_hello(socket: ClientConnection) -> Hello:
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            message = await socket.recv()
    except ConnectionClosed as closed:
        raise closed_error(closed) from closed
    except TimeoutError as error:
        raise UnreachableError("The daemon accepted the connection and then said nothing.") from error
    event = parse(message) if isinstance(message, str) else None
    if isinstance(event, Hello):
        return event
    if isinstance(event, ErrorEvent):
        raise RefusedError(event.code, event.message)
    raise ProtocolError("The daemon's first message was no hello.")
