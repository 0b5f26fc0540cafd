"""When each token was said: from what the decoder heeded while it said it.

Takes: cross-attention weights of the heads that follow the audio. Gives: for each token the position where it
begins, by dynamic time warping, and the position that it heeded most. Knows no text and no graph. Reference:
openai-whisper ``timing.py`` (``find_alignment``, ``median_filter``, ``dtw``), whose results these are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import Float32Array

MEDIAN_WIDTH = 7  # positions (find_alignment: medfilt_width)
# Pairs to put in order, one after another, until the fourth of seven is the median: a selection network,
# in a third of the time of sorting.
_MEDIAN_OF_SEVEN = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6)),
    *((2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)


class TokenTimes(NamedTuple):
    """Encoder positions. ``starts``: where each token begins, and where the last one ends; ``heeded``: where
    each token's attention was highest."""

    starts: tuple[int, ...]
    heeded: tuple[int, ...]


def token_times(attended: Float32Array, first: int, tokens: int, heard: int) -> TokenTimes:
    """The times of ``tokens`` tokens of text.

    ``attended`` [R, A, S]: row r is what was heeded after the token at r was read, from start-of-transcript
    on; row ``first`` is the one after which the text's first token was said. ``heard``: positions of sound
    within S; the rest is padding. A text that was cut off has no row after its last token: it ends where the
    sound does.
    """
    heard = max(1, min(heard, attended.shape[2]))
    if not tokens:
        return TokenTimes((), ())
    weights = attended[:, :, :heard].astype(np.float32)
    weights /= np.maximum(weights.sum(axis=2, keepdims=True), 1e-20)  # as if nothing else had been there
    heeded = weights[first : first + tokens].mean(axis=1).argmax(axis=1)
    spread = weights.std(axis=0, keepdims=True)
    weights = (weights - weights.mean(axis=0, keepdims=True)) / np.maximum(spread, 1e-20)
    matrix = median_filtered(weights[first : first + tokens + 1]).mean(axis=1)
    starts = warp(-matrix.astype(np.float64))
    ends = [heard] * (tokens + 1 - len(starts))
    return TokenTimes((*starts.tolist(), *ends), tuple(heeded.tolist()))


def median_filtered(x: Float32Array) -> Float32Array:
    """The median of ``MEDIAN_WIDTH`` neighbours along the last axis, reflected at its ends.

    What is not longer than half of that stays as it is, as in the reference.
    """
    half = MEDIAN_WIDTH // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    length = x.shape[-1]
    around = [padded[..., at : at + length] for at in range(MEDIAN_WIDTH)]
    for low, high in _MEDIAN_OF_SEVEN:
        around[low], around[high] = (
            np.minimum(around[low], around[high]),
            np.maximum(around[low], around[high]),
        )
    return around[half]


def warp(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Dynamic time warping of ``costs`` [T, S]: where the cheapest way enters each row.

    The way leads from the first corner to the last, by steps to the next row, the next column, or both. A row
    is computed at once: with running sums c, D[j] = c[j] + min over k <= j of (before[k] - c[k - 1]), where
    ``before`` is the cheaper of the two ways out of the row above.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for row, cost in enumerate(costs, 1):
        before = np.minimum(total[row - 1, :-1], total[row - 1, 1:])
        sums = np.cumsum(cost)
        total[row, 1:] = sums + np.minimum.accumulate(before - (sums - cost))
    return _entries(total)


def _entries(total: NDArray[np.float64]) -> NDArray[np.int64]:
    """Back from the last corner. (Where ways cost exactly the same the reference takes a dearer one.)"""
    row, column = total.shape[0] - 1, total.shape[1] - 1
    entries = np.zeros(row, np.int64)
    while row > 1 or column > 1:
        entries[row - 1] = column - 1
        both, down, along = total[row - 1, column - 1], total[row - 1, column], total[row, column - 1]
        if both < down and both < along:
            row, column = row - 1, column - 1
        elif down < both and down < along:
            row -= 1
        else:
            column -= 1
    entries[0] = 0
    return entries
