from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.align import best_path, word_times
from engine.training.text import LETTERS


def collapsed(symbols: tuple[int, ...]) -> list[int]:
    return [s for s, _ in itertools.groupby(symbols) if s != 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 2**32))
def test_no_other_way_to_say_it_is_likelier(frames: int, labels: list[int], seed: int) -> None:
    """Against every sequence of symbols that collapses to the labels."""
    told = np.random.default_rng(seed).normal(0, 2, (frames, 4))
    told -= np.log(np.exp(told).sum(axis=1, keepdims=True))
    every = [s for s in itertools.product(range(4), repeat=frames) if collapsed(s) == labels]
    if not every:
        return
    best = max(sum(told[t, symbol] for t, symbol in enumerate(s)) for s in every)
    path, mean = best_path(told, labels)
    assert np.isclose(mean * frames, best)
    places = [0, *itertools.chain.from_iterable((label, 0) for label in labels)]
    assert collapsed(tuple(places[p] for p in path)) == labels


def test_words_stand_where_their_letters_are_heard() -> None:
    said = "__go__ __up__"
    symbols = [LETTERS.get(c, 0) for c in said]
    told = np.full((len(said), 29), -9.0)
    told[np.arange(len(said)), symbols] = -0.01
    assert word_times(told, "Go up.") == [(0.02, 0.1), (0.16, 0.24)]


def test_what_is_not_recognised_has_no_times() -> None:
    assert word_times(np.full((40, 29), np.log(1 / 29)), "Go up.") is None
    assert word_times(np.full((2, 29), -0.1), "Go up.") is None
