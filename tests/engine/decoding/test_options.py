"""What may be asked for together, and what an option means in tokens."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest
from captiond_engine.decoding.options import (
    NEVER,
    OWN_RULES,
    PLAIN,
    PLAIN_ONCE,
    TEMPERATURES,
    DecodingOptions,
    FallbackOptions,
    Thresholds,
)
from captiond_engine.decoding.passes import Prompt
from captiond_engine.decoding.rules import Suppression
from captiond_engine.decoding.task import RulesByOptions, filters_of, limit_of, prompt_of, search_of
from captiond_engine.errors import EXIT_USAGE, ModelError, OptionsError
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.tokens import WhisperTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

ENGLISH, MULTILINGUAL = 51_864, 51_865


@cache
def tokenizer_of(vocabulary: int) -> WhisperTokenizer:
    return WhisperTokenizer.from_published(WhisperConfig(80, 1500, 384, 6, 4, vocabulary, 448, 384, 6, 4))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"beam_size": 5, "best_of": 5, "temperature": 0.5}, "beam_size and best_of"),
    ({"best_of": 5}, "best_of"),
    ({"patience": 2.0}, "patience"),
    ({"length_penalty": 1.5}, "length_penalty"),
    ({"length_penalty": -0.1}, "length_penalty"),
    ({"beam_size": 5, "patience": 0.01}, "patience"),
]
WRONG_ALONE: list[tuple[dict[str, Any], str]] = [
    ({"task": "summarize"}, "task"),
    ({"temperature": -1.0}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"beam_size": 0}, "beam_size"),
    ({"best_of": 0, "temperature": 1.0}, "best_of"),
    ({"beam_size": 1_000}, "beam_size"),
    ({"sample_len": -1}, "sample_len"),
    ({"suppress_tokens": "-1,x"}, "suppress_tokens"),
    ({"suppress_tokens": [5, -2]}, "suppress_tokens"),
    ({"max_initial_timestamp": -0.5}, "max_initial_timestamp"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prefix": ["a"]}, "prefix"),
    ({"seed": -1}, "seed"),
]


@pytest.mark.parametrize(("options", "told"), WRONG + WRONG_ALONE)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionsError, match=told) as refused:
        DecodingOptions(**options)
    assert refused.value.code == "decoding_options_invalid"
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(("options", "told"), WRONG)
def test_what_is_refused_together_the_reference_refuses(options: dict[str, Any], told: str) -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    dims = whisper.model.ModelDimensions(80, 1500, 64, 1, 1, ENGLISH, 448, 64, 1, 1)
    with pytest.raises((ValueError, AssertionError)):
        whisper.decoding.DecodingTask(whisper.model.Whisper(dims), whisper.DecodingOptions(**options))


def test_names_and_defaults_are_the_references() -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    theirs = {field.name: field.default for field in fields(whisper.DecodingOptions)}
    ours = {field.name: field.default for field in fields(DecodingOptions)}
    assert theirs.pop("fp16") is True  # precision is the model's affair
    assert ours.pop("seed") == 0
    assert ours == theirs


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temperatures": ()}, "no temperature"),
        ({"decoding": DecodingOptions(beam_size=5)}, "depend on the temperature"),
        ({"patience": 2.0}, "patience"),
        ({"beam_size": 5, "temperatures": (0.4,)}, "no temperature is 0"),
        ({"best_of": 5, "temperatures": (0.0,)}, "above 0"),
        ({"thresholds": NEVER}, "threshold"),
        ({"thresholds": Thresholds(None, None, 0.6)}, "threshold"),
        ({"beam_size": 0}, "beam_size"),
        ({"temperatures": (0.0, -1.0)}, "temperature"),
    ],
)
def test_a_fallback_that_cannot_be_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionsError, match=told):
        FallbackOptions(**given)


def test_beams_hold_at_zero_and_best_of_above() -> None:
    plan = FallbackOptions(beam_size=5, patience=2.0, best_of=3)
    assert [one.temperature for one in plan.attempts] == list(TEMPERATURES)
    first, *others = plan.attempts
    assert (first.beam_size, first.patience, first.best_of) == (5, 2.0, None)
    assert {(one.beam_size, one.patience, one.best_of) for one in others} == {(None, None, 3)}


def test_only_what_the_graph_does_by_itself_is_plain() -> None:
    assert PLAIN_ONCE.is_plain
    assert FallbackOptions(DecodingOptions(**{**vars_of(PLAIN), "task": "translate"}), (0.0,)).is_plain
    assert not FallbackOptions(PLAIN, (0.0,), beam_size=2).is_plain
    assert not FallbackOptions(PLAIN, (0.0, 0.2)).is_plain
    assert not FallbackOptions(PLAIN, (0.0,), hold_back=True).is_plain
    assert not FallbackOptions(DecodingOptions(), (0.0,)).is_plain


def vars_of(options: DecodingOptions) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(options)}


# --- prompts and limits --------------------------------------------------------------------------------

TEXT = st.one_of(st.none(), st.just(""), st.text("ab c", max_size=12), st.lists(st.integers(0, 50_000)))


@settings(deadline=None)
@given(
    vocabulary=st.sampled_from([ENGLISH, MULTILINGUAL]),
    prompt=st.one_of(TEXT, st.lists(st.integers(0, 50_000), min_size=220, max_size=230)),
    prefix=st.one_of(TEXT, st.lists(st.integers(0, 50_000), min_size=120, max_size=130)),
    sample_len=st.sampled_from([None, 0, 1, 100, 223, 224, 225, 300]),
    task=st.sampled_from(["transcribe", "translate"]),
    without_timestamps=st.booleans(),
)
def test_prompts_are_the_references(vocabulary: int, **asked: Any) -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    dims = whisper.model.ModelDimensions(80, 1500, 64, 1, 1, vocabulary, 448, 64, 1, 1)
    reference = reference_of(whisper, dims)
    task = whisper.decoding.DecodingTask(reference, whisper.DecodingOptions(language="de", **asked))
    prompt = prompt_of(DecodingOptions(language="de", **asked), tokenizer_of(vocabulary), "de", 448)
    assert prompt.tokens == task.initial_tokens
    assert prompt.start == task.sot_index or task.tokenizer.sot in prompt.tokens[: prompt.start]


_REFERENCES: dict[int, Any] = {}


def reference_of(whisper: Any, dims: Any) -> Any:
    if dims.n_vocab not in _REFERENCES:
        _REFERENCES[dims.n_vocab] = whisper.model.Whisper(dims)
    return _REFERENCES[dims.n_vocab]


def test_a_language_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="language"):
        prompt_of(DecodingOptions(), tokenizer_of(MULTILINGUAL), "xx", 448)


@pytest.mark.parametrize(
    ("sample_len", "prompt", "limit"),
    [(None, 4, 224), (0, 4, 224), (7, 4, 7), (1_000, 4, 445), (None, 440, 9), (None, 447, 2)],
)
def test_a_text_goes_as_far_as_options_and_context_let_it(
    sample_len: int | None, prompt: int, limit: int
) -> None:
    """The reference stops when prompt and text are longer than the context: the last token is never read."""
    options = DecodingOptions(sample_len=sample_len)
    assert limit_of(options, Prompt((5,) * prompt), 448, 448) == limit
    assert limit_of(options, Prompt((5,) * prompt), 448, 447) == min(limit, 448 - prompt)


# --- rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [ENGLISH, MULTILINGUAL])
@pytest.mark.parametrize("asked", ["-1", "-1,400,7", [-1, 400], [400, 7], (400, 7), "400", "", None, [], ()])
@pytest.mark.parametrize("blank", [True, False])
def test_suppression_lists_are_the_references(vocabulary: int, asked: Any, blank: bool) -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    decoding = pytest.importorskip("whisper.decoding")
    dims = whisper.model.ModelDimensions(80, 1500, 64, 1, 1, vocabulary, 448, 64, 1, 1)
    theirs = list(asked) if isinstance(asked, tuple) else asked
    options = whisper.DecodingOptions(language="en", suppress_tokens=theirs, suppress_blank=blank)
    task = decoding.DecodingTask(reference_of(whisper, dims), options)
    first: set[int] = set()
    always: set[int] = set()
    for rule in task.logit_filters:
        if isinstance(rule, decoding.SuppressBlank):
            first |= {*rule.tokenizer.encode(" "), rule.tokenizer.eot}
        if isinstance(rule, decoding.SuppressTokens):
            always |= set(rule.suppress_tokens)
    rules = RulesByOptions(Suppression.of(vocabulary, first=[1], always=[2]), vocabulary)
    ours = rules.of(DecodingOptions(suppress_tokens=asked, suppress_blank=blank), tokenizer_of(vocabulary))
    assert set(np.flatnonzero(ours.first).tolist()) == first
    assert set(np.flatnonzero(ours.always).tolist()) == always


def test_a_models_own_rules_can_be_asked_for() -> None:
    own, tokenizer = Suppression.of(ENGLISH, first=[1], always=[2]), tokenizer_of(ENGLISH)
    rules = RulesByOptions(own, ENGLISH)
    assert rules.of(DecodingOptions(suppress_tokens=OWN_RULES), tokenizer) is own
    listed = rules.of(DecodingOptions(suppress_tokens=OWN_RULES, suppress_blank=False), tokenizer)
    assert not listed.first.any()
    np.testing.assert_array_equal(listed.always, own.always)


def test_the_same_rules_are_the_same_object() -> None:
    rules, tokenizer = RulesByOptions(Suppression.of(ENGLISH), ENGLISH), tokenizer_of(ENGLISH)
    first = rules.of(DecodingOptions(suppress_tokens=[4, 5]), tokenizer)
    assert rules.of(DecodingOptions(suppress_tokens="4,5"), tokenizer) is first
    assert rules.of(DecodingOptions(suppress_tokens=[4]), tokenizer) is not first
    for token in range(100):
        rules.of(DecodingOptions(suppress_tokens=[token]), tokenizer)
    assert len(rules._known) <= 8


def test_a_token_that_the_model_lacks_is_refused() -> None:
    rules = RulesByOptions(Suppression.of(ENGLISH), ENGLISH)
    with pytest.raises(OptionsError, match="51864"):
        rules.of(DecodingOptions(suppress_tokens=[ENGLISH]), tokenizer_of(ENGLISH))


@pytest.mark.parametrize(
    ("seconds", "index"), [(1.0, 50), (0.0, None), (None, None), (0.03, 2), (30.0, 1_500)]
)
def test_the_first_timestamp_is_limited_as_in_the_reference(seconds: float | None, index: int | None) -> None:
    """0.0 means no limit there."""
    tokenizer = tokenizer_of(ENGLISH)
    options = DecodingOptions(max_initial_timestamp=seconds)
    *_, stamps = filters_of(options, tokenizer, Suppression.of(ENGLISH), 1_500)
    logits = np.zeros((1, ENGLISH), np.float32)
    stamps.apply(logits, [[]])
    free = np.flatnonzero(np.isfinite(logits[0])) - tokenizer.timestamp_begin
    assert free[0] == 0
    assert free[-1] == (1_500 if index is None else min(index, 1_500))


def test_a_search_is_as_wide_as_its_options() -> None:
    assert type(search_of(DecodingOptions(beam_size=3), 0, 5)).__name__ == "BeamSearch"
    drawn = search_of(DecodingOptions(temperature=0.5, best_of=3), 0, 5)
    assert len(drawn.candidates()) == 3
