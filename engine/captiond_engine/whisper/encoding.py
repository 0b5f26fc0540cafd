"""What passes between the two graphs and out of them: encodings by their seats, and greedy answers.

Knows no graph and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from max.driver import Buffer

from captiond_engine.types import Float32Array
from captiond_engine.whisper.cache import Seat


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the encoder made of B windows: their seats, which hold cross K/V, and its output [B, S, E].

    Good until the seats are taken again. ``encoded`` is None where windows of unequal length were joined.
    """

    seats: tuple[Seat, ...]
    encoded: Buffer | None
    encode_ms: tuple[float, ...]  # of each row; windows that were encoded together share the time

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
        )

    def take(self, rows: Sequence[int]) -> Encoding:
        """These rows, as often as each is named: many hypotheses may listen to the same seat."""
        return Encoding(
            tuple(self.seats[row] for row in rows), None, tuple(self.encode_ms[row] for row in rows)
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
