"""Whether the daemon can serve, and if not, why: what ``/readyz`` says."""

from __future__ import annotations


class Readiness:
    """Named obstacles, each with a sentence. None left: ready."""

    def __init__(self) -> None:
        self._obstacles: dict[str, str] = {}
        self._degraded: dict[str, str] = {}
        self._stopping = False

    def block(self, name: str, reason: str) -> None:
        self._obstacles[name] = reason

    def degrade(self, name: str, reason: str) -> None:
        """Something beside the captions does not work: told, but no obstacle."""
        self._degraded[name] = reason

    def clear(self, name: str) -> None:
        self._obstacles.pop(name, None)
        self._degraded.pop(name, None)

    def degraded(self) -> list[str]:
        return list(self._degraded.values())

    def stop(self) -> None:
        """The daemon takes nobody in any more."""
        self._stopping = True

    def reasons(self) -> list[str]:
        stopping = ["The daemon is stopping."] if self._stopping else []
        return stopping + list(self._obstacles.values())

    def stopping_or_loading(self) -> list[str]:
        """What keeps every websocket out; a source that does not run does not."""
        stopping = ["The daemon is stopping."] if self._stopping else []
        return stopping + [self._obstacles[name] for name in ("model",) if name in self._obstacles]
