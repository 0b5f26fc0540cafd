"""A pause behind a sentence that was surely heard is taken for its end."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.ending import SURE, surely_ended
from captiond_engine.types import Word
from hypothesis import given
from hypothesis import strategies as st


def words(text: str, *likely: float) -> list[Word]:
    return [Word(f" {word}", 0, 0, p) for word, p in zip(text.split(), likely, strict=True)]


@pytest.mark.parametrize("mark", [".", "?", "!", "…", "。", "？", "！"])
def test_a_sentence_ends_with_its_mark(mark: str) -> None:
    assert surely_ended(words(f"turn it off{mark}", 0.9, 0.9, 0.9))


@pytest.mark.parametrize("text", ["turn it off", "turn it off,", "it. off"])
def test_without_one_it_may_go_on(text: str) -> None:
    assert not surely_ended(words(text, *[1.0] * len(text.split())))


def test_nothing_ends_nothing() -> None:
    assert not surely_ended([])


def test_a_sentence_that_was_hardly_heard_may_be_another() -> None:
    assert not surely_ended(words("turn it off.", 0.9, 0.4, 0.9))
    assert not surely_ended(words("off.", 0.0))


def test_the_sentences_before_do_not_count() -> None:
    assert surely_ended(words("who? turn it off.", 0.1, 0.9, 0.9, 0.9))
    assert not surely_ended(words("yes. turn it off.", 1.0, 0.9, 0.4, 0.9))


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=9))
def test_a_long_sentence_is_held_to_no_more_than_a_short_one(likely: list[float]) -> None:
    text = " ".join(["go"] * len(likely)) + "."
    twice = " ".join(["go"] * 2 * len(likely)) + "."
    if abs(_mean(likely) - SURE) > 1e-6:
        assert surely_ended(words(text, *likely)) == surely_ended(words(twice, *likely, *likely))


def _mean(likely: list[float]) -> float:
    product = 1.0
    for p in likely:
        product *= p ** (1 / len(likely))
    return product
