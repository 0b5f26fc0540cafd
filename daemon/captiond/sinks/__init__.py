"""Where events go: one module a sink. A websocket route, or a sink with a config table, is one line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from captiond.config import Config
from captiond.context import Context
from captiond.health import Health
from captiond.routes import Route
from captiond.sinks import files, mqtt
from captiond.sinks.captions import watch

ROUTES: dict[str, Route] = {"/v1/captions": watch}
Run = Callable[[Context, Health], Awaitable[None]]
Wanted = Callable[[Config], bool]
# By the name of their table: whether the configuration wants them, and what runs them. The former is asked
# before anything runs, and raises ConfigError where what they need cannot be used.
SINKS: dict[str, tuple[Wanted, Run]] = {
    "files": (lambda config: bool(config.files.folder), files.run),
    "mqtt": (mqtt.wanted, mqtt.run),
}
