"""Who may come in: tokens, browser origins and host names. Values in, a verdict out; knows no socket.

A token is compared in constant time and never logged. The host list stops DNS rebinding, the origin list
stops other people's pages, and neither is needed by programs that are no browsers.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from captiond_engine.errors import ConfigError

from captiond.config import ServerConfig, is_loopback

SUBPROTOCOL = "captiond"
TOKEN_PREFIX = "token."
# What a browser may say in Sec-WebSocket-Protocol (RFC 9110, token).
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{16,256}")


class Access:
    """The rules of one ``[server]`` table. Raises ConfigError for an unusable tokens file."""

    def __init__(self, server: ServerConfig) -> None:
        self._server = server
        self._tokens = read_tokens(Path(server.tokens_file)) if server.tokens_file else ()
        self._hosts = frozenset(name.lower() for name in (*server.hosts, server.host, "localhost"))
        self._origins = frozenset(origin.rstrip("/").lower() for origin in server.origins)

    def host_allowed(self, host: str | None) -> bool:
        """Whether a ``Host`` header names us. An address is no name and so cannot be rebound."""
        name = host_name(host or "")
        if not name:
            return False
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._server.host)

    def origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of ``origin`` may talk to us: no page at all, our own, or one of the list."""
        if origin is None:
            return True
        page = origin.rstrip("/").lower()
        own = urlsplit(page).netloc == (host or "").lower() and urlsplit(page).scheme in ("http", "https")
        return own or page in self._origins

    def token_accepted(self, authorization: str | None, subprotocols: Iterable[str]) -> bool:
        """Whether one of the ways to show a token shows a right one. Without tokens all may come."""
        if not self._tokens:
            return True
        shown = shown_tokens(authorization, subprotocols)
        # Every pair is compared, so that the time tells nothing.
        verdicts = [
            hmac.compare_digest(token.encode(), known.encode()) for token in shown for known in self._tokens
        ]
        return any(verdicts)


def shown_tokens(authorization: str | None, subprotocols: Iterable[str]) -> list[str]:
    """The tokens that a request shows, right or wrong: at most two. The address is no place for one."""
    offered = list(subprotocols)
    pair = offered if SUBPROTOCOL in offered else []
    shown = [name[len(TOKEN_PREFIX) :] for name in pair if name.startswith(TOKEN_PREFIX)]
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        shown.append(credentials.strip())
    return shown[:2]


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def read_tokens(path: Path) -> tuple[str, ...]:
    """One token a line; empty lines and lines that begin with # are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"server.tokens_file: {path} cannot be read ({reason}).") from None
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not tokens:
        raise ConfigError(f"server.tokens_file: {path} has no token in it.", advice="Put one on each line.")
    for number, token in enumerate(tokens, 1):
        if not TOKEN.fullmatch(token):
            raise ConfigError(
                f"server.tokens_file: token {number} in {path} cannot be used.",
                advice="A token is 16 to 256 letters, digits or -._~ characters without spaces.",
            )
    return tokens
