"""Words are placed where voice was heard, and pauses between sentences rather than within them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from captiond_engine.decoding.align import spread
from captiond_engine.decoding.placing import place
from captiond_engine.types import Word
from hypothesis import given
from hypothesis import strategies as st

SECOND = 16_000


def words(text: str) -> list[Word]:
    return [Word(f" {word}", 0, 0, 0.5, (7,)) for word in text.split()]


def starts(text: str, *stretches_s: tuple[float, float]) -> dict[str, float]:
    """When each word begins, in seconds; words must differ."""
    placed = place(words(text), [(round(a * SECOND), round(b * SECOND)) for a, b in stretches_s])
    return {word.text.strip(): word.start / SECOND for word in placed}


def test_a_pause_falls_where_a_sentence_ends() -> None:
    """By letters alone the pause would be before "now"."""
    found = starts("Turn on the light. What is the time now?", (1, 2.5), (4, 5.2))
    assert found["What"] == 4
    assert found["light."] < 2.5


def test_a_clause_is_better_than_a_word_and_the_letters_decide_between_equals() -> None:
    assert starts("on Monday, the first of May", (0, 1), (2, 3.3))["the"] == 2
    assert starts("one two three four five six", (0, 1), (2, 3))["four"] == 2


def test_voice_without_words_takes_none_of_them() -> None:
    """A cough before and after."""
    found = starts("What is the time now?", (0, 0.1), (2, 3.5), (6, 6.1))
    assert all(2 <= at < 3.5 for at in found.values())


def test_one_stretch_is_shared_by_length_as_always() -> None:
    text = words("turn on the lights")
    assert list(place(text, [(100, 9_000)])) == spread(text, 100, 9_000)


def test_words_without_a_stretch_are_refused() -> None:
    with pytest.raises(ValueError, match="no voice"):
        place(words("one"), [])


@given(
    st.lists(st.text("abc.,?", min_size=1, max_size=8), max_size=40),
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 60_000)), min_size=1, max_size=12),
)
def test_times_never_decrease_and_lie_where_voice_was(texts: list[str], parts: list[tuple[int, int]]) -> None:
    """Law 3."""
    at, stretches = 0, []
    for pause, voice in parts:
        stretches.append((at + pause, at + pause + voice))
        at += pause + voice
    said = words(" ".join(texts))
    placed = place(said, stretches)
    assert [word.text for word in placed] == [word.text for word in said]
    assert [(word.probability, word.tokens) for word in placed] == [(0.5, (7,))] * len(said)
    times = [time for word in placed for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(any(a <= w.start <= w.end <= b for a, b in stretches) for w in placed)
    assert all(a.end <= b.start for a, b in pairwise(placed))
