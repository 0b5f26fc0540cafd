"""Device memory that decodes write into: self-attention K/V and output buffers, by number of rows.

Buffers are made once for each number of rows and used again: a decode reads only positions that it wrote
itself, so what a row held before never shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from max.driver import Buffer, Device

from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig


@dataclass(frozen=True, slots=True)
class DecodeBuffers:
    """``tokens`` int64 [B, T], ``log_probabilities`` float32 [B, T], ``caches``: keys, then values."""

    tokens: Buffer
    log_probabilities: Buffer
    caches: tuple[Buffer, ...]


class BufferPool:
    """Decode buffers of one model; at most ``kept`` batch sizes are remembered, the oldest goes first."""

    def __init__(self, config: WhisperConfig, device: Device, kept: int = 4) -> None:
        self._config, self._device, self._kept = config, device, kept
        self._by_rows: dict[int, DecodeBuffers] = {}

    def rows(self, rows: int) -> DecodeBuffers:
        """Buffers for ``rows`` rows; the same ones at every call."""
        if rows not in self._by_rows:
            if len(self._by_rows) >= self._kept:
                self._by_rows.pop(next(iter(self._by_rows)))
            self._by_rows[rows] = self._allocate(rows)
        return self._by_rows[rows]

    def _allocate(self, rows: int) -> DecodeBuffers:
        config = self._config
        cache = (rows, config.n_text_head, config.n_text_ctx, HEAD_WIDTH)
        out = (rows, config.n_text_ctx)
        return DecodeBuffers(
            self._zeros(out, np.int64),
            self._zeros(out, np.float32),
            tuple(self._zeros(cache, np.float32) for _ in range(2 * config.n_text_layer)),
        )

    def _zeros(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Buffer:
        return Buffer.from_numpy(np.zeros(shape, dtype)).to(self._device)
