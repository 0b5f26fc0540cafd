"""Which tokens the next one may be: rules that block logits, by what a row has said so far.

Takes logits of a clip's rows and their tokens, changes the logits in place. Knows no model. Reference:
openai-whisper ``decoding.py`` (SuppressBlank, SuppressTokens, ApplyTimestampRules).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from captiond_engine.decoding.rules import Suppression
from captiond_engine.types import Float32Array


class LogitFilter(Protocol):
    """One rule."""

    def apply(self, logits: Float32Array, said: Sequence[Sequence[int]]) -> None:
        """Block tokens with -inf in ``logits`` float32 [R, V]; ``said``: tokens of each row after the prompt,
        as many in each."""


class Suppress:
    """Some tokens never, some not as the first."""

    def __init__(self, suppression: Suppression) -> None:
        self._first = np.flatnonzero(suppression.first)
        self._always = np.flatnonzero(suppression.always)

    def apply(self, logits: Float32Array, said: Sequence[Sequence[int]]) -> None:
        logits[:, self._always] = -np.inf
        if not said[0]:
            logits[:, self._first] = -np.inf


class TimestampRules:
    """Timestamps first and in pairs, never back in time, and whenever together they are likelier than a text.

    ``begin``: token of 0.00 s, with all later ones behind it up to V. ``latest_first``: highest of the first,
    counted from ``begin``; None: any.
    """

    def __init__(self, begin: int, end_of_text: int, no_timestamps: int, latest_first: int | None) -> None:
        self._begin, self._end_of_text, self._no_timestamps = begin, end_of_text, no_timestamps
        self._latest_first = latest_first

    def apply(self, logits: Float32Array, said: Sequence[Sequence[int]]) -> None:
        logits[:, self._no_timestamps] = -np.inf
        for row, tokens in zip(logits, said, strict=True):
            if tokens:
                self._go_on(row, tokens)
            else:
                self._open(row)
            if _log_sum_exp(row[self._begin :]) > row[: self._begin].max():
                row[: self._begin] = -np.inf

    def _open(self, row: Float32Array) -> None:
        row[: self._begin] = -np.inf
        if self._latest_first is not None:
            row[self._begin + self._latest_first + 1 :] = -np.inf

    def _go_on(self, row: Float32Array, tokens: Sequence[int]) -> None:
        begin = self._begin
        after_time = tokens[-1] >= begin
        after_pair = after_time and (len(tokens) < 2 or tokens[-2] >= begin)
        if after_pair:
            row[begin:] = -np.inf
        elif after_time:
            row[: self._end_of_text] = -np.inf
        newest = next((token for token in reversed(tokens) if token >= begin), None)
        if (
            newest is not None
        ):  # the end of a stretch may be where the last one was, its begin not before that
            row[begin : newest + (0 if after_time and not after_pair else 1)] = -np.inf


def _log_sum_exp(values: Float32Array) -> float:
    highest = float(values.max())
    if highest == -np.inf:
        return highest
    return highest + float(np.log(np.exp(values - np.float32(highest)).sum(dtype=np.float64)))
