"""``captiond listen`` in a real terminal: what stays is what was said, whatever happens to the window."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.clients.fake_daemon import FakeDaemon, Spoken, fake_daemon
from tests.clients.tmux import Tmux, tmux

LONG = " ".join(f"word{number}" for number in range(20))
WIDE = "日本語の字幕はとても長いので折り返されます" * 3


def begin(daemon: FakeDaemon, stream: str, committed: str, tentative: str) -> None:
    spoken = daemon.streams.setdefault(stream, Spoken(stream))
    times = {"start_ms": 0, "heard_until_ms": 900, "revision": 1}
    daemon.tell(
        spoken,
        "transcript.partial",
        segment=spoken.segments,
        committed=committed,
        tentative=tentative,
        **times,
    )


def end(daemon: FakeDaemon, stream: str, text: str) -> None:
    spoken = daemon.streams.setdefault(stream, Spoken(stream))
    daemon.tell(
        spoken, "transcript.final", segment=spoken.segments, text=text, start_ms=0, end_ms=900, language="en"
    )
    spoken.segments += 1


@asynccontextmanager
async def listening(folder: Path, columns: int, rows: int) -> AsyncIterator[tuple[FakeDaemon, Tmux]]:
    async with fake_daemon() as daemon:
        command = [sys.executable, "-m", "captiond", "listen", "--url", daemon.url]
        async with tmux(folder, command, columns=columns, rows=rows) as terminal:
            await terminal.until("● nobody speaks")
            while not daemon.listeners:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            yield daemon, terminal


def joined(rows: list[str]) -> str:
    """What was written, however it was wrapped."""
    return "".join(" ".join(rows).split())


async def test_two_streams_are_shown_while_they_speak_and_only_finals_stay(tmp_path: Path) -> None:
    async with listening(tmp_path, 80, 24) as (daemon, terminal):
        begin(daemon, "hall", "Turn on", " the fan")
        begin(daemon, "porch", "What", " is")
        screen = await terminal.until("hall: Turn on the fan", "porch: What is", "● hall, porch · none at")
        assert screen[-1].startswith("●")
        end(daemon, "hall", "Turn on the lights.")
        await terminal.until("hall: Turn on the lights.")
        end(daemon, "porch", "What is the time?")
        await terminal.until("porch: What is the time?")
        daemon.tell(daemon.streams["hall"], "lag", behind_ms=3_210, level="warn")
        await terminal.until("● 3.2 s behind · hall, porch")
        daemon.tell(daemon.streams["hall"], "lag", behind_ms=100, level="ok")
        await terminal.until("● hall, porch")
        terminal.type("C-c")
        await terminal.until("ended with 130")
        assert terminal.everything() == [
            "hall: Turn on the lights.",
            "porch: What is the time?",
            "ended with 130",
        ]


async def test_a_window_that_is_resized_keeps_each_final_once_and_nothing_else(tmp_path: Path) -> None:
    async with listening(tmp_path, 80, 24) as (daemon, terminal):
        said = [f"earlier {number}" for number in range(30)]  # so that the window is full
        for text in said:
            end(daemon, "hall", text)
        await terminal.until(said[-1])
        for number, (columns, rows) in enumerate(
            [(40, 10), (120, 30), (30, 16), (33, 40), (60, 8), (80, 24)], start=1
        ):
            for text in (f"{LONG} long{number}", f"{WIDE} wide{number}"):
                begin(daemon, "hall", text[: len(text) // 2], text[len(text) // 2 :])
                await terminal.until(text[-5:])
                await terminal.resize(columns, rows)
                terminal.type("x", "Enter")  # what is typed is not echoed, so it moves nothing
                begin(daemon, "hall", text[: len(text) // 2], f"{text[len(text) // 2 :]} resized{number}")
                await terminal.until(f"resized{number}")
                end(daemon, "hall", text)
                said.append(text)
        end(daemon, "hall", "The last.")
        screen = await terminal.until("The last.")
        assert screen[-1].startswith("● hall")
        terminal.type("C-c")
        await terminal.until("ended with 130")
        written = joined(terminal.everything())
        assert written == joined([*(f"hall: {text}" for text in said), "hall: The last. ended with 130"])


async def test_what_does_not_fit_into_the_window_shows_its_newest_words(tmp_path: Path) -> None:
    async with listening(tmp_path, 40, 10) as (daemon, terminal):
        begin(daemon, "hall", " ".join([LONG] * 9), " newest")
        screen = await terminal.until("newest")
        assert len(screen) == 5, "the other half of the window is left to what was said before"
        assert screen[-1].startswith("●")
        end(daemon, "hall", "Short after all.")
        await terminal.until("Short after all.")
        terminal.type("C-c")
        await terminal.until("ended with 130")
        assert [row for row in terminal.everything() if row] == ["hall: Short after all.", "ended with 130"]


async def test_a_daemon_that_goes_away_is_told_below_and_not_in_the_scrollback(tmp_path: Path) -> None:
    async with listening(tmp_path, 80, 24) as (daemon, terminal):
        end(daemon, "hall", "One.")
        begin(daemon, "hall", "Left", " open")
        await terminal.until("Left open")
        daemon.refuse = [503] * 3
        daemon.cut_listeners()
        await terminal.until("○ reconnecting in")
        assert "Left" not in "".join(terminal.screen())
        await terminal.until("● ")
        end(daemon, "hall", "Two.")
        await terminal.until("hall: Two.")
        terminal.type("C-c")
        await terminal.until("ended with 130")
        assert terminal.everything() == ["hall: One.", "hall: Two.", "ended with 130"]


async def test_what_others_write_to_standard_error_comes_above(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from rich.console import Console\n"
        "from captiond_clients.events import Partial\n"
        "from captiond_clients.terminal import CaptionsView\n"
        "with CaptionsView(Console(), Console(stderr=True)) as view:\n"
        "    view.show(Partial(type='', segment=1, revision=1, committed='being', tentative=' said',\n"
        "                      start_ms=0, heard_until_ms=0))\n"
        "    sys.stderr.write('half a '); sys.stderr.write('line\\n'); view.note('a note')\n"
        "    print('looked at', file=sys.stderr); input()\n"
    )
    async with tmux(tmp_path, [sys.executable, "-c", program], columns=60, rows=10) as terminal:
        screen = await terminal.until("looked at", "being said")
        assert screen[:4] == ["half a line", "a note", "looked at", "being said"]
        terminal.type("Enter")
        await terminal.until("ended with 0")
        assert terminal.everything() == ["half a line", "a note", "looked at", "ended with 0"]
