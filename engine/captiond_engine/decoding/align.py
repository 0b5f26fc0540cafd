"""From tokens and their log-probabilities to words with a place in the audio.

Takes: what the decoder answered and the stretch of audio it heard. Gives: Words. Times are spread over
the stretch by the length of the words' text; an alignment by cross-attention can take its place behind
the same method. Knows no audio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from captiond_engine.speech_model import Tokenizer
from captiond_engine.types import Decoding, Word


class Detokenizer:
    """Words of one model's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def words(self, decoding: Decoding, start: int, end: int, prefix: Sequence[Word] = ()) -> list[Word]:
        """The words of ``prefix`` (which was forced) and of ``decoding``, placed in [start, end).

        A word's probability is the geometric mean of its tokens' probabilities; forced words keep what
        they had.
        """
        words = list(prefix)
        at = 0
        for piece in self._tokenizer.split_words(decoding.tokens):
            logs = decoding.log_probabilities[at : at + len(piece.tokens)]
            at += len(piece.tokens)
            if piece.text:
                probability = math.exp(min(0.0, sum(logs) / max(1, len(logs))))
                words.append(Word(piece.text, start, end, probability, tuple(piece.tokens)))
        return spread(words, start, end)


def spread(words: Sequence[Word], start: int, end: int) -> list[Word]:
    """``words`` one after another over [start, end), each as long as its share of the characters.

    Times never decrease, lie inside [start, end), and each word ends where the next begins.
    """
    if end < start:
        raise ValueError(f"words cannot be placed in [{start}, {end})")
    total = sum(_length(word) for word in words)
    placed: list[Word] = []
    passed = 0
    for word in words:
        begin = start + (end - start) * passed // total
        passed += _length(word)
        until = start + (end - start) * passed // total
        placed.append(Word(word.text, begin, until, word.probability, word.tokens))
    return placed


def _length(word: Word) -> int:
    return max(1, len(word.text.strip()))
