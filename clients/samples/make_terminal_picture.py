"""Draws what ``captiond listen`` showed at one moment: events in, terminal.svg out.

Takes the lines that ``captiond listen --format json`` wrote while real streams were spoken, and the number of
the line at which to stop. Gives a picture by rich, which fetches nothing when it is looked at.

    captiond listen --format json > events.jsonl
    python clients/samples/make_terminal_picture.py events.jsonl 120 clients/samples/terminal.svg
"""

from __future__ import annotations

import io
import re
import sys
from itertools import islice
from pathlib import Path

from captiond_clients.connection import DEFAULT_URL
from captiond_clients.events import parse
from captiond_clients.terminal import CaptionsView
from rich.console import Console

COLUMNS = 72
WEB_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw(events: Path, count: int, target: Path) -> None:
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, force_interactive=False
    )
    view = CaptionsView(console, Console(file=io.StringIO()), name_streams=True, place=DEFAULT_URL)
    console.print("$ captiond listen", style="bold")
    with events.open(encoding="utf-8") as lines:
        for event in map(parse, islice(lines, count)):
            view.show(event)
    for row in view.lines():
        console.print(row)
    picture = WEB_FONTS.sub("", console.export_svg(title="captiond listen"))
    target.write_text(picture.replace("Fira Code, ", ""), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    draw(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
