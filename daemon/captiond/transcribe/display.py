"""How a long transcription looks to a person: one line on a terminal, now and then a plain line elsewhere.

Takes: which recording it is, and how far it is. Gives: text on standard error, never among results: what is
printed to the same terminal comes above the line. Knows no engine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from captiond_clients.live_region import LiveRegion
from rich.console import Console
from rich.text import Text

from captiond.telemetry import printable

PLAIN_EVERY_S = 30.0  # between plain lines
LEAST_S = 1.0  # before a speed is told
BAR_CELLS = (8, 30)  # the least that is a bar, and the most that is of use
FULL, HALF, EMPTY = "━", "╸", "━"


class Display:
    """A context manager. ``begin`` a recording, tell its position with ``move``, ``end`` it.

    ``quiet``: nothing but ``note``. ``clock``: seconds.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._clock = clock
        shown = not quiet and sys.stderr.isatty()
        self._region = LiveRegion(self._console) if shown else None
        self._name = ""
        self._length_ms: int | None = None
        self._done_ms = 0
        self._began_s = self._moved_s = self._told_s = 0.0

    def __enter__(self) -> Self:
        if self._region is not None:
            self._region.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._region is not None:
            self._region.__exit__(kind, error, trace)

    def begin(self, name: str, length_ms: int | None) -> None:
        """``length_ms``: how long it says that it is; None: nobody knows."""
        self._name, self._length_ms, self._done_ms = printable(name), length_ms or None, 0
        self._began_s = self._moved_s = self._told_s = self._clock()
        self.refresh()

    def move(self, done_ms: int) -> None:
        """Everything before ``done_ms`` is done."""
        if done_ms != self._done_ms:
            self._done_ms, self._moved_s = done_ms, self._clock()
        if self._region is None and not self._quiet and self._clock() - self._told_s >= PLAIN_EVERY_S:
            self._told_s = self._clock()
            print(self.plain(), file=sys.stderr, flush=True)

    def refresh(self) -> None:
        """Draw the line anew: time has passed, or the window has another size."""
        if self._region is not None:
            self._region.draw([self.line(self._console.width - 1)])

    def end(self, heard_ms: int, written: str = "") -> None:
        """The recording is done; ``written``: where its text is."""
        self.erase()
        took_s = self._clock() - self._began_s
        where = f" -> {printable(written)}" if written else ""
        speed = f" ({_speed(heard_ms, took_s)})" if took_s > 0 else ""
        if not self._quiet:
            self._note(f"{self._name}: {clock(heard_ms)} in {clock(round(took_s * 1000))}{speed}{where}")

    def erase(self) -> None:
        """Nothing is being transcribed now."""
        if self._region is not None:
            self._region.draw([])

    def note(self, text: str) -> None:
        """A line for people, whatever they asked for: something went wrong."""
        self._note(printable(text))

    def write(self, text: str) -> None:
        """Results, to standard output; whole lines."""
        if self._region is not None and sys.stdout.isatty():
            self._region.write_above(sys.stdout, text)
        elif text:
            sys.stdout.write(text)
            sys.stdout.flush()

    def plain(self) -> str:
        """How it stands, for a log."""
        if self._length_ms is None:
            return f"{self._name}: {clock(self._done_ms)}{self._pace(', {}')}"
        share = min(1.0, self._done_ms / self._length_ms)
        left_s = self._left_s()
        left = "" if left_s is None else f", about {clock(round(left_s * 1000))} left"
        until = clock(self._length_ms)
        return f"{self._name}: {clock(self._done_ms)} of {until} ({share:.0%}){self._pace(', {}')}{left}"

    def line(self, width: int) -> Text:
        """How it stands, in ``width`` cells: the most important is kept where not all has room."""
        left_s = self._left_s()
        place = clock(self._done_ms)
        if self._length_ms is not None:
            place += f" / {clock(self._length_ms)}"
        left = "" if left_s is None else f"{clock(round(left_s * 1000))} left"
        ways = [
            " · ".join(part for part in parts if part)
            for parts in (
                (place, self._pace("{}"), left),
                (place, self._pace("{}").removesuffix(" real time"), left),
                (place, left),
                (place,),
            )
        ]
        told = next((way for way in ways if len(way) <= width), ways[-1])
        spare = width - len(told) - 2
        name, spare = self._named(spare)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(name, style="cyan")
        if self._length_ms is not None and spare - 2 >= BAR_CELLS[0]:
            line.append_text(self._bar(min(BAR_CELLS[1], spare - 2), self._done_ms / self._length_ms))
            line.append("  ")
        return line.append(told)

    def _named(self, spare: int) -> tuple[str, int]:
        """The recording's name as far as there is room for it beside a bar, and the room that is left."""
        room = min(len(self._name), spare - BAR_CELLS[0] - 4)
        if room < 4:
            return "", spare + 2
        name = self._name if room == len(self._name) else self._name[: room - 1] + "…"
        return f"{name}  ", spare - room

    def _bar(self, cells: int, share: float) -> Text:
        halves = min(2 * cells, int(2 * cells * share))
        done = FULL * (halves // 2) + HALF * (halves % 2)
        return Text.assemble((done, "green"), (EMPTY * (cells - len(done)), "dim"))

    def _pace(self, form: str) -> str:
        took_s = self._moved_s - self._began_s
        return form.format(_speed(self._done_ms, took_s)) if took_s >= LEAST_S and self._done_ms else ""

    def _left_s(self) -> float | None:
        """Seconds until the end at the speed until now; None where nothing is known."""
        took_s = self._moved_s - self._began_s
        if self._length_ms is None or took_s < LEAST_S or not self._done_ms:
            return None
        whole_s = took_s * self._length_ms / self._done_ms
        return max(0.0, whole_s - (self._clock() - self._began_s))

    def _note(self, text: str) -> None:
        if self._region is not None:
            self._region.write_above(sys.stderr, f"{text}\n")
        else:
            print(text, file=sys.stderr, flush=True)


def _speed(done_ms: int, took_s: float) -> str:
    speed = done_ms / 1000 / max(took_s, 0.001)
    return f"{speed:.3g}x real time" if speed < 100 else f"{speed:.0f}x real time"


def clock(milliseconds: int) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
