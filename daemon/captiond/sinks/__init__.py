"""Where events go: one module a sink. A websocket route is one line here."""

from __future__ import annotations

from captiond.routes import Route
from captiond.sinks.captions import watch

ROUTES: dict[str, Route] = {"/v1/captions": watch}
