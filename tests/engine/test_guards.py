"""Which decodings are speech: openai-whisper's thresholds, loops, pace, and what lies under no voice."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.guards import (
    is_no_speech,
    is_too_fast,
    mean_log_probability,
    refusal,
    without_loop,
    without_unvoiced,
)
from captiond_engine.types import Decoding, SuppressReason, Word


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


# --- what else is not told ---------------------------------------------------------------------------

SECOND = 16_000


def words(text: str, heeded: int | None = None) -> list[Word]:
    return [Word(f" {part}", 0, 0, 1.0, heeded=heeded) for part in text.split()]


def said(*, truncated: bool = False) -> Decoding:
    return Decoding((1, 2), (-0.1, -0.1), -0.3, truncated=truncated)


@pytest.mark.parametrize(
    ("text", "truncated", "reason"),
    [
        ("thank you. " * 8, True, SuppressReason.REPETITION),
        ("thank you. " * 40, False, SuppressReason.REPETITION),  # zlib makes it ten times smaller
        ("thank you. " * 4, False, None),  # said four times, and ended
        ("turn on the light in the hall and the kitchen and go go go go go go", True, None),  # a tail is cut
        ("turn on the light", False, None),
    ],
)
def test_a_text_that_is_one_loop_is_not_told(
    text: str, truncated: bool, reason: SuppressReason | None
) -> None:
    assert refusal(said(truncated=truncated), words(text), 60 * SECOND) == reason


def test_a_loop_behind_a_text_is_cut_where_the_decoder_found_no_end() -> None:
    looping = words("open the door la la la la la la la")
    assert len(without_loop(looping, said(truncated=True))) == 4
    assert len(without_loop(looping, said())) == len(looping)


def test_more_than_anybody_says_in_so_short_a_time_is_not_told() -> None:
    text = "this is a sentence of a great many words, which nobody could say so fast"
    assert refusal(said(), words(text), SECOND // 2) is SuppressReason.LOW_CONFIDENCE
    assert refusal(said(), words(text), 3 * SECOND) is None
    assert not is_too_fast("Thank you very much!", 0)  # short voices are found too short


def test_words_under_no_voice_are_dropped_at_both_ends_alone() -> None:
    spoken = [
        *words("ghost", heeded=0),
        *words("turn it", heeded=20_000),
        *words("strange", heeded=60_000),
        *words("off", heeded=30_000),
        *words("thank you", heeded=60_000),
    ]
    kept = without_unvoiced(spoken, 16_000, 32_000)
    assert [word.text.strip() for word in kept] == ["turn", "it", "strange", "off"]
    assert list(without_unvoiced(words("turn it off"), 16_000, 32_000)) == words("turn it off")
    assert not without_unvoiced(words("thank you", heeded=60_000), 16_000, 32_000)
