"""The listening socket: bound as configured, with TLS where asked, and errors that name the key.

Takes: the configuration, who answers requests and who converses. Gives: a running websocket server.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from captiond_engine.errors import ConfigError, PortInUseError
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from captiond.access import SUBPROTOCOL
from captiond.config import Config, ServerConfig
from captiond.http import Front

# What waits before TCP pushes back is kept small: a client's ping, and its answer to ours, wait behind it,
# and common clients hang up after 20 s without an answer.
RECEIVED_FRAMES = (4, 3)  # websocket frames that wait for a reader: stop, and go on, at so many
RECEIVED_BYTES = 65_536  # in the system's own buffer, which would otherwise grow to minutes of audio
CLOSE_TIMEOUT_S = 2.0


async def listen(
    config: Config,
    front: Front,
    converse: Callable[[ServerConnection], Awaitable[None]],
    tls: ssl.SSLContext | None,
) -> Server:
    """Bind and serve. Raises ConfigError (also PortInUseError)."""
    server, limits = config.server, config.limits
    try:
        listening = await serve(
            converse,
            server.host,
            server.port,
            process_request=front.process_request,
            select_subprotocol=_select_subprotocol,
            compression=None,  # a small message may not unpack into a large one
            open_timeout=limits.handshake_ms / 1000,
            ping_interval=None,  # sinks.captions.keep_alive does it, and knows when we do not read
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=limits.message_bytes,
            max_queue=RECEIVED_FRAMES,
            server_header=None,
            ssl=tls,
        )
    except OSError as error:
        raise bind_error(server, error) from None
    for listener in listening.sockets:  # what it accepts inherits it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
    return listening


def page_address(config: ServerConfig, server: Server) -> str:
    """Where a browser on this machine finds the captions page."""
    port = next(iter(server.sockets)).getsockname()[1]
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
    """TLS as configured, or None. Raises ConfigError for files that cannot be used."""
    if not server.cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(server.cert, server.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"server.cert, server.key: {server.cert} and {server.key}: {error.strerror or error}."
        ) from None
    return context


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The pair's first half; the token is never said back."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
