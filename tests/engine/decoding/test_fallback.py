"""Temperatures in turn: which decode stands, why one failed, and what a bound on time leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from captiond_engine.decoding.fallback import decode_with_fallback
from captiond_engine.decoding.guards import compression_ratio, failure, is_silence
from captiond_engine.decoding.options import NEVER, DecodingOptions, FallbackOptions, Thresholds
from captiond_engine.types import Decoding, SuppressReason
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD, LOOP, UNLIKELY, SILENT = (1.0, -0.1, 0.1), (3.0, -0.1, 0.1), (1.0, -2.0, 0.1), (1.0, -2.0, 0.9)
Told = tuple[float, float, float]  # compression ratio, average log-probability, probability of no speech


def decoding(told: Told, temperature: float = 0.0) -> Decoding:
    ratio, mean, silence = told
    return Decoding(
        (1,),
        (mean,),
        sum_log_probability=2 * mean,
        no_speech_probability=silence,
        temperature=temperature,
        compression_ratio=ratio,
    )


class Script:
    """What each window says at each temperature; ``asked`` keeps which windows were decoded together."""

    def __init__(self, *windows: dict[float, Told]) -> None:
        self.windows = windows
        self.asked: list[tuple[float, tuple[int, ...]]] = []

    def __call__(
        self, windows: Sequence[int], options: Sequence[DecodingOptions], may_go_on: Callable[[], bool]
    ) -> list[Decoding] | None:
        self.asked.append((options[0].temperature, tuple(windows)))
        if not may_go_on():
            return None
        return [
            decoding(self.windows[window][one.temperature], one.temperature)
            for window, one in zip(windows, options, strict=True)
        ]


def plan(*temperatures: float, **more: Any) -> FallbackOptions:
    return FallbackOptions(temperatures=temperatures, **more)


def test_the_first_that_passes_stands() -> None:
    script = Script({0.0: LOOP, 0.4: UNLIKELY, 0.8: GOOD, 1.0: GOOD})
    [found] = decode_with_fallback(script, [plan(0.0, 0.4, 0.8, 1.0)])
    assert (found.temperature, found.failure) == (0.8, None)
    assert [temperature for temperature, _ in script.asked] == [0.0, 0.4, 0.8]


@pytest.mark.parametrize(
    ("last", "reason"), [(LOOP, SuppressReason.REPETITION), (UNLIKELY, SuppressReason.LOW_CONFIDENCE)]
)
@pytest.mark.parametrize("hold_back", [True, False])
def test_where_none_passes_the_last_stands_with_its_reason(
    last: Told, reason: SuppressReason, hold_back: bool
) -> None:
    script = Script({0.0: LOOP, 0.4: last})
    [found] = decode_with_fallback(script, [plan(0.0, 0.4, hold_back=hold_back)])
    assert (found.temperature, found.failure, found.held_back) == (0.4, reason, hold_back)


def test_silence_is_not_tried_again() -> None:
    script = Script({0.0: SILENT, 0.4: GOOD})
    [found] = decode_with_fallback(script, [plan(0.0, 0.4, hold_back=True)])
    assert (found.temperature, found.failure, found.held_back) == (0.0, SuppressReason.NO_SPEECH, False)


def test_a_loop_in_likely_silence_is_tried_again_unless_it_is_unlikely_too() -> None:
    script = Script({0.0: (3.0, -0.5, 0.9), 0.4: GOOD}, {0.0: (3.0, -1.5, 0.9), 0.4: GOOD})
    found = decode_with_fallback(script, [plan(0.0, 0.4)] * 2)
    assert [one.temperature for one in found] == [0.4, 0.0]


def test_windows_that_fail_together_are_decoded_together() -> None:
    script = Script(
        {0.0: LOOP, 0.4: GOOD}, {0.0: GOOD}, {0.0: LOOP, 0.4: LOOP, 0.8: GOOD}, {0.0: LOOP}, {0.2: GOOD}
    )
    plans = [
        plan(0.0, 0.4, 0.8),
        plan(0.0, 0.4),
        plan(0.0, 0.4, 0.8),
        plan(0.0),
        DecodingOptions(temperature=0.2),
    ]
    found = decode_with_fallback(script, plans)
    assert [one.temperature for one in found] == [0.4, 0.0, 0.8, 0.0, 0.2]
    assert [windows for _, windows in script.asked] == [(0, 1, 2, 3, 4), (0, 2), (2,)]


def test_options_of_one_decode_are_never_judged() -> None:
    script = Script({0.7: LOOP})
    [found] = decode_with_fallback(script, [DecodingOptions(temperature=0.7)])
    assert (found.failure, found.held_back) == (None, False)


@pytest.mark.parametrize("allowed", range(5))
def test_the_first_temperature_is_always_decoded_and_no_later_one_out_of_time(allowed: int) -> None:
    """Asked once before each further temperature, and once while it is decoded."""
    asked = 0

    def may_go_on() -> bool:
        nonlocal asked
        asked += 1
        return asked <= allowed

    script = Script({0.0: LOOP, 0.4: LOOP, 0.8: GOOD})
    [found] = decode_with_fallback(script, [plan(0.0, 0.4, 0.8)], may_go_on)
    assert found.temperature == (0.0, 0.0, 0.4, 0.4, 0.8)[allowed]
    assert (found.failure is None) == (allowed == 4)


def test_no_windows_are_no_work() -> None:
    assert decode_with_fallback(Script(), []) == []


TOLD = st.tuples(
    st.sampled_from([0.9, 2.4, 2.41, 5.0]),
    st.sampled_from([-0.3, -1.0, -1.01, -3.0]),
    st.sampled_from([0.0, 0.6, 0.61, 1.0]),
)
THRESHOLDS = st.builds(
    Thresholds,
    st.sampled_from([None, 2.4, 0.5]),
    st.sampled_from([None, -1.0, -0.2]),
    st.sampled_from([None, 0.6]),
)


@settings(deadline=None, max_examples=60)
@given(script=st.lists(TOLD, min_size=3, max_size=3), thresholds=THRESHOLDS)
def test_transcribe_of_the_reference_stops_at_the_same_temperature(
    script: list[Told], thresholds: Thresholds
) -> None:
    """Its own ``transcribe`` runs, over a model that says what the script says."""
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    torch = pytest.importorskip("torch")
    temperatures = (0.0, 0.4, 0.8)
    said: list[float] = []

    class Model:
        dims = whisper.model.ModelDimensions(80, 1500, 64, 1, 1, 51_864, 448, 64, 1, 1)
        is_multilingual, num_languages, device = False, 0, torch.device("cpu")

        def decode(self, mel: Any, options: Any) -> Any:
            said.append(options.temperature)
            ratio, mean, silence = script[temperatures.index(options.temperature)]
            return whisper.DecodingResult(
                None,
                "en",
                tokens=[400],
                text="x",
                avg_logprob=mean,
                no_speech_prob=silence,
                temperature=options.temperature,
                compression_ratio=ratio,
            )

    told = whisper.transcribe(
        Model(),
        torch.zeros(16_000),
        temperature=temperatures,
        compression_ratio_threshold=thresholds.compression_ratio,
        logprob_threshold=thresholds.logprob,
        no_speech_threshold=thresholds.no_speech,
        fp16=False,
    )
    judged = thresholds.compression_ratio is not None or thresholds.logprob is not None
    ours = Script(dict(zip(temperatures, script, strict=True)))
    options = plan(*(temperatures if judged else (0.0,)), thresholds=thresholds)
    [found] = decode_with_fallback(ours, [options])
    assert [temperature for temperature, _ in ours.asked] == said
    assert is_silence(found, thresholds) == (not told["segments"])
    if found.failure is SuppressReason.NO_SPEECH:
        assert not told["segments"]


@settings(deadline=None)
@given(text=st.text(max_size=60), times=st.integers(1, 9))
def test_the_compression_ratio_is_the_references(text: str, times: int) -> None:
    pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    utils = pytest.importorskip("whisper.utils", reason="the extra 'parity' is not installed")
    assert compression_ratio(text * times) == utils.compression_ratio(text * times)


def test_text_that_repeats_itself_has_a_high_ratio() -> None:
    assert compression_ratio("") == 0
    assert compression_ratio(" thank you" * 30) > 2.4 > compression_ratio(" turn on the lights in the hall")


@settings(deadline=None)
@given(told=TOLD)
def test_nothing_fails_without_thresholds(told: Told) -> None:
    assert failure(decoding(told), NEVER) is None
    assert not is_silence(decoding(told), NEVER)
    assert not math.isnan(decoding(told).sum_log_probability)
