"""Figures as tables, for a terminal and as Markdown. Takes plain rows, gives text; knows no bench."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: the first column holds names, the others figures; a single other one holds text. ``notes``
    stand below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def show(sheets: Iterable[Sheet], console: Console) -> None:
    for sheet in sheets:
        table = Table(title=Text(sheet.title, style="bold"), title_justify="left")
        for number, heading in enumerate(sheet.headings):
            figures = number > 0 and len(sheet.headings) > 2
            table.add_column(Text(heading), justify="right" if figures else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for note in sheet.notes:
            console.print(Text(note))
        console.print()


def to_markdown(title: str, about: str, sheets: Sequence[Sheet]) -> str:
    """A page: title, where the figures come from, tables with their notes."""
    parts = [f"# {title}", about]
    for sheet in sheets:
        lines = [
            sheet.headings,
            tuple("---:" if i else "---" for i in range(len(sheet.headings))),
            *sheet.rows,
        ]
        table = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        parts += [f"## {sheet.title}", table, *map(_cell, sheet.notes)]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
