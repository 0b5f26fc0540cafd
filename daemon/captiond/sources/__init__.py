"""Where audio comes from: one module a source; a websocket route or ``[[source]]`` kind is a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from captiond.config import SourceConfig
from captiond.context import Context
from captiond.routes import Route
from captiond.sources.file import play
from captiond.sources.websocket import speak

ROUTES: dict[str, Route] = {"/v1/speak": speak}
Play = Callable[[SourceConfig, Context, Callable[[], None]], Awaitable[None]]
KINDS: dict[str, Play] = {"file": play}
