"""Words from tokens: every token is in a word, times are in order and inside, probabilities are right."""

from __future__ import annotations

import itertools
import math

import pytest
from captiond_engine.decoding.align import Detokenizer, spread
from captiond_engine.types import Decoding, Word
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.scripted import ScriptedTokenizer

texts = st.lists(st.text("abcdefgh", min_size=1, max_size=9), max_size=12)


def words_of(parts: list[str]) -> list[Word]:
    return [Word(f" {part}", 0, 0, 0.5, (i,)) for i, part in enumerate(parts)]


@given(parts=texts, start=st.integers(0, 10**6), length=st.integers(0, 10**6))
def test_times_are_in_order_inside_and_without_holes(parts: list[str], start: int, length: int) -> None:
    placed = spread(words_of(parts), start, start + length)
    assert [word.text for word in placed] == [f" {part}" for part in parts]
    times = [time for word in placed for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(a.end == b.start for a, b in itertools.pairwise(placed))
    if placed:
        assert (placed[0].start, placed[-1].end) == (start, start + length)


def test_a_long_word_takes_longer_than_a_short_one() -> None:
    placed = spread(words_of(["a", "fortnight"]), 0, 1_000)
    assert [(word.start, word.end) for word in placed] == [(0, 100), (100, 1_000)]


def test_a_stretch_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError):
        spread(words_of(["a"]), 10, 9)


def test_words_have_their_tokens_and_the_mean_of_their_probabilities() -> None:
    class TwoTokenWords(ScriptedTokenizer):
        def split_words(self, tokens):  # type: ignore[no-untyped-def]
            pieces = super().split_words(tokens)
            first, second, third = pieces
            return [type(first)(first.text + second.text, first.tokens + second.tokens), third]

    tokenizer = TwoTokenWords()
    decoding = Decoding(tuple(tokenizer.encode("un likely now")), (math.log(0.5), math.log(0.125), 0.0))
    words = Detokenizer(tokenizer).words(decoding, 0, 1_000)
    assert [(word.text, word.tokens) for word in words] == [
        (" un likely", decoding.tokens[:2]),
        (" now", decoding.tokens[2:]),
    ]
    assert words[0].probability == pytest.approx(0.25)
    assert words[1].probability == 1.0


def test_forced_words_come_first_and_keep_their_probability() -> None:
    tokenizer = ScriptedTokenizer()
    decoding = Decoding(tuple(tokenizer.encode("two")), (0.0,))
    words = Detokenizer(tokenizer).words(decoding, 0, 600, [Word(" one", 0, 500, 0.3, (7,))])
    assert [(w.text, w.start, w.end, w.probability) for w in words] == [
        (" one", 0, 300, 0.3),
        (" two", 300, 600, 1.0),
    ]
