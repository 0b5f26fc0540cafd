"""What batches cost, learnt from those that were run."""

from __future__ import annotations

import pytest
from captiond_engine.batch_cost import OUTLIER, BatchCost
from hypothesis import given, settings
from hypothesis import strategies as st

batches = st.lists(st.tuples(st.integers(1, 8), st.floats(0.5, 30.0)), min_size=1, max_size=40)


def test_nothing_is_expected_before_the_first_batch() -> None:
    assert BatchCost().expect(1, 6.0) is None


@settings(max_examples=30, deadline=None)
@given(fixed=st.floats(0.001, 1), per_job=st.floats(0.001, 1), per_second=st.floats(0.0001, 0.05))
def test_costs_are_found_where_batches_differ(fixed: float, per_job: float, per_second: float) -> None:
    cost = BatchCost()
    for number in range(200):
        jobs, sound_s = 1 + number % 6, 3.0 + 7 * number % 25
        cost.measure(jobs, sound_s, fixed + per_job * jobs + per_second * sound_s)
    for jobs, sound_s in ((1, 3.0), (4, 24.0), (8, 60.0)):
        true_s = fixed + per_job * jobs + per_second * sound_s
        assert cost.expect(jobs, sound_s) == pytest.approx(true_s, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(measured=batches, took=st.lists(st.floats(0, 10), min_size=40, max_size=40))
def test_no_cost_is_negative_and_more_never_costs_less(
    measured: list[tuple[int, float]], took: list[float]
) -> None:
    cost = BatchCost()
    for (jobs, each_s), took_s in zip(measured, took, strict=False):
        cost.measure(jobs, jobs * each_s, took_s)
        assert min(cost.costs) >= 0
    told = [cost.expect(jobs, jobs * 6.0) for jobs in range(1, 9)]
    assert told == sorted(t for t in told if t is not None)


def test_a_larger_batch_is_hoped_to_be_cheap_until_it_was_measured_and_again_much_later() -> None:
    cost = BatchCost()

    def alone(times: int) -> None:
        for _ in range(times):
            cost.measure(1, 6.0, 0.1)

    def twice_as_much() -> float:
        two = cost.expect(2, 12.0)
        assert two is not None
        return two / 0.1

    alone(20)
    assert twice_as_much() == pytest.approx(1.33, abs=0.05)
    for _ in range(3):
        cost.measure(2, 12.0, 0.2)
    assert twice_as_much() > 1.8
    alone(20)
    assert twice_as_much() > 1.6, "it is remembered for a while"
    alone(1_000)
    assert twice_as_much() < 1.5, "and tried again in the end"


def test_a_stall_of_the_machine_is_no_cost_of_the_device_but_a_slow_device_is() -> None:
    cost = BatchCost()
    for _ in range(50):
        cost.measure(1, 6.0, 0.1)
    cost.measure(1, 6.0, 60.0)
    after = cost.expect(1, 6.0)
    assert after is not None
    assert after < 0.1 + OUTLIER * 0.1 / 30
    for _ in range(300):
        cost.measure(1, 6.0, 0.5)
    assert cost.expect(1, 6.0) == pytest.approx(0.5, rel=0.1)
