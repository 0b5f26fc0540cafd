"""What rounds amount to: by rows, with their spread, against whichever peer is best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bench.figures import batch_figures, line_through, spread
from engine.bench.linearity import figures_of
from tests.bench import made_up
from tests.bench.made_up import EXACT_1, INT8_1, OPENAI, OURS, OURS_INT8

FOUND = batch_figures(made_up.rounds(), rows=2)


def test_times_are_those_of_a_row_with_their_spread() -> None:
    assert FOUND[OURS.name]["decode_ms"] == {"min": 100.0, "median": 200.0, "max": 300.0}
    assert FOUND[OURS.name]["mel_ms"]["median"] == 10.0
    assert FOUND[OURS.name]["cpu_ms"]["median"] == 1000.0


def test_whole_is_the_median_of_sums_not_the_sum_of_medians() -> None:
    """Rounds of 620, 440 and 820 ms for two rows."""
    assert FOUND[OURS.name]["whole_ms"] == {"min": 220.0, "median": 310.0, "max": 410.0}


def test_ratios_are_to_the_best_number_of_threads_of_each_step() -> None:
    """faster-whisper: int8 encodes best with two threads and decodes best with one; float32 too."""
    assert FOUND[OURS.name]["to_int8"] == {"encode": 2.0, "decode": 4.0, "whole": round(310 / 175, 3)}
    assert FOUND[OURS.name]["to_float32"] == {"encode": 1.0, "decode": 0.8, "whole": round(310 / 425, 3)}
    assert FOUND[INT8_1.name]["to_int8"]["decode"] == 1.0


def test_our_own_int8_is_no_peer_of_ours() -> None:
    found = batch_figures({OURS: made_up.rounds()[OURS], OURS_INT8: made_up.rounds()[OURS_INT8]}, rows=2)
    assert "to_int8" not in found[OURS.name]
    assert "to_float32" not in found[OURS.name]


def test_tokens_are_counted_against_the_reference_in_all_rows() -> None:
    assert FOUND[OURS_INT8.name]["same_tokens"] == 5
    assert {one["tokens"] for one in FOUND.values()} == {6}
    rounds = made_up.rounds() | {OPENAI: [made_up.made_up(0.1, 0.3, 1.5, tokens=(7, 8, 3))] * 3}
    assert batch_figures(rounds, rows=2)[OURS.name]["same_tokens"] == 4


def test_a_contender_that_changes_its_mind_is_told() -> None:
    rounds = made_up.rounds() | {EXACT_1: [made_up.made_up(0.1, 0.3, 1.5, tokens=(t, 2, 3)) for t in (1, 2)]}
    found = batch_figures(rounds, rows=2)
    assert [found[entry.name]["same_every_round"] for entry in (OURS, EXACT_1)] == [True, False]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_spread_is_in_order(values: list[float]) -> None:
    found = spread(values)
    assert found["min"] <= found["median"] <= found["max"]


def test_a_line_is_found_and_a_curve_is_not_taken_for_one() -> None:
    x = [8.0, 50.0, 100.0, 400.0]
    line = line_through(x, [3 + 2 * value for value in x])
    assert line == {"slope": 2.0, "intercept": 3.0, "r2": 1.0}
    assert line_through(x, [value**3 for value in x])["r2"] < 0.99
    assert line_through(x, [5.0] * 4) == {"slope": pytest.approx(0), "intercept": 5.0, "r2": 1.0}


def test_a_token_costs_the_same_with_a_cache_and_more_and_more_without() -> None:
    """2 ms a token after 5 ms; without, a token after N others takes 10 + N / 10 ms."""
    lengths = (10, 50, 100, 200)
    found = figures_of(
        {length: 5 + 2.0 * length for length in lengths},
        {length: 10 + length / 10 for length in (0, *lengths)},
    )
    assert found["with_cache"]["token_ms"] == [2.5, 2.0, 2.0, 2.0]
    assert found["with_cache"]["total_fit"] == {"slope": 2.0, "intercept": 5.0, "r2": 1.0}
    assert found["with_cache"]["token_fit"]["slope"] == pytest.approx(0)
    assert (found["with_cache"]["growth"], found["without_cache"]["growth"]) == (1.0, 2.0)
    assert found["without_cache"]["token_fit"] == {"slope": 0.1, "intercept": 10.0, "r2": 1.0}
    # The area under a straight line, from 0 to N.
    assert found["without_cache"]["total_ms"] == [10 * n + n * n / 20 for n in lengths]
