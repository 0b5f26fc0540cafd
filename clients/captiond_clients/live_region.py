"""The last rows of a terminal, drawn again and again below text that stays.

Takes lines of text; shows their last rows, in half of the window at most. What is drawn here never becomes
part of the scrollback, also where the window is resized: rows are counted as the terminal has wrapped them
since (only rows that leave a window which is suddenly too small for them cannot be taken back). Meanwhile the
cursor is hidden, keys are not echoed, and standard error is written above. Knows no event.
"""

from __future__ import annotations

import io
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text


class LiveRegion:
    """A context manager: outside of it nothing is drawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[Text] = []
        self._width = 0  # of the window, when it was drawn
        self._keyboard: list[Any] | None = None
        self._above: _Above | None = None

    def __enter__(self) -> Self:
        self._keyboard = _without_echo()
        if sys.stderr.isatty() and self._console.file is not sys.stderr:
            sys.stderr = self._above = _Above(self, sys.stderr)
        self._console.show_cursor(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._console:
            self._erase()
        self._console.show_cursor(True)
        if self._above is not None:
            sys.stderr = self._above.file
            sys.stderr.write(self._above.begun)
        if self._keyboard is not None:
            with suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._keyboard)

    def draw(self, lines: Sequence[Text]) -> None:
        """``lines`` in place of what was drawn before, unless that is the same."""
        rows = self.rows(lines)
        if rows == self._drawn and self._width == self._console.width:
            return  # a window that is being resized may tell its size late: the less is drawn, the better
        with self._console:  # one write, so that nothing flickers
            self._erase()
            self._draw(rows)

    def print_above(self, line: Text, lines: Sequence[Text], to: Console | None = None) -> None:
        """``line`` stays; below it ``lines`` are drawn. ``to``: another console on the same terminal."""
        with self._console:
            self._erase()
            if to is None:
                self._console.print(line)
        if to is not None:
            to.print(line, soft_wrap=True)
        with self._console:
            self._draw(self.rows(lines))

    def write_above(self, file: TextIO, text: str) -> None:
        """Whole lines of ``text`` to ``file``, which is on the same terminal; below them what was drawn."""
        rows = self._drawn
        with self._console:
            self._erase()
        file.write(text)
        file.flush()
        with self._console:
            self._draw(rows)

    def rows(self, lines: Sequence[Text]) -> list[Text]:
        """What ``draw`` shows of ``lines``: wrapped to the width, and the last rows of that."""
        width, height = self._console.size
        wrapped = [row for line in lines for row in line.wrap(self._console, max(2, width - 1))]
        for row in wrapped:
            row.rstrip()
        return wrapped[-max(1, height // 2) :]

    def _draw(self, rows: list[Text]) -> None:
        for number, row in enumerate(rows, start=1):
            self._console.print(row, end="" if number == len(rows) else "\n", soft_wrap=True)
        self._drawn, self._width = rows, self._console.width

    def _erase(self) -> None:
        width = max(1, self._console.width)
        count = sum(max(1, -(-row.cell_len // width)) for row in self._drawn)  # as it is wrapped by now
        if not count:
            return
        up_and_out = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * (count - 1)
        self._console.control(
            Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up_and_out)
        )
        self._drawn = []


class _Above(io.TextIOBase):
    """Standard error while a region is drawn on the same terminal: its lines come above."""

    def __init__(self, region: LiveRegion, file: TextIO) -> None:
        self._region = region
        self.file = file
        self.begun = ""  # a line without its end

    def write(self, text: str) -> int:
        lines, end, self.begun = (self.begun + text).rpartition("\n")
        if end:
            self._region.write_above(self.file, lines + end)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.file.fileno()


def _without_echo() -> list[Any] | None:
    """Stop the terminal from echoing keys; its settings before, None where there is no keyboard."""
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
        quiet = list(before)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, quiet)
    except (OSError, ValueError, termios.error):
        return None
    return before
