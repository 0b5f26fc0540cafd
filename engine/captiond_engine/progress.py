"""How a long start tells what it is doing: a callback that takes one ProgressEvent at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of a start. ``stage``: ``download``, ``weights``, ``compile``, ``check`` or ``warm_up``.

    ``done`` is the finished share in [0, 1] or None; ``estimate_s`` the seconds that the whole step is
    expected to take, or None where nothing is known.
    """

    stage: str
    message: str
    done: float | None = None
    estimate_s: float | None = None


Progress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """A Progress that shows nothing."""
