"""Windows decoded by their options: together as alone, in the graph as on the host, fast as slow."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.options import (
    OWN_RULES,
    PLAIN,
    DecodingOptions,
    FallbackOptions,
    Thresholds,
)
from captiond_engine.engine import DeviceThread, Engine, traits_of
from captiond_engine.models import Card
from captiond_engine.types import Decoding, Float32Array, Job, PromptSpec, SuppressReason, Window
from captiond_engine.whisper import by_options
from captiond_engine.whisper.model import Encoding, WhisperModel
from captiond_engine.whisper.tokens import WhisperTokenizer

from tests.parity import clips, models

SPEECH = ("1688-142285-0005", "so762-000940012", "fsddstr-george-0", "fsdd-0_george_19")
HOPS = 600
ASKED = (
    DecodingOptions(),
    DecodingOptions(without_timestamps=True),
    DecodingOptions(beam_size=3, prompt="turn on the lights", length_penalty=0.6),
    DecodingOptions(temperature=0.7, best_of=2, without_timestamps=True, prefix="the", seed=4),
    DecodingOptions(without_timestamps=True, suppress_tokens=None, suppress_blank=False),
    DecodingOptions(temperature=0.3, sample_len=9),
)


@cache
def pcm_of(clip: str) -> Float32Array:
    return next(found.pcm for found in clips.bundled() if found.id == clip)


@cache
def mel_of(clip: str) -> Float32Array:
    return log_mel(pcm_of(clip)[: HOPS * 160], 80, HOPS)


def model() -> WhisperModel:
    return models.bundled_model()


def tokenizer() -> WhisperTokenizer:
    return model().require_tokenizer()


def encoding_of(*names: str) -> Encoding:
    return model().encode(np.stack([mel_of(name) for name in names]))


def same(one: Decoding, other: Decoding) -> None:
    assert (one.tokens, one.timed_tokens) == (other.tokens, other.timed_tokens)
    assert (one.truncated, one.temperature) == (other.truncated, other.temperature)
    np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=1e-4)
    assert one.sum_log_probability == pytest.approx(other.sum_log_probability, abs=1e-3)
    assert one.no_speech_probability == pytest.approx(other.no_speech_probability, abs=1e-4)
    assert one.compression_ratio == other.compression_ratio


def test_rows_of_one_call_say_what_each_says_alone() -> None:
    """Options of all kinds: some run in the graph, the others share their passes."""
    names = [SPEECH[number % 4] for number in range(len(ASKED))]
    together = model().decode_with(encoding_of(*names), ASKED)
    for name, options, found in zip(names, ASKED, together, strict=True):
        same(found, model().decode_with(encoding_of(name), [options])[0])
    assert len({found.tokens for found in together}) > 3


def test_clips_of_too_many_rows_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [DecodingOptions(beam_size=2), DecodingOptions(beam_size=3), DecodingOptions()]
    whole = model().decode_with(encoding_of(*SPEECH[:3]), options)
    began: list[int] = []
    watched = copy.copy(model())

    def passes(encoding: Encoding) -> Any:
        walked = model().passes(encoding)
        begin = walked.begin

        def counted(asked: Any) -> Any:
            began.append(sum(clip.width for clip in asked))
            return begin(asked)

        walked.begin = counted  # type: ignore[method-assign]
        return walked

    watched.passes = passes  # type: ignore[method-assign]
    for most, turns in ((64, [6]), (5, [5, 1]), (1, [2, 3, 1])):
        began.clear()
        monkeypatch.setattr(by_options, "MOST_SLOTS", most)
        parts = watched.decode_with(encoding_of(*SPEECH[:3]), options)
        assert began == turns
        for one, other in zip(parts, whole, strict=True):
            same(one, other)


def test_what_is_greedy_runs_in_the_graph_and_says_what_the_host_would() -> None:
    """Asked for as one drawn trajectory of no temperature, so to say: a beam of one with all its patience."""
    name = SPEECH[0]
    alone = encoding_of(name)
    inside = model().decode_with(alone, [PLAIN])[0]
    refused = copy.copy(model())

    def passes(encoding: Encoding) -> Any:
        raise AssertionError("a pass was asked for")

    refused.passes = passes  # type: ignore[method-assign]
    same(refused.decode_with(alone, [PLAIN])[0], inside)
    # No room for all that might be said: decoded on the host, though as much as is said has room.
    filler = tuple(tokenizer().encode(" a") * 225)
    prefix = tuple(inside.tokens[:3])
    host = replace(PLAIN, prompt=filler, prefix=prefix, sample_len=None)
    with pytest.raises(AssertionError, match="a pass"):
        refused.decode_with(alone, [host])
    graph = replace(host, sample_len=100)
    prefixed = model().decode_with(alone, [host])[0]
    short = refused.decode_with(alone, [graph])[0]
    assert prefixed.tokens[:100] == short.tokens


@pytest.mark.slow
def test_a_plain_graph_searches_too() -> None:
    """Every pass reads the text from its start: slow, and the same tokens."""
    slow, fast = (models.bundled_decoded_by(kind) for kind in ("decode", "decode_float32"))
    options = [DecodingOptions(beam_size=2, sample_len=6), DecodingOptions(sample_len=5)]
    mels = np.stack([mel_of(name) for name in SPEECH[:2]])
    found = [model.decode_with(model.encode(mels), options) for model in (slow, fast)]
    for one, other in zip(*found, strict=True):
        same(one, other)


def test_timestamps_are_kept_apart_from_the_text() -> None:
    found = model().decode_with(encoding_of(SPEECH[0]), [DecodingOptions()])[0]
    begin = tokenizer().timestamp_begin
    assert found.timed_tokens[0] >= begin
    assert found.tokens == tuple(token for token in found.timed_tokens if token < 50_256)
    assert len(found.log_probabilities) == len(found.tokens)
    assert tokenizer().decode(found.tokens) == tokenizer().decode(found.timed_tokens)
    assert model().decode_with(encoding_of(SPEECH[0]), [PLAIN])[0].timed_tokens == ()


def test_a_language_alone_gives_no_text() -> None:
    found = model().decode_with(encoding_of(SPEECH[0]), [DecodingOptions(task="lang_id")])[0]
    assert (found.tokens, found.language) == ((), "en")


def test_as_many_options_as_rows_are_needed() -> None:
    with pytest.raises(ValueError, match="2 rows"):
        model().decode_with(encoding_of(SPEECH[0]), [PLAIN, PLAIN])


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        model().decode_with(encoding_of(SPEECH[0]), [DecodingOptions(prefix=(262,) * 447)])


# --- fallback ------------------------------------------------------------------------------------------

HARD = Thresholds(compression_ratio=None, logprob=-1e-6, no_speech=None)  # no text passes


def test_a_fallback_ends_at_its_last_temperature_and_says_why() -> None:
    options = FallbackOptions(PLAIN, (0.0, 0.5, 1.0), best_of=2, thresholds=HARD, hold_back=True)
    found = model().decode_with(encoding_of(SPEECH[0]), [options])[0]
    assert (found.temperature, found.failure, found.held_back) == (1.0, SuppressReason.LOW_CONFIDENCE, True)
    drawn = DecodingOptions(**{**fields_of(PLAIN), "temperature": 1.0, "best_of": 2})
    same(found, model().decode_with(encoding_of(SPEECH[0]), [drawn])[0])


def fields_of(options: DecodingOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def test_a_fallback_without_time_is_the_first_decode() -> None:
    options = FallbackOptions(PLAIN, (0.0, 0.5), thresholds=HARD, budget_ms=0)
    job = Job(0, 0, "final", HOPS * 160, Window(0, 0, HOPS * 160, mel_of(SPEECH[0]), options=options))
    found = model().run([job])[0]
    assert (found.temperature, found.failure) == (0.0, SuppressReason.LOW_CONFIDENCE)
    same(found, model().decode_with(encoding_of(SPEECH[0]), [PLAIN])[0])


# --- jobs ----------------------------------------------------------------------------------------------


def job_of(
    name: str, options: DecodingOptions | FallbackOptions | None = None, prompt: PromptSpec | None = None
) -> Job:
    window = Window(0, 0, HOPS * 160, mel_of(name), prompt or PromptSpec(), options)
    return Job(0, 0, "final", HOPS * 160, window)


def test_jobs_with_and_without_options_are_answered_in_order() -> None:
    beams = FallbackOptions(PLAIN, (0.0,), beam_size=2)
    jobs = [
        job_of(SPEECH[0]),
        job_of(SPEECH[1], beams),
        job_of(SPEECH[2]),
        job_of(SPEECH[3], beams, PromptSpec(hints="zero one two")),
    ]
    together = model().run(jobs)
    for job, found in zip(jobs, together, strict=True):
        alone = model().run([job])[0]
        assert (found.tokens, found.language) == (alone.tokens, "en")
        assert found.encode_ms > 0
        assert found.decode_ms > 0
    assert together[0].tokens == model().decode_with(encoding_of(SPEECH[0]), [PLAIN])[0].tokens


def test_a_jobs_prompt_goes_before_its_options() -> None:
    options = replace(PLAIN, prompt="one", prefix="two", language="de")
    window = job_of(SPEECH[0], options, PromptSpec(language="en", prefix=(5, 6), hints=" three ")).payload
    told = by_options.of_window(window)
    assert told == replace(options, prompt="three", prefix=(5, 6), language="en")
    assert by_options.of_window(job_of(SPEECH[0], options).payload) == options
    plan = FallbackOptions(options, (0.0, 0.2), beam_size=2)
    assert by_options.of_window(replace(window, options=plan)) == replace(plan, decoding=told)


def test_a_forced_prefix_is_continued_by_a_search() -> None:
    beams = replace(PLAIN, beam_size=4, length_penalty=1.0)
    whole = model().run([job_of(SPEECH[0], replace(PLAIN, suppress_tokens=OWN_RULES))])[0].tokens
    rest = model().run([job_of(SPEECH[0], beams, PromptSpec(prefix=whole[:5]))])[0].tokens
    assert rest
    assert rest[:5] != whole[:5]


def test_an_engine_decodes_a_clip_by_options() -> None:
    engine = Engine(traits_of("demo-en", Card(), 80, ("en",)), tokenizer(), DeviceThread(model()))
    try:
        found = engine.decode_clip(pcm_of(SPEECH[1]), options=DecodingOptions(beam_size=2))
        assert found.timed_tokens
        plain = engine.decode_clip(pcm_of(SPEECH[1]))
        assert plain.timed_tokens == ()
        same_options = engine.decode_clip(pcm_of(SPEECH[1]), options=PLAIN)
        assert same_options.tokens == plain.tokens
    finally:
        engine.close()
