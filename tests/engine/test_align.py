"""Words from tokens: every token is in a word, times are in order and inside, probabilities are right."""

from __future__ import annotations

import itertools
import math

import pytest
from captiond_engine.decoding.align import Detokenizer, join, spread
from captiond_engine.models import BUNDLED
from captiond_engine.types import Decoding, Word
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.folder import read_json
from captiond_engine.whisper.tokens import WhisperTokenizer
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
    forced = Word(" one", 0, 500, 0.3, tuple(tokenizer.encode("one")))
    words = Detokenizer(tokenizer).words(decoding, 0, 600, [forced])
    assert [(w.text, w.start, w.end, w.probability) for w in words] == [
        (" one", 0, 300, pytest.approx(0.3)),
        (" two", 300, 600, 1.0),
    ]


def test_a_mark_that_follows_forced_words_joins_the_last_of_them() -> None:
    config = WhisperConfig.from_hugging_face(read_json(BUNDLED / "demo-en" / "config.json"))
    tokenizer = WhisperTokenizer.from_hugging_face(BUNDLED / "demo-en", config)
    detokenizer = Detokenizer(tokenizer)
    said = detokenizer.words(Decoding(tuple(tokenizer.encode(" Three four.")), (0.0,) * 3), 0, 600)
    assert [word.text for word in said] == [" Three", " four."]
    held = [said[0], detokenizer.without_final_marks(said[1])]
    assert [word.text for word in held] == [" Three", " four"]
    on = detokenizer.words(Decoding(tuple(tokenizer.encode(", nine.")), (0.0,) * 3), 0, 600, held)
    assert [word.text for word in on] == [" Three", " four,", " nine."]
    assert detokenizer.without_final_marks(said[0]) is said[0]


TEXTS = st.lists(st.sampled_from(["one", "two", "three", "Three", "four.", "five,"]), max_size=8)


@given(told=TEXTS, heard=TEXTS)
def test_what_was_told_is_continued_and_never_changed(told: list[str], heard: list[str]) -> None:
    committed = [Word(f" {text.rstrip('.,')}", 0, 9, 0.9) for text in told]
    words = [Word(f" {text}", 0, 9, 0.9) for text in heard]
    joined = "".join(word.text for word in join(committed, words))
    assert joined.startswith("".join(word.text for word in committed))
    if joined != "".join(word.text for word in committed):
        assert not words or joined.endswith(words[-1].text)


@given(heard=TEXTS, count=st.integers(0, 8))
def test_a_hypothesis_that_agrees_is_taken_as_it_is(heard: list[str], count: int) -> None:
    words = [Word(f" {text}", 0, 9, 0.9) for text in heard]
    committed = [Word(word.text.rstrip(".,"), 0, 9, 0.9) for word in words[:count]]
    expected = [word.text for word in committed[:-1]] + [
        word.text for word in words[max(0, len(committed) - 1) :]
    ]
    assert [word.text for word in join(committed, words)] == expected


@pytest.mark.parametrize(
    ("told", "heard", "joined"),
    [
        ("turn on the kitten", "turn on the kitchen lights at six.", "turn on the kitten lights at six."),
        ("three four", "zero three four nine", "three four nine"),
        ("closes at one forty", "closes at one thirty today.", "closes at one forty today."),
    ],
)
def test_only_the_words_that_were_told_wrongly_stay_wrong(told: str, heard: str, joined: str) -> None:
    committed, words = ([Word(f" {text}", 0, 9, 0.9) for text in line.split()] for line in (told, heard))
    assert "".join(word.text for word in join(committed, words)).strip() == joined
