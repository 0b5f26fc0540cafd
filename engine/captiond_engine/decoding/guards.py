"""Is there speech in what the decoder said? Keeps texts out that were made of nothing.

Takes: a decoding and its text. Gives: a verdict. Knows no audio.
"""

from __future__ import annotations

from captiond_engine.types import Decoding

NO_SPEECH_PROBABILITY = 0.6  # openai-whisper transcribe.py: no_speech_threshold
LOW_LOG_PROBABILITY = -1.0  # openai-whisper transcribe.py: logprob_threshold


def mean_log_probability(decoding: Decoding) -> float:
    """Mean over the tokens and end-of-text, as openai-whisper's ``avg_logprob``."""
    return decoding.sum_log_probability / (len(decoding.tokens) + 1)


def is_no_speech(decoding: Decoding, text: str) -> bool:
    """No letter or digit at all, or openai-whisper's rule: silence is likely and the text is not."""
    if not any(character.isalnum() for character in text):
        return True
    return (
        decoding.no_speech_probability > NO_SPEECH_PROBABILITY
        and mean_log_probability(decoding) < LOW_LOG_PROBABILITY
    )
