"""The resident model: each fast path equals its slow twin, and no wrong size ever reaches a graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.rules import Suppression
from captiond_engine.types import Decoding, Float32Array, Job, PromptSpec, Window
from captiond_engine.whisper import reference
from captiond_engine.whisper.model import Encoding, Greedy, Prompt, WhisperModel
from captiond_engine.whisper.tokens import WhisperTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from max.engine import Model

from tests.parity import clips, models

PLAIN = (50_257, 50_362)  # start of transcript, no timestamps; English-only vocabulary
END = 50_256
HOPS = 600
SPEECH = ("1688-142285-0005", "so762-000940012", "fsddstr-george-0", "fsdd-0_george_19")


@cache
def pcm_of(clip: str) -> Float32Array:
    return next(found.pcm for found in clips.bundled() if found.id == clip)


@cache
def mel_of(clip: str, hops: int = HOPS) -> Float32Array:
    return log_mel(pcm_of(clip)[: hops * 160], 80, hops)


@cache
def model() -> WhisperModel:
    return models.bundled_model()


def tokenizer() -> WhisperTokenizer:
    found = model().tokenizer
    assert found is not None
    return found


def encoding_of(clip: str, hops: int = HOPS) -> Encoding:
    return model().encode(mel_of(clip, hops)[None])


def said(clip: str, prompt: Sequence[int] = PLAIN, limit: int | None = None) -> list[int]:
    return model().greedy(encoding_of(clip), [Prompt(tuple(prompt))], max_new_tokens=limit).tokens[0]


# --- fast and slow twins -----------------------------------------------------------------------------

HINTED = (50_360, 314, 1_049, 11, *PLAIN)
BATCHES = (
    (Prompt(PLAIN), Prompt(HINTED, 4), Prompt((*PLAIN, 843))),
    (Prompt(HINTED, 4), Prompt(PLAIN)),
    (Prompt((50_257,)), Prompt(PLAIN), Prompt((*HINTED, 262, 717), 4), Prompt(PLAIN)),
)


@pytest.mark.parametrize("prompts", BATCHES, ids=len)
def test_a_batch_equals_its_rows_alone(prompts: tuple[Prompt, ...]) -> None:
    """Prompts of unequal length, and rows that end at unequal times."""
    names = SPEECH[: len(prompts)]
    together = model().encode(np.stack([mel_of(name) for name in names]))
    batch = model().greedy(together, prompts)
    for row, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        alone = model().greedy(encoding_of(name), [prompt])
        assert batch.tokens[row] == alone.tokens[0]
        np.testing.assert_allclose(batch.log_probabilities[row], alone.log_probabilities[0], atol=1e-4)
        np.testing.assert_allclose(batch.sums[row], alone.sums[0], atol=1e-3)
        np.testing.assert_allclose(batch.no_speech[row], alone.no_speech[0], atol=1e-4)
        np.testing.assert_allclose(
            batch.first_logits.to_numpy()[row], alone.first_logits.to_numpy()[0], atol=1e-3
        )
        np.testing.assert_allclose(
            together.encoded.to_numpy()[row], encoding_of(name).encoded.to_numpy()[0], atol=1e-4
        )
    assert len({len(tokens) for tokens in batch.tokens}) > 1


@pytest.mark.parametrize("name", SPEECH[:3])
def test_cached_decoding_equals_prefilling_every_token(name: str) -> None:
    """One call with the loop in the graph, against a fresh prefill for each token."""
    whole = model().greedy(encoding_of(name), [Prompt(PLAIN)])
    tokens = list(PLAIN)
    for token, log_probability in zip(whole.tokens[0], whole.log_probabilities[0], strict=True):
        step = model().greedy(encoding_of(name), [Prompt(tuple(tokens))], max_new_tokens=1)
        assert step.tokens[0] == [token]
        assert step.log_probabilities[0][0] == pytest.approx(log_probability, abs=1e-4)
        tokens.append(token)
    assert tokens[-1] == END
    assert float(whole.sums[0]) == pytest.approx(sum(whole.log_probabilities[0]), abs=1e-3)


def test_probabilities_are_those_of_the_numpy_twin() -> None:
    checkpoint, name = models.bundled_checkpoint(), SPEECH[3]
    answer = model().greedy(encoding_of(name), [Prompt(PLAIN)])
    encoded = reference.encode(checkpoint.config, checkpoint.tensors, mel_of(name))
    fed = [*PLAIN, *answer.tokens[0][:-1]]
    logits = reference.logits(checkpoint.config, checkpoint.tensors, encoded, fed).astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = log_probabilities[len(PLAIN) - 1 :]
    assert chosen.argmax(-1).tolist() == answer.tokens[0]
    np.testing.assert_allclose(chosen.max(-1), answer.log_probabilities[0], atol=1e-4)
    assert answer.no_speech[0] == pytest.approx(np.exp(log_probabilities[0, 50_361]), abs=1e-5)


@pytest.mark.parametrize("between", [(Prompt(PLAIN),), (Prompt(HINTED, 4), Prompt(PLAIN))])
def test_what_a_slot_held_before_never_shows(between: tuple[Prompt, ...]) -> None:
    """Law 6: the same seats and buffers serve A and then B; B is what B alone gives, to the last bit."""
    name, other = SPEECH[3], SPEECH[0]
    mels = np.stack([mel_of(name, 400)] * len(between))
    fresh = models.load_model(models.bundled_checkpoint(), model().device)
    prompts = [Prompt(PLAIN)] * len(between)
    alone = fresh.greedy(fresh.encode(mels), prompts)
    model()._seats.reserve(len(between))
    rows = model().encode(np.stack([mel_of(other)] * len(between)))
    model().greedy(rows, between)  # longer: leaves positions, keys and tokens past where B ends
    model()._seats.reserve(len(between))
    heard = model().encode(mels)
    assert [seat.index for seat in heard.seats] == [seat.index for seat in rows.seats]
    after = model().greedy(heard, prompts)
    assert after.tokens == alone.tokens
    assert after.log_probabilities == alone.log_probabilities
    np.testing.assert_array_equal(after.first_logits.to_numpy(), alone.first_logits.to_numpy())


def test_an_answer_stays_when_its_buffers_are_used_again() -> None:
    first = model().greedy(encoding_of(SPEECH[0]), [Prompt(PLAIN)])
    kept = ([*first.tokens[0]], [*first.log_probabilities[0]], first.sums.copy(), first.no_speech.copy())
    model().greedy(encoding_of(SPEECH[1]), [Prompt(PLAIN)])
    assert (first.tokens[0], first.log_probabilities[0]) == kept[:2]
    np.testing.assert_array_equal(first.sums, kept[2])
    np.testing.assert_array_equal(first.no_speech, kept[3])


@pytest.mark.parametrize("hops", [300, 350, 402, 1_000, 3_000])
def test_windows_of_several_lengths(hops: int) -> None:
    """A clip that fits in three seconds, in windows from three to thirty."""
    name = SPEECH[3]
    encoding = encoding_of(name, hops)
    assert encoding.encoded.shape == (1, hops // 2, 192)
    text = tokenizer().decode(model().greedy(encoding, [Prompt(PLAIN)]).tokens[0])
    assert "zero" in text.lower()


@pytest.mark.parametrize("hops", [2, 4, 6])
def test_the_shortest_windows(hops: int) -> None:
    checkpoint = models.bundled_checkpoint()
    mel = mel_of(SPEECH[0])[:, :hops]
    encoding = model().encode(mel[None])
    expected = reference.encode(checkpoint.config, checkpoint.tensors, mel)
    np.testing.assert_allclose(encoding.encoded.to_numpy()[0], expected, atol=2e-4)
    assert model().greedy(encoding, [Prompt(PLAIN)], max_new_tokens=3).tokens[0]


@pytest.mark.parametrize("name", SPEECH[:2])
def test_a_forced_prefix_is_continued(name: str) -> None:
    """Committed tokens fed as the prompt's end: the rest of the same decode follows."""
    whole = said(name)
    assert len(whole) > 6
    for committed in {1, 2, len(whole) // 2, len(whole) - 2, len(whole) - 1}:
        spec = PromptSpec(prefix=tuple(whole[:committed]))
        tokens, start = tokenizer().prompt(spec, language="en")
        answer = model().greedy(encoding_of(name), [Prompt(tuple(tokens), start)])
        assert answer.tokens[0] == whole[committed:]
        assert answer.no_speech[0] == pytest.approx(
            model().greedy(encoding_of(name), [Prompt(PLAIN)], max_new_tokens=1).no_speech[0], abs=1e-4
        )


def test_another_prefix_is_kept_to() -> None:
    name = SPEECH[0]
    forced = tokenizer().encode(" Bananas")
    answer = said(name, (*PLAIN, *forced))
    assert answer != said(name)
    assert not tokenizer().decode(answer).startswith(" Bananas")  # the prefix is not repeated


# --- limits ------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(limit=st.integers(1, 30))
def test_a_limit_cuts_the_same_decode(limit: int) -> None:
    assert said(SPEECH[0], limit=limit) == said(SPEECH[0])[:limit]


def test_without_end_of_text_a_decode_stops_at_half_the_context_or_where_room_ends() -> None:
    never_ends = Suppression.of(51_864, always=[END])
    encoding = encoding_of(SPEECH[3])
    default = model().greedy(encoding, [Prompt(PLAIN)], suppression=never_ends)
    assert len(default.tokens[0]) == len(default.log_probabilities[0]) == 224
    long_prompt = (*PLAIN, *([262] * 440))
    for prompt, room in ((long_prompt, 6), ((*long_prompt, 1, 2, 3, 4, 5), 1)):
        answer = model().greedy(encoding, [Prompt(prompt)], suppression=never_ends, max_new_tokens=400)
        assert len(answer.tokens[0]) == room
    longest = model().greedy(encoding, [Prompt(PLAIN)], suppression=never_ends, max_new_tokens=448)
    assert len(longest.tokens[0]) == 446
    assert longest.tokens[0][:224] == default.tokens[0]
    mixed = model().greedy(
        model().encode(np.stack([mel_of(SPEECH[3])] * 2)), [Prompt(PLAIN), Prompt(long_prompt)]
    )
    assert mixed.tokens[0] == said(SPEECH[3], limit=6)  # the longest prompt leaves room for six


def test_truncated_says_that_end_of_text_did_not_come() -> None:
    encoding = encoding_of(SPEECH[0])
    whole = model().decode(encoding, [Prompt(PLAIN)], ["en"])[0]
    assert not whole.truncated
    assert END not in whole.tokens
    assert len(whole.tokens) == len(whole.log_probabilities)
    assert whole.sum_log_probability < sum(whole.log_probabilities)  # end-of-text is in the sum
    own = copy.copy(model())
    own.suppression = Suppression.of(51_864, always=[END])
    endless = own.decode(encoding, [Prompt(PLAIN)], ["en"])[0]
    assert endless.truncated
    assert len(endless.tokens) == 224


def test_what_is_suppressed_is_not_said() -> None:
    encoding, whole = encoding_of(SPEECH[0]), said(SPEECH[0])
    first = Suppression.of(51_864, first=[whole[0]])
    assert model().greedy(encoding, [Prompt(PLAIN)], suppression=first).tokens[0][0] != whole[0]
    always = Suppression.of(51_864, always=whole[:-1])
    assert not set(model().greedy(encoding, [Prompt(PLAIN)], suppression=always).tokens[0]) & set(whole[:-1])
    assert said(SPEECH[0]) == whole  # masks of one call do not stay for the next


# --- what is heard -----------------------------------------------------------------------------------


def test_silence_is_less_likely_speech_than_speech_is() -> None:
    silence = model().encode(log_mel(np.zeros(HOPS * 160, np.float32), 80, HOPS)[None])
    quiet = model().greedy(silence, [Prompt(PLAIN)], max_new_tokens=1).no_speech[0]
    for name in SPEECH[:3]:
        assert model().greedy(encoding_of(name), [Prompt(PLAIN)], max_new_tokens=1).no_speech[0] < quiet
    assert 0.0 <= quiet <= 1.0


def test_an_english_model_hears_english() -> None:
    rows = model().encode(np.stack([mel_of(name) for name in SPEECH[:2]]))
    assert model().detect_languages(rows) == ["en", "en"]


# --- jobs --------------------------------------------------------------------------------------------


def _job(name: str, hops: int, prompt: PromptSpec | None = None) -> Job:
    window = Window(0, 0, hops * 160, mel_of(name, hops), prompt or PromptSpec())
    return Job(0, 0, "final", hops * 160, window)


def _same(one: Decoding, other: Decoding) -> None:
    assert (one.tokens, one.truncated, one.language) == (other.tokens, other.truncated, other.language)
    np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=1e-4)
    assert one.no_speech_probability == pytest.approx(other.no_speech_probability, abs=1e-4)


def test_jobs_are_answered_in_order_and_decoded_together() -> None:
    jobs = [
        _job(SPEECH[0], 600),
        _job(SPEECH[3], 300),
        _job(SPEECH[1], 600, PromptSpec(hints="Frankenstein, marmalade")),
        _job(SPEECH[3], 500),
        _job(SPEECH[2], 300, PromptSpec(language="en")),
    ]
    batches: list[tuple[int, ...]] = []
    decodes: list[int] = []
    watched = copy.copy(model())

    def encode(mels: Float32Array, heard: Sequence[int]) -> Encoding:
        batches.append(mels.shape)
        return model().encode(mels, heard)

    def greedy(encoding: Encoding, prompts: Sequence[Prompt], **options: Any) -> Greedy:
        decodes.append(len(prompts))
        return model().greedy(encoding, prompts, **options)

    watched.encode = encode  # type: ignore[method-assign]
    watched.greedy = greedy  # type: ignore[method-assign]
    together = watched.run(jobs)
    assert sorted(batches) == [(1, 80, 500), (2, 80, 300), (2, 80, 600)]
    assert decodes == [5]
    for job, answer in zip(jobs, together, strict=True):
        _same(answer, model().run([job])[0])
        assert answer.language == "en"
        assert answer.encode_ms > 0
        assert answer.decode_ms > 0
    assert model().run([]) == []


def test_a_job_continues_its_prefix() -> None:
    whole = model().run([_job(SPEECH[0], 600)])[0].tokens
    rest = model().run([_job(SPEECH[0], 600, PromptSpec(prefix=whole[:5]))])[0].tokens
    assert rest == whole[5:]


# --- wrong sizes stay on the host --------------------------------------------------------------------


@pytest.fixture
def _guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is fed too much ends the process: here, being fed at all fails the test."""

    def fed(*_: Any) -> None:
        raise AssertionError("the graph was reached")

    made = encoding_of(SPEECH[0])
    monkeypatch.setitem(globals(), "encoding_of", lambda clip: made)
    monkeypatch.setattr(Model, "execute", fed)


@pytest.mark.usefixtures("_guarded")
@pytest.mark.parametrize(
    "shape",
    [
        (1, 80, 301),
        (1, 80, 0),
        (1, 80, 1),
        (1, 80, 3_002),
        (1, 80, 30_000),
        (1, 81, 300),
        (1, 128, 300),
        (1, 0, 300),
        (0, 80, 300),
        (80, 300),
        (1, 1, 80, 300),
        (300,),
        (),
    ],
)
def test_a_window_of_a_wrong_size(shape: tuple[int, ...]) -> None:
    mels = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="expected"):
        model().encode(mels)


@pytest.mark.usefixtures("_guarded")
@pytest.mark.parametrize("shape", [(80, 301), (80, 3_002), (81, 300), (300,), (1, 80, 300), ()])
@pytest.mark.parametrize("beside", [0, 1])
def test_a_job_with_a_window_of_a_wrong_size(shape: tuple[int, ...], beside: int) -> None:
    window = Window(0, 0, 1_600, np.zeros(shape, np.float32))
    jobs = [_job(SPEECH[0], 300)] * beside + [Job(0, 0, "partial", 1_600, window)]
    with pytest.raises(ValueError, match="expected"):
        model().run(jobs)


@pytest.mark.usefixtures("_guarded")
@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [Prompt(PLAIN)] * 2,
        [Prompt(())],
        [Prompt(PLAIN, 2)],
        [Prompt(PLAIN, -1)],
        [Prompt((50_257, 51_864))],
        [Prompt((50_257, -1))],
        [Prompt((50_257, 2**40))],
        [Prompt((50_257,) * 448)],
        [Prompt((50_257,) * 449)],
        [Prompt((50_257,) * 10_000)],
    ],
)
def test_prompts_that_do_not_fit(prompts: list[Prompt]) -> None:
    with pytest.raises(ValueError, match="prompt"):
        model().greedy(encoding_of(SPEECH[0]), prompts)


@pytest.mark.usefixtures("_guarded")
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing(limit: int) -> None:
    with pytest.raises(ValueError, match="max_new_tokens"):
        model().greedy(encoding_of(SPEECH[0]), [Prompt(PLAIN)], max_new_tokens=limit)


@pytest.mark.usefixtures("_guarded")
@pytest.mark.parametrize("vocabulary", [51_863, 51_865, 1])
def test_masks_of_another_vocabulary(vocabulary: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        model().greedy(encoding_of(SPEECH[0]), [Prompt(PLAIN)], suppression=Suppression.of(vocabulary))


@pytest.mark.usefixtures("_guarded")
def test_a_prefix_that_leaves_no_room_is_refused_before_the_decoder() -> None:
    spec = PromptSpec(prefix=(262,) * 446)
    tokens, start = tokenizer().prompt(spec, language="en")
    with pytest.raises(ValueError, match="leaves no room"):
        model().greedy(encoding_of(SPEECH[0]), [Prompt(tuple(tokens), start)])


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 3), mels=st.integers(0, 100), hops=st.integers(0, 3_200))
def test_any_window_is_refused_or_whole(rows: int, mels: int, hops: int) -> None:
    fits = rows >= 1 and mels == 80 and hops % 2 == 0 and 2 <= hops <= 3_000
    if not fits:
        with pytest.raises(ValueError, match="expected"):
            model().encode(np.zeros((rows, mels, hops), np.float32))
