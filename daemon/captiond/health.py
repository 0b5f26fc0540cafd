"""One part's own line in ``/readyz``: what it has to say of itself, and nothing of the others."""

from __future__ import annotations

from captiond.readiness import Readiness


class Health:
    """Of a source or a sink. ``name`` is its key among the obstacles."""

    def __init__(self, readiness: Readiness, name: str) -> None:
        self.name = name
        self._readiness = readiness

    def ok(self) -> None:
        """It runs, or runs again."""
        self._readiness.clear(self.name)

    def degraded(self, reason: str) -> None:
        """It does not do its work now, and nobody who asks for captions misses anything: still ready."""
        self._readiness.degrade(self.name, reason)

    def trouble(self, reason: str) -> None:
        """It does not do its work now, though the daemon goes on; ``reason`` is a sentence."""
        self._readiness.block(self.name, reason)
