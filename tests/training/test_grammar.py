from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.grammar import Grammar, Sentence

DOMAIN = {"digits", "numbers", "time", "date", "weather", "command", "short"}
SEEDS = st.integers(0, 2**32)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_seed_tells_the_sentence(seed: int) -> None:
    assert Grammar().sentence(random.Random(seed)) == Grammar().sentence(random.Random(seed))


def test_the_domain_is_kept_and_written_as_whisper_writes() -> None:
    grammar, r = Grammar(), random.Random(5)
    for _ in range(3000):
        sentence = grammar.sentence(r)
        assert sentence.kind in DOMAIN
        assert sentence.text[0].isupper()
        assert re.fullmatch(r"[A-Za-z', ]+[.?!]", sentence.text), sentence.text
        assert not re.search(r"\b[Aa] (?!one\b)[aeiou]|\b[Aa]n one\b", sentence.text), "an apple, not a apple"
        assert not re.search(r"(chs|shs|xs|sss|[^aeiou]ys)\b", sentence.text), sentence.text


def test_the_wide_domain_says_more() -> None:
    grammar = Grammar(every_kind=True)
    assert {grammar.sentence(random.Random(n)).kind for n in range(400)} > DOMAIN


def test_every_word_that_is_said_is_known() -> None:
    grammar, r = Grammar(every_kind=True), random.Random(3)
    known = {w.lower() for w in grammar.words}
    for _ in range(3000):
        for word in re.findall(r"[A-Za-z']+", grammar.sentence(r).text.lower()):
            bare = word.removesuffix("'s")
            assert {word, bare, bare.removesuffix("s")} & known or word == "an", word


def test_who_says_it_does_not_decide_whether_it_is_kept_for_tests() -> None:
    grammar, r = Grammar(), random.Random(1)
    sentences = [grammar.sentence(r) for _ in range(2000)]
    kept = [s for s in sentences if s.kept_for_tests]
    assert 40 < len(kept) < 140  # one in 25
    assert all(Sentence("any", s.text.upper()).kept_for_tests for s in kept)
