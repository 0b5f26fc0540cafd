"""How much of a device's time a speaker needs, as it was measured."""

from __future__ import annotations

import pytest
from captiond_engine.capacity import FINALS_PER_S, PROBES_A_PASS, Capacity
from hypothesis import given
from hypothesis import strategies as st


def test_where_nothing_is_known_nothing_is_needed() -> None:
    assert Capacity().per_speaker(1.0) == 0.0


def test_a_probe_stands_for_what_was_not_measured() -> None:
    capacity = Capacity()
    capacity.probed(0.5)
    capacity.probed(0.01)
    assert capacity.per_speaker(1.0) == pytest.approx(PROBES_A_PASS * 0.01 * (1 + FINALS_PER_S))


@given(
    partial_s=st.floats(0.01, 1.0),
    final_s=st.floats(0.01, 1.0),
    rows=st.integers(1, 8),
    finals=st.integers(1, 4),
    probe_s=st.sampled_from([None, 0.001, 0.1]),
)
def test_what_was_measured_takes_the_place_of_the_probe(
    partial_s: float, final_s: float, rows: int, finals: int, probe_s: float | None
) -> None:
    """Ten seconds of speech at a time: 20 partials, some finals, in batches of so many rows."""
    capacity = Capacity()
    if probe_s is not None:
        capacity.probed(probe_s)
    for _ in range(100):
        for _ in range(20):
            capacity.measure("partial", rows, sound_s=rows * 6.0, new_s=rows * 0.5, took_s=partial_s)
        for _ in range(finals):
            capacity.measure("final", rows, sound_s=rows * 6.0, new_s=0.0, took_s=final_s)
    needed = partial_s / rows + final_s / rows * finals / 10
    # What is known of one kind counts a little for the other: 4 passes of some 100. Speech fades as it comes.
    slack = 0.06 * (partial_s + final_s) / rows + 0.1 * needed
    assert capacity.per_speaker(1.0) == pytest.approx(needed, rel=0, abs=slack)
    assert capacity.per_speaker(2.0) < capacity.per_speaker(1.0)


def test_partials_that_are_made_of_spare_time_are_no_load() -> None:
    often, seldom = Capacity(), Capacity()
    for _ in range(200):
        often.measure("partial", 1, sound_s=6.0, new_s=0.25, took_s=0.1)
        seldom.measure("partial", 1, sound_s=6.0, new_s=1.0, took_s=0.1)
        for capacity, times in ((often, 1), (seldom, 4)):
            for _ in range(times):
                capacity.measure("final", 1, sound_s=6.0, new_s=0.0, took_s=0.1)
    assert often.per_speaker(1.0) == pytest.approx(seldom.per_speaker(1.0), rel=0.15)
