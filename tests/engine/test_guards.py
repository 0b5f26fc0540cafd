"""Which decodings are speech, by openai-whisper's thresholds."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.guards import is_no_speech, mean_log_probability
from captiond_engine.types import Decoding


def decoding(no_speech: float, mean: float, tokens: int = 3) -> Decoding:
    return Decoding(
        tokens=tuple(range(tokens)),
        log_probabilities=(mean,) * tokens,
        sum_log_probability=mean * (tokens + 1),
        no_speech_probability=no_speech,
    )


@pytest.mark.parametrize("text", ["", " ", " ...", " ♪ !", "\u200b"])
def test_a_text_without_letter_or_digit_is_no_speech(text: str) -> None:
    assert is_no_speech(decoding(0.0, 0.0), text)


@pytest.mark.parametrize(
    ("no_speech", "mean", "verdict"),
    [(0.7, -1.1, True), (0.7, -0.9, False), (0.5, -1.1, False), (0.0, 0.0, False)],
)
def test_silence_must_be_likely_and_the_text_unlikely(no_speech: float, mean: float, verdict: bool) -> None:
    assert is_no_speech(decoding(no_speech, mean), " Thank you.") is verdict


@pytest.mark.parametrize("text", [" 7", " 猫", " é"])
def test_a_digit_or_a_letter_of_any_script_is_speech(text: str) -> None:
    assert not is_no_speech(decoding(0.0, -0.1), text)


def test_the_mean_counts_the_end_of_text() -> None:
    assert mean_log_probability(Decoding((1, 2, 3), (-1.0, -1.0, -1.0), -4.0)) == -1.0
    assert mean_log_probability(Decoding((), (), -0.5)) == -0.5
