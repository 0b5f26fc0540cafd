"""The port: bound as configured, with TLS where asked, and errors that name the key.

Takes: the configuration, who answers requests and who converses. Gives: running websocket servers, one for
each address of the host, that are closed as one.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from captiond_engine.errors import ConfigError, PortInUseError
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from captiond.access import SUBPROTOCOL
from captiond.config import Config, ServerConfig
from captiond.connection import FairConnection
from captiond.door import Door, Entrance, open_doors
from captiond.http import Front

# What waits before TCP pushes back is kept small: a client's ping, and its answer to ours, wait behind it,
# and common clients hang up after 20 s without an answer.
RECEIVED_FRAMES = (4, 3)  # websocket frames that wait for a reader: stop, and go on, at so many
CLOSE_TIMEOUT_S = 2.0
BACKLOG = 512  # connections that wait to be accepted; beyond it TCP makes them try again after a second


@dataclass(frozen=True, slots=True)
class Listening:
    """The servers of all addresses."""

    doors: list[Door]
    servers: list[Server]

    @property
    def port(self) -> int:
        """The one that was bound."""
        return int(self.doors[0].getsockname()[1])

    def close(self, code: int, reason: str) -> None:
        """Let nobody in any more and close every websocket with ``code``."""
        for server in self.servers:
            server.close(code=code, reason=reason)

    async def wait_closed(self) -> None:
        """Until every connection is gone."""
        for server in self.servers:
            await server.wait_closed()


async def listen(
    config: Config,
    front: Front,
    converse: Callable[[ServerConnection], Awaitable[None]],
    tls: ssl.SSLContext | None,
) -> Listening:
    """Bind and serve. Raises ConfigError (also PortInUseError)."""
    server, limits = config.server, config.limits
    entrance = Entrance(front.admission, front.metrics, tls=tls is not None)
    front.entrance = entrance
    try:
        doors = await open_doors(server.host, server.port, entrance)
    except OSError as error:
        raise bind_error(server, error) from None
    return Listening(
        doors,
        [
            await serve(
                converse,
                sock=door,
                process_request=front.process_request,
                select_subprotocol=_select_subprotocol,
                compression=None,  # a small message may not unpack into a large one
                open_timeout=limits.handshake_ms / 1000,
                ping_interval=None,  # sinks.captions.keep_alive does it, and knows when we do not read
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=limits.message_bytes,
                max_queue=RECEIVED_FRAMES,
                server_header=None,
                backlog=BACKLOG,
                create_connection=FairConnection,
                ssl=tls,
            )
            for door in doors
        ],
    )


def page_address(config: ServerConfig, port: int) -> str:
    """Where a browser on this machine finds the captions page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if config.cert else 'http'}://{host}:{port}/"


def bind_error(server: ServerConfig, error: OSError) -> ConfigError:
    """What a failed bind means for the one who configured it."""
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"server.port: {server.host}:{server.port} is in use by another program.",
            advice="Stop that one, or choose another port with --set server.port=N (0: any free one).",
        )
    key = "server.port" if error.errno == errno.EACCES else "server.host"
    return ConfigError(f"{key}: cannot listen on {server.host}:{server.port} ({error.strerror or error}).")


def tls_context(server: ServerConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or later as configured, or None without a certificate. Raises ConfigError."""
    if not server.cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_pair(context, server)
    return context


def load_pair(context: ssl.SSLContext, server: ServerConfig) -> None:
    """Read certificate and key into ``context``; connections that come later are shown them.

    Raises ConfigError and may then have half of it: try a renewed pair with ``tls_context`` first.
    """
    asked: list[bool] = []

    def no_password() -> str:
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(server.cert, server.key, password=no_password)
    except (OSError, ssl.SSLError) as error:
        raise _tls_error(server, error, encrypted=bool(asked)) from None


def _tls_error(server: ServerConfig, error: OSError, *, encrypted: bool) -> ConfigError:
    if encrypted:
        return ConfigError(
            f"server.key: {server.key} is encrypted, and a daemon has nobody to ask for its password.",
            advice="Decrypt it with 'openssl pkey -in KEY -out NEW', readable by the daemon alone.",
        )
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return ConfigError(
            f"server.cert, server.key: {server.key} is not the key of the certificate {server.cert}.",
            advice="The certificate of this machine must come first in its file.",
        )
    if isinstance(error, ssl.SSLError):
        return ConfigError(
            f"server.cert, server.key: {server.cert} and {server.key} are not a certificate and a key "
            f"as PEM files ({reason or error})."
        )
    return ConfigError(
        f"server.cert, server.key: {server.cert} and {server.key} cannot be read ({error.strerror or error})."
    )


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The pair's first half; the token is never said back."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
