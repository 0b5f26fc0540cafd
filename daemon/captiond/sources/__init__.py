"""Where audio comes from: one module a source; a websocket route or ``[[source]]`` kind is a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from captiond.context import Context
from captiond.health import Health
from captiond.routes import Route
from captiond.sources import microphone, network
from captiond.sources.file import play
from captiond.sources.websocket import speak

ROUTES: dict[str, Route] = {"/v1/speak": speak}
Play = Callable[[Any, Context, Health], Awaitable[None]]  # its first argument is the kind's own struct
KINDS: dict[str, Play] = {
    "file": play,
    "microphone": microphone.play,
    "network": network.play,
}
