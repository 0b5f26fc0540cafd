"""What keeps training and test apart: sentences, voices, speakers."""

from __future__ import annotations

import random
from pathlib import Path

from engine.training import speak, voices
from engine.training.grammar import Grammar, Sentence
from engine.training.humans import prompts
from engine.training.mixing import Mixer


def test_no_kept_voice_is_heard_in_training() -> None:
    r = random.Random(1)
    heard, kept = (
        {(v.program, v.name) for v in (draw(r) for _ in range(5000))} for draw in (voices.heard, voices.kept)
    )
    assert not heard & kept
    assert len(heard) > 100


def test_no_kept_sentence_is_spoken_for_training() -> None:
    grammar = Grammar()
    for seed in range(4):
        train, test = (speak.chosen(random.Random(seed), grammar, kept=kept) for kept in (False, True))
        assert not {s.text for s, _ in train} & {s.text for s, _ in test}
        assert all(s.kept_for_tests and s.kind != "short" for s, _ in test)
        assert all(s.kind == "short" or not s.kept_for_tests for s, _ in train)
        assert len({s.text for s, _ in train}) == speak.BATCH


def test_a_sentence_of_one_persons_words_is_none_that_is_kept(folder: Path) -> None:
    mixer = Mixer(folder, 4)
    known = mixer._words["asterisk/somebody"]
    for _ in range(60):
        text = mixer._sayable(known)
        assert not Sentence("digits", text).kept_for_tests
        assert {w.lower() for w in text.rstrip(".?").replace(",", "").split()} <= set(known)


def test_every_prompt_says_a_word_of_the_grammar() -> None:
    known = {w.lower() for w in Grammar(every_kind=True).words}
    assert {word.lower() for word in prompts().values()} <= known
    assert len(prompts()) == 80
