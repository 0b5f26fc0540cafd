"""Tokens and letters of the training text, in Whisper's vocabulary and in training's own small one."""

from __future__ import annotations

import random
import re
from functools import cached_property

from whisper.tokenizer import get_tokenizer

from engine.training.grammar import Grammar

SAMPLED = 5000
LETTERS = {letter: i + 1 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz' ")}  # 0 is CTC's blank
TIMESTAMPS = 1501


def letters(text: str) -> list[int]:
    """CTC's symbols of a text."""
    return [LETTERS[c] for c in re.sub(r"[^a-z' ]", "", text.lower())]


class Vocabulary:
    """Ids of Whisper's English vocabulary ↔ rows of the training model's embedding."""

    def __init__(self, tokens: list[int] | None = None) -> None:
        self.whisper = get_tokenizer(multilingual=False)
        w = self.whisper
        self._special = [w.eot, w.sot, w.sot_prev, w.no_speech, w.no_timestamps]
        self.tokens = tokens if tokens is not None else self._of_the_grammar()
        self._rows = {token: row for row, token in enumerate(self.tokens)}

    def _of_the_grammar(self) -> list[int]:
        """What the wide grammar can say, the domain's plurals and every word in every place of a sentence."""
        grammar, r = Grammar(every_kind=True), random.Random(5)
        used = {t for _ in range(SAMPLED) for t in self.whisper.encode(" " + grammar.sentence(r).text)}
        for word in grammar.words:
            for form in (word, word.capitalize(), word + "s"):
                for mark in ("", ".", ",", "?", "!"):
                    used.update(self.whisper.encode(" " + form + mark))
        begin = self.whisper.timestamp_begin
        return [
            *sorted(t for t in used if t < self.whisper.eot),
            *self._special,
            *range(begin, begin + TIMESTAMPS),
        ]

    def rows(self, tokens: list[int]) -> list[int]:
        return [self._rows[t] for t in tokens]

    def encode(self, text: str) -> list[int]:
        """Rows of a text with a space before it, as Whisper writes."""
        return self.rows(self.whisper.encode(" " + text))

    def decode(self, rows: list[int]) -> str:
        spoken = [t for t in (self.tokens[row] for row in rows) if t < self.whisper.eot]
        return str(self.whisper.decode(spoken)).strip()

    def length(self, row: int) -> int:
        return len(self.whisper.decode([self.tokens[row]]))

    def timestamp(self, seconds: float) -> int:
        return self._rows[self.whisper.timestamp_begin + min(TIMESTAMPS - 1, round(seconds / 0.02))]

    @cached_property
    def start(self) -> int:
        return self._rows[self.whisper.sot]

    @cached_property
    def end(self) -> int:
        return self._rows[self.whisper.eot]

    @cached_property
    def before(self) -> int:
        return self._rows[self.whisper.sot_prev]

    @cached_property
    def no_speech(self) -> int:
        return self._rows[self.whisper.no_speech]

    @cached_property
    def no_timestamps(self) -> int:
        return self._rows[self.whisper.no_timestamps]
