"""Is there speech in what the decoder said, and can it be believed? Keeps out texts made of nothing.

Takes: a decoding and its text. Gives: a verdict. Knows no audio.
"""

from __future__ import annotations

import zlib

from captiond_engine.decoding.options import Thresholds
from captiond_engine.types import Decoding, SuppressReason

USUAL = Thresholds()


def mean_log_probability(decoding: Decoding) -> float:
    """Mean over all tokens, timestamps included, and end-of-text, as openai-whisper's ``avg_logprob``."""
    return decoding.sum_log_probability / (len(decoding.timed_tokens or decoding.tokens) + 1)


def compression_ratio(text: str) -> float:
    """Bytes of ``text`` for each byte that zlib makes of it (openai-whisper utils.py); 0 for no text."""
    raw = text.encode("utf-8")
    return len(raw) / len(zlib.compress(raw))


def is_silence(decoding: Decoding, thresholds: Thresholds = USUAL) -> bool:
    """openai-whisper's rule for a window without speech (transcribe.py): silence is likely, text is not."""
    if thresholds.no_speech is None or decoding.no_speech_probability <= thresholds.no_speech:
        return False
    return thresholds.logprob is None or mean_log_probability(decoding) <= thresholds.logprob


def failure(decoding: Decoding, thresholds: Thresholds) -> SuppressReason | None:
    """Why this decode should be tried again at a higher temperature, if it should.

    As openai-whisper transcribe.py, ``decode_with_fallback``: repetitive or unlikely text, but not where
    silence explains it.
    """
    unlikely = thresholds.logprob is not None and mean_log_probability(decoding) < thresholds.logprob
    ratio = decoding.compression_ratio or 0.0
    if unlikely and is_silence(decoding, thresholds):
        return None
    if thresholds.compression_ratio is not None and ratio > thresholds.compression_ratio:
        return SuppressReason.REPETITION
    return SuppressReason.LOW_CONFIDENCE if unlikely else None


def is_no_speech(decoding: Decoding, text: str, thresholds: Thresholds = USUAL) -> bool:
    """No letter or digit at all, or openai-whisper's rule."""
    return not any(character.isalnum() for character in text) or is_silence(decoding, thresholds)
