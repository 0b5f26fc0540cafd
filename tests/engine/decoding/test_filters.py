"""The rules of the next token: laws of timestamps, and the reference's own filters beside ours."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from captiond_engine.decoding.filters import Suppress, TimestampRules
from captiond_engine.decoding.passes import ClipPrompt, ClipSearch, search
from captiond_engine.decoding.rules import Suppression
from captiond_engine.decoding.search import BeamSearch, Sampling, Search
from captiond_engine.types import Float32Array
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.decoding.toy import PROMPT, Toy, ToyPasses

# A vocabulary in Whisper's order: 0-5 text, 6 end-of-text, 7-9 control (9: no timestamps), 10-19 timestamps.
STOP, NO_TIMESTAMPS, BEGIN, VOCABULARY = 6, 9, 10, 20


def logits_of(seed: int, rows: int) -> Float32Array:
    return np.random.default_rng(seed).normal(0, 3, (rows, VOCABULARY)).astype(np.float32)


SAID = st.integers(0, 6).flatmap(
    lambda length: st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=length, max_size=length), min_size=1, max_size=4
    )
)


@settings(deadline=None)
@given(said=SAID, seed=st.integers(0, 9_999), latest=st.sampled_from([None, 0, 3, 9]))
def test_timestamps_are_ruled_as_by_the_reference(
    said: list[list[int]], seed: int, latest: int | None
) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    decoding = pytest.importorskip("whisper.decoding", reason="the extra 'parity' is not installed")
    tokenizer = SimpleNamespace(no_timestamps=NO_TIMESTAMPS, timestamp_begin=BEGIN, eot=STOP)
    expected = torch.from_numpy(logits_of(seed, len(said)))
    tokens = torch.tensor([[3, *row] for row in said], dtype=torch.int64)
    decoding.ApplyTimestampRules(tokenizer, 1, latest).apply(expected, tokens)
    logits = logits_of(seed, len(said))
    TimestampRules(BEGIN, STOP, NO_TIMESTAMPS, latest).apply(logits, said)
    np.testing.assert_array_equal(logits, expected.numpy())


@settings(deadline=None)
@given(said=SAID, seed=st.integers(0, 9_999))
def test_suppression_is_the_references(said: list[list[int]], seed: int) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    decoding = pytest.importorskip("whisper.decoding", reason="the extra 'parity' is not installed")
    tokenizer = SimpleNamespace(eot=STOP, encode=lambda text: [2])
    expected = torch.from_numpy(logits_of(seed, len(said)))
    tokens = torch.tensor([[3, *row] for row in said], dtype=torch.int64)
    decoding.SuppressBlank(tokenizer, 1).apply(expected, tokens)
    decoding.SuppressTokens([1, 8]).apply(expected, tokens)
    logits = logits_of(seed, len(said))
    Suppress(Suppression.of(VOCABULARY, first=[2, STOP], always=[1, 8])).apply(logits, said)
    np.testing.assert_array_equal(logits, expected.numpy())


@settings(deadline=None)
@given(
    seed=st.integers(0, 9_999),
    latest=st.sampled_from([None, 2]),
    machine=st.sampled_from(["greedy", "drawn", "beams"]),
)
def test_any_text_has_timestamps_in_pairs_that_never_go_back(
    seed: int, latest: int | None, machine: str
) -> None:
    made: dict[str, Search] = {
        "greedy": Sampling(STOP, 15),
        "drawn": Sampling(STOP, 15, temperature=1.0, seed=seed),
        "beams": BeamSearch(STOP, 15, beam_size=3, most_finished=3),
    }
    rules = TimestampRules(BEGIN, STOP, NO_TIMESTAMPS, latest)
    control = Suppress(Suppression.of(VOCABULARY, always=[7, 8]))
    passes = ToyPasses(Toy(VOCABULARY, seed), end_of_text=STOP)
    clip = ClipSearch(ClipPrompt(PROMPT, 0, 3 if machine == "beams" else 1), made[machine], (control, rules))
    answers = search(passes, [clip])
    assert answers is not None
    tokens = answers[0].text.tokens
    assert tokens[0] >= BEGIN
    assert tokens[0] <= BEGIN + (9 if latest is None else latest)
    assert NO_TIMESTAMPS not in tokens
    times = [token for token in tokens if token >= BEGIN]
    assert times == sorted(times)
    runs = "".join("t" if token >= BEGIN else "w" for token in tokens)
    assert "ttt" not in runs
    assert "wtw" not in runs
    assert not runs.startswith("tt")  # one timestamp opens, then text
    for first, second in zip(times[::2], times[1::2], strict=False):
        assert first < second


@pytest.mark.parametrize(
    ("times", "text", "stays"),
    [(0.0, 5.0, True), (4.0, 5.0, True), (4.5, 5.0, False), (9.0, 5.0, False)],
)
def test_timestamps_win_when_together_they_are_likelier(times: float, text: float, stays: bool) -> None:
    """Ten timestamps of equal logits weigh log(10) = 2.3 more than one."""
    logits = np.full((1, VOCABULARY), -50.0, np.float32)
    logits[0, 1], logits[0, BEGIN:] = text, times - (0.0 if times > 5 else 1.5)
    TimestampRules(BEGIN, STOP, NO_TIMESTAMPS, None).apply(logits, [[BEGIN, 2, 3]])
    assert bool(np.isfinite(logits[0, 1])) is stays


def test_an_empty_stretch_may_not_repeat_itself() -> None:
    """After a pair, the end must be later than the begin: no endless loop."""
    logits = logits_of(1, 1)
    TimestampRules(BEGIN, STOP, NO_TIMESTAMPS, None).apply(logits, [[BEGIN, 2, BEGIN + 4, BEGIN + 4, 3]])
    assert not np.isfinite(logits[0, BEGIN : BEGIN + 5]).any()


def test_after_an_end_comes_the_next_begin_or_the_end_of_text() -> None:
    logits = np.zeros((1, VOCABULARY), np.float32)
    logits[0, STOP] = 9  # likelier than all timestamps together
    TimestampRules(BEGIN, STOP, NO_TIMESTAMPS, None).apply(logits, [[BEGIN, 2, BEGIN + 4]])
    open_to = np.flatnonzero(np.isfinite(logits[0])).tolist()
    assert open_to == [STOP, 7, 8, *range(BEGIN + 4, VOCABULARY)]
