"""How a long start looks to a person: a bar on a terminal, plain lines elsewhere.

Takes ProgressEvents, from any thread. Gives text on standard error; knows no model.
"""

from __future__ import annotations

import time
from types import TracebackType

from captiond_engine.progress import ProgressEvent
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from captiond.telemetry import tell

LINE_EVERY_S = 12.0  # between plain lines of the same step


def describe(event: ProgressEvent) -> str:
    """A progress event as one line for people."""
    done = "" if event.done is None else f" {event.done:.0%}"
    left = "" if event.estimate_s is None else f" (takes about {max(1, round(event.estimate_s))} s)"
    return f"{event.message}{done}{left}"


class StartDisplay:
    """Use as a context manager and call with each event; ``close`` may be called early and twice."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._last_line_s = 0.0
        console = Console(stderr=True)
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )

    def __call__(self, event: ProgressEvent) -> None:
        if self._quiet:
            return
        if self._bar is None:
            self._line(event)
            return
        if self._stage != event.stage or self._task is None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(describe(event), total=None)
            self._stage = event.stage
        self._bar.update(
            self._task,
            description=describe(event),
            total=None if event.done is None else 1.0,
            completed=event.done or 0.0,
        )

    def __enter__(self) -> StartDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _line(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        goes_on = event.stage == self._stage and event.done not in (None, 0.0, 1.0)
        if goes_on and now - self._last_line_s < LINE_EVERY_S:
            return
        self._stage, self._last_line_s = event.stage, now
        tell(describe(event))
