"""Programs and a library that talk to a captiond daemon. Imports nothing else of captiond.

    from captiond_clients import Final, listen

    async with listen("http://127.0.0.1:8765") as events:
        async for event in events:
            if isinstance(event, Final):
                print(event.stream, event.text)

``client`` says what ``listen`` and ``speak`` can do, ``events`` what they tell, ``errors`` what can go wrong.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captiond_clients.client import listen, speak
    from captiond_clients.errors import ClientError, RefusedError, UnreachableError
    from captiond_clients.events import Event, Final, Partial
    from captiond_clients.listener import Listener
    from captiond_clients.speaker import Speaker

__all__ = [
    "ClientError",
    "Event",
    "Final",
    "Listener",
    "Partial",
    "RefusedError",
    "Speaker",
    "UnreachableError",
    "listen",
    "speak",
]
_HOMES = {
    "client": ("listen", "speak"),
    "errors": ("ClientError", "RefusedError", "UnreachableError"),
    "events": ("Event", "Final", "Partial"),
    "listener": ("Listener",),
    "speaker": ("Speaker",),
}


if not TYPE_CHECKING:  # a type checker is to see the names above, and no others

    def __getattr__(name: str) -> object:
        """Imported when it is asked for: a program that reads subtitles needs no websocket."""
        for module, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """The commands ``listen`` and ``speak`` are modules of these names: importing them hides no function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES["client"] and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
