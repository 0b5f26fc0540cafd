"""From tokens and their log-probabilities to words with a place in the audio.

Takes: what the decoder answered and the stretch of audio it heard. Gives: Words. Where the decoder told when
its tokens were said (``timing``) words stand there; else they are spread over the stretch by the length of
their text. Also joins what was told for good with what a fresh pass says. Knows no audio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from captiond_engine.speech_model import Tokenizer
from captiond_engine.types import Decoding, Word

_MARKS = ".,;:!?…。、，！？"  # what may yet follow a word that was heard whole


class Detokenizer:
    """Words of one model's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def words(
        self,
        decoding: Decoding,
        start: int,
        end: int,
        prefix: Sequence[Word] = (),
        *,
        origin: int | None = None,
    ) -> list[Word]:
        """The words of ``prefix`` (which was forced) and of ``decoding``, placed in [start, end).

        ``origin``: where the window of the decode begins; by default at ``start``. A word's time is that of
        its letters, without the marks beside them, as in openai-whisper (timing.py, ``merge_punctuations``).
        A word's probability is the geometric mean of its tokens' probabilities; forced tokens keep what
        their words had.
        """
        tokens = [token for word in prefix for token in word.tokens]
        logs = [math.log(max(word.probability, 1e-9)) for word in prefix for _ in word.tokens]
        tokens += decoding.tokens
        logs += decoding.log_probabilities
        starts = decoding.starts if len(decoding.starts) == len(tokens) + 1 else ()
        shift = start if origin is None else origin
        words: list[Word] = []
        at = 0
        for piece in self._tokenizer.split_words(tokens):
            first, at = at, at + len(piece.tokens)
            if piece.text:
                mine = logs[first:at]
                probability = math.exp(min(0.0, sum(mine) / max(1, len(mine))))
                begin, until, heeded = start, end, None
                if starts:
                    before, after = self._marks(piece.tokens)
                    begin, until = shift + starts[first + before], shift + starts[at - after]
                    heeded = shift + max(decoding.heeded[first + before : at - after])
                words.append(Word(piece.text, begin, until, probability, tuple(piece.tokens), heeded))
        return in_order(words, start, end) if starts else spread(words, start, end)

    def _marks(self, tokens: Sequence[int]) -> tuple[int, int]:
        """How many tokens before a word's letters and after them are marks alone."""
        texts = [self._tokenizer.decode([token]) for token in tokens]  # half a character is no mark
        lettered = [at for at, text in enumerate(texts) if _bare(text) or not text.isascii()]
        return (lettered[0], len(tokens) - 1 - lettered[-1]) if lettered else (0, 0)

    def without_final_marks(self, word: Word) -> Word:
        """``word`` without the punctuation at its end, where that has tokens of its own.

        A sentence that seems to end where the audio ends may yet go on.
        """
        tokens = word.tokens
        while len(tokens) > 1 and not _bare(self._tokenizer.decode(tokens[-1:])):
            tokens = tokens[:-1]
        if len(tokens) == len(word.tokens):
            return word
        return replace(word, text=self._tokenizer.decode(tokens), tokens=tokens)


def _bare(text: str) -> str:
    """The letters and digits of a word, lower case: what two spellings of it have in common."""
    return "".join(character for character in text if character.isalnum()).lower()


def bare(word: Word) -> str:
    """Without the punctuation at its end."""
    return word.text.rstrip(_MARKS)


def same_word(a: Word, b: Word) -> bool:
    """Equal but for punctuation at the end."""
    return bare(a) == bare(b)


def join(committed: Sequence[Word], words: Sequence[Word]) -> list[Word]:
    """``committed`` as it was told, continued by ``words``, a fresh hypothesis of the same audio.

    The two are aligned by the least number of changed words (Levenshtein); what of ``words`` lies behind
    the alignment follows. Where they agree the result reads as ``words`` does.
    """
    if not committed:
        return list(words)
    count = _aligned(committed, words)
    last = committed[-1]
    if (
        count
        and _bare(words[count - 1].text) == _bare(last.text)
        and words[count - 1].text.startswith(last.text)
    ):
        last = words[count - 1]  # the same word with the marks that were held back
    return [*committed[:-1], last, *words[count:]]


def _aligned(committed: Sequence[Word], words: Sequence[Word]) -> int:
    """How many first words of ``words`` best match all of ``committed``; of equals, the nearest in number."""
    told = [_bare(word.text) for word in committed]
    costs = list(range(len(told) + 1))  # of changing no word of ``words`` into the first i of ``told``
    best = (costs[-1], len(told), 0)
    for count, word in enumerate((_bare(word.text) for word in words), 1):
        previous, costs = costs, [count]
        for i, other in enumerate(told, 1):
            costs.append(min(previous[i] + 1, costs[i - 1] + 1, previous[i - 1] + (word != other)))
        best = min(best, (costs[-1], abs(count - len(told)), count))
    return best[2]


def in_order(words: Sequence[Word], start: int, end: int) -> list[Word]:
    """``words`` where they are, but for what lies outside [start, end) or before the end of a word before."""
    placed: list[Word] = []
    passed = start
    for word in words:
        begin = min(max(word.start, passed), end)
        passed = min(max(word.end, begin), end)
        placed.append(replace(word, start=begin, end=passed))
    return placed


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
        placed.append(replace(word, start=begin, end=until))
    return placed


def _length(word: Word) -> int:
    return max(1, len(word.text.strip()))
