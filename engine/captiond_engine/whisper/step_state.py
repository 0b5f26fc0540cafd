"""What decodes by passes hold: memory on the device, by its size, and what a greedy decode chose.

Knows no graph and no order of passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from max.driver import Buffer

from captiond_engine.types import Float32Array


@dataclass(slots=True)
class State:
    """Device memory of decodes of one size: B rows, T text positions, S heard positions."""

    key: int
    seats: Buffer
    tokens: Buffer  # [B, 1], of the next pass
    start: Buffer  # [B], their positions
    parents: Buffer
    own: Buffer  # parents where each row goes on from itself
    heard_mask: Buffer
    suppress: Buffer
    cross: list[Buffer]
    said: Buffer
    said_log_probabilities: Buffer
    caches: list[Buffer]
    reordered: bool = False  # whether parents are others than own
    recorded: list[Buffer] | None = None  # the outputs that a replay fills

    @property
    def rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def context(self) -> int:
        return int(self.said.shape[1])


@dataclass(frozen=True, slots=True)
class Said:
    """What a greedy decode chose: per row tokens with their end-of-text, and their log-probabilities;
    probability of no speech [B]; ``logits`` float32 [R, V] after the prompts, before suppression, the rows'
    own first. They stay on the device until they are asked for."""

    tokens: list[list[int]]
    log_probabilities: list[list[float]]
    no_speech: Float32Array
    logits: Buffer

    @property
    def first_logits(self) -> Float32Array:
        """Logits [B, V] after the prompts."""
        return np.array(self.logits.to_numpy()[: len(self.tokens)])


def rounded_up(count: int, step: int, most: int) -> int:
    """``count`` as a multiple of ``step``, but at most ``most``. ``count`` is at most ``most``."""
    return min(most, -(-count // step) * step)
