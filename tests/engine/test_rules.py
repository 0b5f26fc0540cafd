"""Suppression: the reference's defaults, a model's own rules, masks of the right form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from captiond_engine.decoding.rules import (
    BLOCKED,
    Suppression,
    default_suppression,
    non_speech_tokens,
    suppression_for,
)
from captiond_engine.errors import ModelError
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.tokens import WhisperTokenizer
from hypothesis import given
from hypothesis import strategies as st

ENGLISH, MULTILINGUAL, LARGE_V3 = 51_864, 51_865, 51_866
VOCABULARIES = (ENGLISH, MULTILINGUAL, LARGE_V3)


def tokenizer_of(vocabulary: int) -> WhisperTokenizer:
    return WhisperTokenizer.from_published(WhisperConfig(80, 1500, 384, 6, 4, vocabulary, 448, 384, 6, 4))


def blocked(mask: np.ndarray[Any, Any]) -> set[int]:
    return {int(token) for token in np.flatnonzero(mask)}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_defaults_are_the_references(vocabulary: int) -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    decoding = pytest.importorskip("whisper.decoding")
    dims = whisper.model.ModelDimensions(80, 1500, 64, 1, 1, vocabulary, 448, 64, 1, 1)
    task = decoding.DecodingTask(whisper.model.Whisper(dims), decoding.DecodingOptions(language="en"))
    blank = next(f for f in task.logit_filters if isinstance(f, decoding.SuppressBlank))
    always = set(task._get_suppress_tokens())
    ours = default_suppression(tokenizer_of(vocabulary), vocabulary)
    assert blocked(ours.always) == always
    assert blocked(ours.first) == {*blank.tokenizer.encode(" "), blank.tokenizer.eot}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_what_the_defaults_block_and_what_they_leave(vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    rules = default_suppression(tokenizer, vocabulary)
    always, first = blocked(rules.always), blocked(rules.first)
    assert first == {tokenizer.encode(" ")[0], tokenizer.end_of_text}
    assert {tokenizer.encode(mark)[0] for mark in ("[", " (", "♪", "#", " -")} <= always
    assert {tokenizer.start_of_transcript, tokenizer.no_speech, tokenizer.transcribe} <= always
    kept = {
        tokenizer.end_of_text,
        *(tokenizer.encode(mark)[0] for mark in (".", ",", "?", "-", "'", " a", "$")),
    }
    assert not kept & always
    assert len(non_speech_tokens(tokenizer)) > 80


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_masks_add_to_logits_of_the_whole_vocabulary(vocabulary: int) -> None:
    rules = default_suppression(tokenizer_of(vocabulary), vocabulary)
    for mask in (rules.first, rules.always):
        assert mask.shape == (vocabulary,)
        assert mask.dtype == np.float32
        assert set(np.unique(mask)) == {np.float32(0), BLOCKED}
    both = rules.first + rules.always + np.float32(30)
    assert np.isfinite(both).all()  # an infinity would make a row without any choice NaN


@given(tokens=st.lists(st.integers(-10, 60), max_size=20))
def test_tokens_outside_the_vocabulary_block_nothing(tokens: list[int]) -> None:
    """-1, which configurations write for "the defaults", is not the last token."""
    rules = Suppression.of(50, first=tokens, always=tokens)
    assert blocked(rules.first) == blocked(rules.always) == {token for token in tokens if 0 <= token < 50}


def test_a_models_own_rules_replace_the_defaults() -> None:
    tokenizer = tokenizer_of(ENGLISH)
    own = suppression_for(tokenizer, ENGLISH, {"suppress_tokens": [5, 7], "begin_suppress_tokens": [220]})
    assert blocked(own.always) == {5, 7}
    assert blocked(own.first) == {220}


@pytest.mark.parametrize(
    "generation", [{"suppress_tokens": []}, {"begin_suppress_tokens": None}, {"suppress_tokens": None}]
)
def test_a_model_that_wants_no_rules_has_none(generation: dict[str, Any]) -> None:
    own = suppression_for(tokenizer_of(ENGLISH), ENGLISH, generation)
    assert not own.first.any()
    assert not own.always.any()


@pytest.mark.parametrize("generation", [{}, {"max_length": 448}])
def test_a_model_that_says_nothing_gets_the_defaults(generation: dict[str, Any]) -> None:
    tokenizer = tokenizer_of(ENGLISH)
    own, default = suppression_for(tokenizer, ENGLISH, generation), default_suppression(tokenizer, ENGLISH)
    np.testing.assert_array_equal(own.always, default.always)
    np.testing.assert_array_equal(own.first, default.first)


@pytest.mark.parametrize("rule", ["-1", 5, [1, "a"], [None], {"1": 2}, [1.5]])
def test_a_rule_that_is_no_list_of_tokens_is_refused(rule: Any) -> None:
    with pytest.raises(ModelError, match="suppress_tokens") as caught:
        suppression_for(tokenizer_of(ENGLISH), ENGLISH, {"suppress_tokens": rule})
    assert "generation_config.json" in caught.value.message
    assert caught.value.advice
