"""Captions in a terminal, and in what is none."""

from __future__ import annotations

import io

from captiond_clients.events import Event, parse
from captiond_clients.terminal import CaptionsView, printable
from rich.console import Console

PARTIAL = (
    '{"type":"transcript.partial","stream":"s","seq":2,"segment":1,"revision":1,'
    '"committed":"Turn on","tentative":" the fan","start_ms":0,"heard_until_ms":900}'
)
FINAL = (
    '{"type":"transcript.final","stream":"s","seq":3,"segment":1,"text":"Turn on the \\u001b[2Jlights.",'
    '"start_ms":0,"end_ms":900,"language":"en"}'
)


def shown(*events: Event, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None)
    with CaptionsView(console, Console(file=io.StringIO())) as view:
        for event in events:
            view.show(event)
    return out.getvalue()


def test_tentative_words_are_dim_on_a_terminal() -> None:
    assert "Turn on\x1b[2m the fan" in shown(parse(PARTIAL), terminal=True).replace("\x1b[0m", "")


def test_a_final_is_not_drawn_below_itself_once_more() -> None:
    drawn = shown(parse(PARTIAL), parse(FINAL), terminal=True)
    assert "Turn on" in drawn
    assert "the fan" not in drawn[drawn.index("lights.") :]


def test_elsewhere_only_finals_are_lines() -> None:
    assert shown(parse(PARTIAL), parse(FINAL), terminal=False) == "Turn on the  [2Jlights.\n"


def test_no_caption_moves_the_cursor() -> None:
    assert "\x1b[2J" not in shown(parse(FINAL), terminal=True)
    assert printable("a\x1b[31mb\u202ec\nd\x9b") == "a [31mbc d "


def test_markup_in_a_caption_is_text() -> None:
    final = FINAL.replace("Turn on the \\u001b[2Jlights.", "[red]no[/red]")
    assert shown(parse(final), terminal=False) == "[red]no[/red]\n"
