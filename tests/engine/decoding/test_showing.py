"""Words that may yet change are shown when they are likely to stay."""

from __future__ import annotations

from captiond_engine.decoding.showing import Steadiness
from captiond_engine.types import Word
from hypothesis import given
from hypothesis import strategies as st


def words(**likely: float) -> list[Word]:
    return [Word(f" {text}", 0, 0, probability) for text, probability in likely.items()]


def test_likely_words_are_shown_at_once_up_to_the_first_that_is_not() -> None:
    assert Steadiness(0.6).update(words(turn=0.9, on=0.6, the=0.5, light=0.9), 0) == 2


def test_an_unlikely_word_is_shown_when_it_comes_again() -> None:
    steadiness = Steadiness(0.6)
    assert steadiness.update(words(turn=0.9, of=0.3), 0) == 1
    assert steadiness.update(words(turn=0.9, off=0.3), 0) == 1
    assert steadiness.update(words(turn=0.9, off=0.3, the=0.2), 0) == 2


def test_what_is_committed_is_shown_in_any_case() -> None:
    assert Steadiness(1.0).update(words(turn=0.1, on=0.1, the=0.1), 2) == 2


def test_everything_is_shown_where_nothing_is_asked() -> None:
    assert Steadiness(0.0).update(words(turn=0.0, on=0.0), 0) == 2


def test_a_loop_is_not_shown() -> None:
    loop = [Word(" la", 0, 0, 1.0)] * 9
    assert Steadiness(0.5).update(loop, 0) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), max_size=9), st.integers(0, 9))
def test_the_count_is_of_words_that_are_there(parts: list[tuple[str, float]], committed: int) -> None:
    given_words = [Word(f" {text}", 0, 0, probability) for text, probability in parts]
    committed = min(committed, len(given_words))
    assert committed <= Steadiness(0.5).update(given_words, committed) <= len(given_words)
