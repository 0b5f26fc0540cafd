"""Findings for people: a row each as soon as it is found, its advice below it, and a line that sums up."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from captiond.doctor.finding import Finding
from captiond.telemetry import printable

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}
MARK_WIDTH, NAME_WIDTH = 4, 13


class Table:
    """Written to standard output: wrapped and coloured on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def show(self, finding: Finding) -> None:
        mark, style = MARKS[finding.status]
        message, advice = printable(finding.message), printable(finding.advice)
        if not self._console.is_terminal:
            print(f"{mark:{MARK_WIDTH}} {finding.check:{NAME_WIDTH}} {message}", flush=True)
            if advice:
                print(f"{'':{MARK_WIDTH + NAME_WIDTH + 1}} {advice}", flush=True)
            return
        text = Text(message)
        if advice:
            text.append(f"\n{advice}", style="cyan")
        row = Grid.grid(padding=(0, 1))
        row.add_column(width=MARK_WIDTH)
        row.add_column(width=NAME_WIDTH)
        row.add_column()
        row.add_row(Text(mark, style=style), finding.check, text)
        self._console.print(row)

    def close(self, findings: list[Finding]) -> None:
        number = {status: sum(each.status == status for each in findings) for status in MARKS}
        print(f"\n{number['ok']} good, {number['warn']} doubtful, {number['fail']} failed.", flush=True)
