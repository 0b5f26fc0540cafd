"""Captions in a terminal, and in what is none; the line that says how things stand."""

from __future__ import annotations

import io
import json
import re

import pytest
from captiond_clients.command_line import printer
from captiond_clients.errors import UnreachableError
from captiond_clients.events import Event, parse
from captiond_clients.printable import printable
from captiond_clients.status_line import StatusLine
from captiond_clients.terminal import CaptionsView
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


@pytest.mark.parametrize("wish", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TERM": "xterm-256color"}])
def test_a_pipe_gets_plain_lines_whatever_the_environment_says(
    wish: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in wish.items():
        monkeypatch.setenv(name, value)
    with printer("text", name_streams=False) as printed:
        printed.show(parse(PARTIAL))
        printed.show(parse(FINAL))
        printed.refresh()
    assert capsys.readouterr().out == "Turn on the  [2Jlights.\n"


def test_without_colour_tentative_words_are_still_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = shown(parse(PARTIAL), terminal=True)
    assert "\x1b[2m the fan" in drawn
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", drawn)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(parse(PARTIAL), parse(FINAL), terminal=True) == "Turn on the  [2Jlights.\n"


def test_nothing_is_drawn_again_that_has_not_changed() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24)
    with CaptionsView(console, Console(file=io.StringIO())) as view:
        view.show(parse(PARTIAL))
        before = out.getvalue()
        view.refresh()
        assert out.getvalue() == before


def event(kind: str, **fields: object) -> Event:
    return parse(json.dumps({"type": kind, "stream": "hall", "seq": 1, **fields}))


def test_the_status_says_what_matters_most_first() -> None:
    status = StatusLine("http://captions.local:8765")
    assert status.line(0).plain == "○ connecting to captions.local:8765"
    status.take(event("hello", epoch="e", model="base.en"))
    assert status.line(0).plain == "● nobody speaks · base.en at captions.local:8765"
    final = {"segment": 1, "text": "old", "start_ms": 0, "end_ms": 1}
    status.take(event("transcript.final", **final))
    assert "nobody speaks" in status.line(0).plain, "a final may be history"
    status.take(event("stream.opened", source="websocket"))
    status.take(event("lag", behind_ms=3_210, level="warn"))
    assert status.line(0).plain == "● 3.2 s behind · hall · base.en at captions.local:8765"
    failure = UnreachableError("The line is\x1b[2J cut.")
    failure.retry_in_s = 2.5
    status.lost(failure, now=100.0)
    assert status.line(100.6).plain == "○ reconnecting in 2 s · The line is [2J cut."
    assert status.line(103.0).plain.startswith("○ reconnecting … · ")
    status.take(event("hello", epoch="e", model="base.en"))
    assert "nobody speaks" in status.line(0).plain


def test_of_many_streams_some_are_named() -> None:
    status = StatusLine()
    for number in range(9):
        status.take(event("stream.opened", stream=f"s{number}", source="websocket"))
    assert status.line(0).plain == "● s0, s1, s2, s3 and 5 more"


def test_subtitles_go_on_where_a_stream_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with printer("srt", name_streams=False) as printed:
        for text, start_ms in (("One.", 500), ("Two.", 4_000), ("Anew.", 700), ("On.", 900)):
            printed.show(
                event("transcript.final", segment=1, text=text, start_ms=start_ms, end_ms=start_ms + 100)
            )
    starts = re.findall(r"(\S+) -->", capsys.readouterr().out)
    assert starts == ["00:00:00,500", "00:00:04,000", "00:00:04,800", "00:00:05,000"]
