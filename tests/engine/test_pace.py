"""One stream's place in time, by the clock that it is given."""

from __future__ import annotations

import pytest
from captiond_engine.pace import AHEAD_S, LEAST_SHARE, LONGEST_LEAD_S, SPEAKING_S, Pace
from hypothesis import given
from hypothesis import strategies as st

S = 16_000


@given(
    speed=st.floats(0.9, 1.04),
    pieces=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=60),
    stalls=st.lists(st.floats(0.0, 3.0), min_size=60, max_size=60),
    behind_s=st.floats(0.0, 20.0),
)
def test_a_live_stream_is_never_ahead_whatever_its_clock_and_its_network_do(
    speed: float, pieces: list[float], stalls: list[float], behind_s: float
) -> None:
    """Its sound arrives in pieces, late ones in a heap, from a sound card that runs a little fast."""
    said_s = heard = 0.0
    pace = Pace(100.0, 0)
    for piece_s, stall_s in zip(pieces, stalls, strict=False):
        said_s += piece_s + stall_s
        heard += (piece_s + stall_s) * speed * S
        oldest = round(max(0.0, heard - behind_s * S))
        pace.hear(100.0 + said_s, round(heard), oldest)
        assert not pace.is_ahead(100.0 + said_s, oldest)
        assert pace.said_at(oldest) <= 100.0 + said_s + 1e-3


def test_a_sound_card_that_is_fast_for_a_day_does_not_run_ahead() -> None:
    pace = Pace(0.0, 0)
    for minute in range(1, 24 * 60):
        heard = round(minute * 60 * S * 1.01)
        pace.hear(minute * 60.0, heard, heard)
    assert pace.said_at(heard) == pytest.approx(minute * 60.0)


def test_what_was_buffered_while_connecting_is_live() -> None:
    pace = Pace(0.0, 0)
    pace.hear(0.1, round(2.5 * S), 0)
    assert not pace.is_ahead(0.1, round(2.5 * S))


@given(read_s=st.floats(4.0, 5_000.0), backlog_s=st.floats(0.0, 30.0))
def test_who_reads_ahead_is_live_again_when_the_pace_of_speech_has_caught_up(
    read_s: float, backlog_s: float
) -> None:
    pace = Pace(0.0, 0)
    heard = oldest = 0
    while heard < read_s * S:
        heard += S // 4
        oldest = max(0, heard - round(backlog_s * S))
        pace.hear(0.5, heard, oldest)
    lead_s = pace.said_at(oldest) - 0.5
    assert lead_s <= LONGEST_LEAD_S + 1e-6, "however much it was given before"
    assert pace.is_ahead(0.5, oldest) == (lead_s > AHEAD_S)
    later = 0.5 + max(0.0, lead_s - AHEAD_S) + 0.01
    pace.hear(later, heard, oldest)
    assert not pace.is_ahead(later, oldest)


@given(speech=st.floats(0.0, 1.0), fast=st.sampled_from([1.0, 20.0]))
def test_the_share_of_speech_is_found_within_minutes_and_unknown_counts_as_all(
    speech: float, fast: float
) -> None:
    pace = Pace(0.0, 0)
    assert pace.share == 1.0
    for number in range(1, 61):
        heard = number * 10 * S
        pace.hear(number * 10 / fast, heard, heard)
        pace.cover(heard - 10 * S, heard - 10 * S + round(speech * 10 * S))
    assert pace.share == pytest.approx(max(LEAST_SHARE, speech), abs=0.15)


def test_who_sends_nothing_speaks_less_and_less() -> None:
    pace = Pace(0.0, 0)
    pace.hear(SPEAKING_S, 0, 0)
    assert pace.share == pytest.approx(0.37, abs=0.01)


def test_speech_counts_once_however_often_it_is_decoded() -> None:
    pace = Pace(0.0, 0)
    assert pace.cover(S, 3 * S) == 2.0
    assert pace.cover(S, 3 * S) == 0.0
    assert pace.cover(S, 4 * S) == 1.0
    assert pace.cover(9 * S, 10 * S) == 1.0
