"""Single passes over the bundled model: what a row inherits, and what no row may do."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.passes import ClipPrompt, Passes, Prompt
from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.model import Encoding, WhisperModel
from captiond_engine.whisper.passes import PromptPasses, RowPasses
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity import clips, models

PLAIN = (50_257, 50_362)  # start of transcript, no timestamps; English-only vocabulary
HINTED = (50_360, 314, 1_049, 11, *PLAIN)
PROMPTS = (Prompt(PLAIN), Prompt(HINTED, 4), Prompt((*PLAIN, 843)))
WORDS = (262, 318, 843, 1_210, 11, 500)
CLOSE = 2e-4  # a batch of rows sums in another order than one row
KINDS = ("decode_float32", "decode")


@cache
def mels() -> Float32Array:
    """Three clips, in windows of 6 s."""
    return np.stack([log_mel(clip.pcm[:96_000], 80, 600) for clip in clips.bundled()[:3]])


def encoding(kind: str = KINDS[0]) -> Encoding:
    return models.bundled_decoded_by(kind).encode(mels())


def passes(kind: str = KINDS[0]) -> Passes:
    return models.bundled_decoded_by(kind).passes(encoding(kind))


@cache
def fresh(window: int, tokens: tuple[int, ...], start: int) -> Float32Array:
    """Logits [V] after a prompt that is read by itself."""
    logits, _ = passes().begin([ClipPrompt(Prompt(tokens, start), window)])
    return np.asarray(logits[0].copy(), np.float32)


def test_each_device_has_its_kind_of_passes() -> None:
    assert isinstance(passes("decode_float32"), RowPasses)
    assert isinstance(passes("decode"), PromptPasses)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_give_the_logits_and_the_silence_of_a_greedy_decode(kind: str) -> None:
    model = models.bundled_decoded_by(kind)
    greedy = model.greedy(encoding(kind), PROMPTS, max_new_tokens=1)
    widths = (2, 1, 3)
    logits, silence = passes(kind).begin(
        [ClipPrompt(p, window, width) for window, (p, width) in enumerate(zip(PROMPTS, widths, strict=True))]
    )
    np.testing.assert_allclose(logits, greedy.first_logits.to_numpy(), atol=CLOSE)
    np.testing.assert_allclose(silence, greedy.no_speech, atol=1e-5)


Rows = list[tuple[int, int]]  # the parent among a clip's rows, and the token


@st.composite
def family(draw: st.DrawFn) -> tuple[list[int], list[list[Rows]]]:
    """Widths of one to three clips, and steps: rows for each clip, as many as its width at most, or none."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rows, steps = [1] * len(widths), []
    for _ in range(draw(st.integers(1, 5))):
        step: list[Rows] = []
        for width, alive in zip(widths, rows, strict=True):
            count = draw(st.integers(0, width)) if alive else 0
            row = st.tuples(st.integers(0, max(alive, 1) - 1), st.sampled_from(WORDS))
            step.append(draw(st.lists(row, min_size=count, max_size=count)))
        if not any(step):
            break
        rows = [len(members) for members in step]
        steps.append(step)
    return widths, steps


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_a_fresh_prompt_with_its_text_is(kind: str) -> None:
    """After any sequence of parents: forks, rows that die, clips that end, and parents in any order."""

    @settings(max_examples=25 if kind == KINDS[0] else 5, deadline=None)
    @given(family())
    def holds(born: tuple[list[int], list[list[Rows]]]) -> None:
        widths, steps = born
        walked = passes(kind)
        walked.begin([ClipPrompt(PROMPTS[clip], clip, width) for clip, width in enumerate(widths)])
        texts: list[list[tuple[int, ...]]] = [[PROMPTS[clip].tokens] for clip in range(len(widths))]
        said: list[tuple[Float32Array, list[tuple[int, tuple[int, ...]]]]] = []
        for step in steps:
            tokens, parents, first = [], [], 0
            for clip, rows in enumerate(step):
                tokens += [token for _, token in rows]
                parents += [first + parent for parent, _ in rows]
                first += len(texts[clip])
                texts[clip] = [(*texts[clip][parent], token) for parent, token in rows]
            logits = walked.step(np.array(tokens), np.array(parents))
            said.append((logits.copy(), [(clip, text) for clip, rows in enumerate(texts) for text in rows]))
        for logits, rows_of_step in said:  # only now: a search shares its buffers with every other decode
            expected = [fresh(clip, text, PROMPTS[clip].start) for clip, text in rows_of_step]
            np.testing.assert_allclose(logits, np.stack(expected), atol=CLOSE)

    holds()


def test_a_greedy_decode_pass_by_pass_is_the_graphs_own() -> None:
    model = models.bundled_decoded_by(KINDS[0])
    whole = model.greedy(encoding(), PROMPTS)
    walked = model.passes(encoding())
    logits, _ = walked.begin([ClipPrompt(prompt, window) for window, prompt in enumerate(PROMPTS)])
    said: list[list[int]] = [[], [], []]
    rows = [0, 1, 2]
    while rows:
        chosen = (logits + model.suppression.always + (not said[0]) * model.suppression.first).argmax(axis=1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            said[row].append(token)
        going_on = [place for place, token in enumerate(chosen.tolist()) if token != 50_256]
        rows = [rows[place] for place in going_on]
        if rows:
            logits = walked.step(chosen[going_on], np.array(going_on))
    assert said == whole.tokens


def test_only_rows_that_fork_cost_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams that go on, in whatever order, keep the slots that they have."""
    walked = models.bundled_decoded_by(KINDS[0]).passes(encoding())
    assert isinstance(walked, RowPasses)
    walked.begin([ClipPrompt(PROMPTS[0], 0, 3)])
    walked.step(np.array([262, 318, 843]), np.array([0, 0, 0]))
    written: list[str] = []

    class Watched:
        def __init__(self, cache: Float32Array) -> None:
            self.cache = cache

        def __getitem__(self, place: object) -> object:
            return self.cache[place]  # type: ignore[index]

        def __setitem__(self, place: object, value: object) -> None:
            written.append("copy")
            self.cache[place] = value  # type: ignore[index]

    walked._caches = [Watched(cache) for cache in walked._caches]  # type: ignore[misc]
    walked.step(np.array([262, 318, 843]), np.array([2, 0, 1]))
    assert written == []
    walked.step(np.array([262, 318]), np.array([1, 1]))
    assert len(written) == len(walked._caches)


# --- what is refused ------------------------------------------------------------------------------------


def test_more_rows_than_were_promised_are_refused() -> None:
    walked = models.bundled_decoded_by(KINDS[0]).passes(encoding())
    walked.begin([ClipPrompt(PROMPTS[0], 0, 1), ClipPrompt(PROMPTS[1], 1, 3)])
    with pytest.raises(DeviceError, match="slots"):
        walked.step(np.array([262, 318]), np.array([0, 0]))  # the other clip's slots are not theirs


def test_a_text_that_would_leave_the_context_is_refused() -> None:
    walked = models.bundled_decoded_by(KINDS[0]).passes(encoding())
    walked.begin([ClipPrompt(Prompt((*PLAIN, *[262] * 445)), 0, 1)])
    walked.step(np.array([262]), np.array([0]))
    with pytest.raises(DeviceError, match="448"):
        walked.step(np.array([262]), np.array([0]))
    with pytest.raises(DeviceError, match="no room"):
        walked.begin([ClipPrompt(Prompt((*PLAIN, *[262] * 446)), 0, 1)])


def test_what_a_search_before_left_never_shows() -> None:
    """Law 6: the same slots serve one search and then another."""
    model: WhisperModel = models.bundled_decoded_by(KINDS[0])

    def walk() -> Float32Array:
        walked = model.passes(encoding())
        walked.begin([ClipPrompt(PROMPTS[2], 2, 2)])
        return walked.step(np.array([262, 318]), np.array([0, 0])).copy()

    first = walk()
    between = model.passes(encoding())
    between.begin([ClipPrompt(Prompt((*PLAIN, *[500] * 40)), 0, 2)])
    between.step(np.array([843, 11]), np.array([0, 0]))
    np.testing.assert_array_equal(walk(), first)
