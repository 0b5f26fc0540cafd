"""Is there speech in what the decoder said, and can it be believed? Keeps out texts made of nothing.

Takes: a decoding, its text or its words, and how much voice they lie over. Gives: a verdict. Knows no audio
and no phrases: what is said often over silence is said by people, too.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from captiond_engine.decoding.loops import before_loop
from captiond_engine.decoding.options import Thresholds
from captiond_engine.types import SAMPLE_RATE_HZ, Decoding, SuppressReason, Word, samples_from_ms

USUAL = Thresholds()
# Hurried speech has some 25 letters a second; the voice of a short segment may be found too short.
MOST_LETTERS_PER_S, SPARE_LETTERS = 40, 20
FEW_WORDS = 5  # of seven texts that were made of cries and the like, six had no more
OUTSIDE = samples_from_ms(250)  # a word heeded so far from any voice was not said there


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


def refusal(
    decoding: Decoding, words: Sequence[Word], voiced: int, thresholds: Thresholds = USUAL
) -> SuppressReason | None:
    """Why a text is not told, if so. ``voiced``: samples of voice under ``words``, the text's words."""
    text = "".join(word.text for word in words)
    if is_no_speech(decoding, text, thresholds):
        return SuppressReason.NO_SPEECH
    if is_all_loop(words, decoding, thresholds):
        return SuppressReason.REPETITION
    if is_too_fast(text, voiced):
        return SuppressReason.LOW_CONFIDENCE
    return decoding.failure if decoding.held_back else None


def is_unsure(decoding: Decoding, words: Sequence[Word], thresholds: Thresholds = USUAL) -> bool:
    """Few words, and not likely ones: what a model makes of voices that say nothing."""
    if thresholds.unsure is None or len(words) > FEW_WORDS:
        return False
    return mean_log_probability(decoding) < math.log(thresholds.unsure)


def is_all_loop(words: Sequence[Word], decoding: Decoding, thresholds: Thresholds = USUAL) -> bool:
    """The text is one loop from its beginning, and the decoder found no end, or zlib finds too much of it.

    A loop behind other words is cut off instead (``without_loop``).
    """
    text = "".join(word.text for word in words).strip()
    kept = before_loop(words)
    if kept == len(words) or kept > len(words) - kept:
        return False
    squeezed = thresholds.compression_ratio is not None and (
        compression_ratio(text) > thresholds.compression_ratio
    )
    return decoding.truncated or squeezed


def without_loop(words: Sequence[Word], decoding: Decoding) -> Sequence[Word]:
    """``words`` up to the end of a loop's first turn, where the decoder found no end or ran too fast.

    A loop that ends by itself, such as a refrain, was probably said.
    """
    return words[: before_loop(words)] if decoding.truncated else words


def without_unvoiced(words: Sequence[Word], onset: int, speech_end: int) -> Sequence[Word]:
    """``words`` without those at the ends that were heeded where no voice was heard."""
    first, last = 0, len(words)
    while last > first and _is_outside(words[last - 1], onset, speech_end):
        last -= 1
    while first < last and _is_outside(words[first], onset, speech_end):
        first += 1
    return words[first:last]


def is_too_fast(text: str, voiced: int) -> bool:
    """More letters than anybody says in so much voice."""
    letters = sum(character.isalnum() for character in text)
    return letters > SPARE_LETTERS + MOST_LETTERS_PER_S * voiced / SAMPLE_RATE_HZ


def _is_outside(word: Word, onset: int, speech_end: int) -> bool:
    return word.heeded is not None and not onset - OUTSIDE <= word.heeded < speech_end + OUTSIDE
