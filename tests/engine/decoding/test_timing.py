"""When tokens were said: the dynamic programming against its slow twin; what clear attention comes to."""

from __future__ import annotations

import numpy as np
import pytest
from captiond_engine.decoding.timing import median_filtered, token_times, warp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

# Numbers of a generator are never equal: where ways cost exactly the same the reference takes a third one.
grids = st.builds(
    lambda rows, columns, seed: np.random.default_rng(seed).standard_normal((rows, columns)),
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
)


def slow_warp(costs: NDArray[np.float64]) -> list[int]:
    """Cell by cell, as the definition says (openai-whisper timing.py, ``dtw_cpu`` and ``backtrace``)."""
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    step = np.zeros((rows + 1, columns + 1), int)
    for j in range(1, columns + 1):
        for i in range(1, rows + 1):
            both, down, along = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            step[i, j] = 0 if both < down and both < along else 1 if down < both and down < along else 2
            total[i, j] = costs[i - 1, j - 1] + (both, down, along)[step[i, j]]
    step[0, :], step[:, 0] = 2, 1
    entered: dict[int, int] = {}
    i, j = rows, columns
    while i > 0 or j > 0:
        if i > 0:
            entered[i - 1] = max(j - 1, 0)
        i, j = i - (step[i, j] != 2), j - (step[i, j] != 1)
    return [entered[row] for row in range(rows)]


@given(grids)
def test_rows_at_once_are_cells_one_by_one(costs: NDArray[np.float64]) -> None:
    assert warp(costs).tolist() == slow_warp(costs)


@given(st.tuples(st.integers(1, 3), st.integers(4, 20)), st.integers(0, 2**32 - 1))
def test_the_median_is_that_of_seven_neighbours(shape: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    padded = np.pad(x, [(0, 0), (3, 3)], mode="reflect")
    expected = [[np.median(padded[r, at : at + 7]) for at in range(shape[1])] for r in range(shape[0])]
    assert np.array_equal(median_filtered(x), np.array(expected, np.float32))


def test_what_is_too_short_is_not_filtered() -> None:
    x = np.array([[3.0, 1.0, 2.0]], np.float32)
    assert np.array_equal(median_filtered(x), x)


def looking_at(spans: list[tuple[int, int]], positions: int, heads: int = 2) -> NDArray[np.float32]:
    """Attention that lies evenly on one span for each row, and a little everywhere."""
    attended = np.full((len(spans), heads, positions), 1e-3, np.float32)
    for row, (start, end) in enumerate(spans):
        attended[row, :, start:end] = 1.0
    return attended / attended.sum(axis=2, keepdims=True)


def test_tokens_begin_where_the_attention_moves_on() -> None:
    """Rows: two of the prompt, of which the second says the first token; then three tokens."""
    spans = [(0, 60), (0, 12), (12, 30), (30, 48), (48, 60)]
    found = token_times(looking_at(spans, 60), first=1, tokens=3, heard=60)
    assert len(found.starts) == 4
    assert len(found.heeded) == 3
    for got, expected in zip(found.starts, (0, 12, 30, 48), strict=True):
        assert abs(got - expected) <= 3
    assert all(start <= at < end for at, (start, end) in zip(found.heeded, spans[1:4], strict=True))


@pytest.mark.parametrize("heard", [20, 60, 500])
def test_nothing_is_heard_in_the_padding(heard: int) -> None:
    spans = [(0, 60), (0, 20), (50, 60), (55, 60)]
    found = token_times(looking_at(spans, 60), first=1, tokens=2, heard=heard)
    assert max(*found.starts, *found.heeded) <= min(heard, 60)


def test_a_text_cut_off_ends_where_the_sound_does() -> None:
    """The last token was said, and not read again: there is no row after it."""
    spans = [(0, 40), (0, 15), (15, 40)]
    found = token_times(looking_at(spans, 40), first=1, tokens=2, heard=40)
    assert len(found.starts) == 3
    assert found.starts[-1] == 40


def test_no_text_has_no_times() -> None:
    assert token_times(looking_at([(0, 4), (0, 4)], 8), first=1, tokens=0, heard=8) == ((), ())


@given(
    rows=st.integers(2, 12),
    positions=st.integers(1, 40),
    heard=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_starts_never_go_back(rows: int, positions: int, heard: int, seed: int) -> None:
    attended = np.random.default_rng(seed).random((rows, 3, positions), np.float32)
    found = token_times(attended, first=1, tokens=rows - 2, heard=heard)
    assert list(found.starts) == sorted(found.starts)
    assert all(0 <= at <= min(heard, positions) for at in (*found.starts, *found.heeded))
    assert len(found.starts) in (0, rows - 1)
