"""What passes between the two graphs and out of them: encodings by their seats, greedy answers, their times.

Knows no graph and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from captiond_engine.decoding.passes import Prompt
from captiond_engine.decoding.timing import TokenTimes, token_times
from captiond_engine.types import POSITION_SAMPLES, Decoding, Float32Array
from captiond_engine.whisper.cache import Seat


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the encoder made of B windows: their seats, which hold cross K/V, and its output [B, S, E].

    Good until the seats are taken again. ``encoded`` is None where windows of unequal length were joined.
    ``heard``: of each row, positions of sound; the rest of its window is padding.
    """

    seats: tuple[Seat, ...]
    encoded: Buffer | None
    encode_ms: tuple[float, ...]  # of each row; windows that were encoded together share the time
    heard: tuple[int, ...]

    @property
    def rows(self) -> int:
        return len(self.seats)

    @classmethod
    def joined(cls, parts: Sequence[Encoding]) -> Encoding:
        """Rows of several encodings, one after the other."""
        return cls(
            tuple(seat for part in parts for seat in part.seats),
            None,
            tuple(took_ms for part in parts for took_ms in part.encode_ms),
            tuple(heard for part in parts for heard in part.heard),
        )

    def take(self, rows: Sequence[int]) -> Encoding:
        """These rows, as often as each is named: many hypotheses may listen to the same seat."""
        return Encoding(
            tuple(self.seats[row] for row in rows),
            None,
            tuple(self.encode_ms[row] for row in rows),
            tuple(self.heard[row] for row in rows),
        )


@dataclass(frozen=True, slots=True)
class Greedy:
    """The raw answer of one decode: tokens with their end-of-text, and what the parity checks look at.

    ``tokens``, ``log_probabilities``: per row. ``first_logits`` float32 [B, V] before suppression.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]]
    sums: Float32Array
    no_speech: Float32Array
    first_logits: Buffer
    decode_ms: float

    def decodings(
        self, encoding: Encoding, languages: Sequence[str | None], times: Sequence[TokenTimes], end: int
    ) -> list[Decoding]:
        """One Decoding per row, without ``end``-of-text."""
        decodings = []
        for row, tokens in enumerate(self.tokens):
            ended = bool(tokens) and tokens[-1] == end
            text = tokens[:-1] if ended else tokens
            decoding = Decoding(
                tokens=tuple(text),
                log_probabilities=tuple(self.log_probabilities[row][: len(text)]),
                sum_log_probability=float(self.sums[row]),
                no_speech_probability=float(self.no_speech[row]),
                language=languages[row],
                encode_ms=encoding.encode_ms[row],
                decode_ms=self.decode_ms,
                truncated=not ended,
            )
            decodings.append(with_times(decoding, times[row]))
        return decodings


def until_end(
    tokens: NDArray[np.int64], log_probabilities: Float32Array, end: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Cut each row after its first end-of-text."""
    kept_tokens, kept_log_probabilities = [], []
    for row, values in zip(tokens.tolist(), log_probabilities.tolist(), strict=True):
        length = row.index(end) + 1 if end in row else len(row)
        kept_tokens.append(row[:length])
        kept_log_probabilities.append(values[:length])
    return kept_tokens, kept_log_probabilities


def text_times(
    heeded: Callable[[int, int, int], Float32Array],
    prompts: Sequence[Prompt],
    said: Sequence[Sequence[int]],
    heard: Sequence[int],
    end: int,
    *,
    padded: bool,
) -> list[TokenTimes]:
    """The times of each row's text: its prompt's prefix, and what was ``said`` but end-of-text.

    ``heeded``: as ``DecodeBuffers.heeded``, what the decoder left; ``padded``: shorter prompts stand at the
    end of the longest one's place. The last token that was said was not read again.
    """
    longest = max(len(prompt.tokens) for prompt in prompts)
    found = []
    for row, (prompt, tokens, positions) in enumerate(zip(prompts, said, heard, strict=True)):
        left = longest - len(prompt.tokens) if padded else 0
        read = len(prompt.tokens) + max(0, len(tokens) - 1)
        text = prompt.prefix + len(tokens) - (bool(tokens) and tokens[-1] == end)
        first = len(prompt.tokens) - prompt.prefix - 1 - prompt.start
        found.append(token_times(heeded(row, left + prompt.start, left + read), first, text, positions))
    return found


def with_times(decoding: Decoding, times: TokenTimes) -> Decoding:
    """``decoding`` with the times of its tokens, in samples."""
    starts, heeded = (tuple(at * POSITION_SAMPLES for at in positions) for positions in times)
    return replace(decoding, starts=starts, heeded=heeded)
