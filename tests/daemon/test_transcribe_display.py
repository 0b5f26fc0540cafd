"""The line that says how far a transcription is: in any width, without knowing the length, in a log."""

from __future__ import annotations

import pytest
from captiond.transcribe.display import Display, clock
from hypothesis import given
from hypothesis import strategies as st

MINUTE, HOUR = 60_000, 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(width: int, *, done_ms: int, length_ms: int | None, took_s: float, name: str = "talk.flac") -> str:
    time = Clock()
    display = Display(clock=time)
    display.begin(name, length_ms)
    time.now += took_s
    display.move(done_ms)
    return display.line(width).plain


def test_what_matters_most_is_kept_in_a_narrow_window() -> None:
    ways = {
        width: shown(width, done_ms=12 * MINUTE, length_ms=HOUR, took_s=60) for width in (79, 60, 39, 28, 15)
    }
    assert ways == {
        79: "talk.flac  ━━━━╸━━━━━━━━━━━━━━━━━━  12:00 / 1:00:00 · 12x real time · 4:00 left",
        60: "━━━━━━━━━━━━━━━  12:00 / 1:00:00 · 12x real time · 4:00 left",
        39: "12:00 / 1:00:00 · 12x · 4:00 left",
        28: "12:00 / 1:00:00 · 4:00 left",
        15: "12:00 / 1:00:00",
    }


def test_without_a_length_there_is_no_bar_and_no_end() -> None:
    assert shown(79, done_ms=90_000, length_ms=None, took_s=45) == "talk.flac  1:30 · 2x real time"
    assert shown(79, done_ms=90_000, length_ms=0, took_s=45) == "talk.flac  1:30 · 2x real time"


def test_nothing_is_foretold_from_the_first_moment() -> None:
    assert shown(79, done_ms=0, length_ms=HOUR, took_s=0.5).endswith("0:00 / 1:00:00")


def test_the_time_that_is_left_passes_between_two_answers() -> None:
    time = Clock()
    display = Display(clock=time)
    display.begin("a", HOUR)
    time.now += 60
    display.move(12 * MINUTE)
    assert display.line(79).plain.endswith("12x real time · 4:00 left")
    time.now += 10
    assert display.line(79).plain.endswith("12x real time · 3:50 left")
    time.now += 1_000
    assert display.line(79).plain.endswith("0:00 left")


@given(
    st.integers(1, 200),
    st.integers(0, 20 * HOUR),
    st.one_of(st.none(), st.integers(0, 20 * HOUR)),
    st.floats(0, 100_000),
    st.text(max_size=60),
)
def test_it_is_never_wider_than_it_may_be(
    width: int, done_ms: int, length_ms: int | None, took_s: float, name: str
) -> None:
    """Also where a file is longer than it says. Below the width of a time there is nothing to choose."""
    line = shown(width, done_ms=done_ms, length_ms=length_ms, took_s=took_s, name=name)
    assert len(line) <= max(width, 20)
    assert "\n" not in line


def test_elsewhere_it_is_a_plain_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    time = Clock()
    with Display(clock=time) as display:
        display.begin("talk.flac", HOUR)
        for minute in range(1, 11):
            time.now += 5
            display.move(minute * MINUTE)
        display.end(10 * MINUTE, "out/talk.srt")
        display.write("said\n")
    told = capsys.readouterr()
    assert told.out == "said\n"
    assert told.err.splitlines() == [
        "talk.flac: 6:00 of 1:00:00 (10%), 12x real time, about 4:30 left",
        "talk.flac: 10:00 in 0:50 (12x real time) -> out/talk.srt",
    ]


def test_who_wants_quiet_is_told_of_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    time = Clock()
    with Display(quiet=True, clock=time) as display:
        display.begin("talk.flac", None)
        time.now += 100
        display.move(MINUTE)
        display.note("captiond: broken \x1b[2J")
        display.end(MINUTE)
    assert capsys.readouterr().err == "captiond: broken \\x1b[2J\n"


def test_times_are_as_people_write_them() -> None:
    assert [clock(ms) for ms in (0, 59_999, 60_000, HOUR - 1, HOUR, 100 * HOUR)] == [
        "0:00",
        "0:59",
        "1:00",
        "59:59",
        "1:00:00",
        "100:00:00",
    ]
