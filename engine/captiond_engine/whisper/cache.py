"""Device memory that outlives a call: seats for what the encoder heard, and what decodes write into.

A seat holds one window's cross-attention K/V of every decoder layer. Seats and decode buffers are made once
and used again: a decode reads only positions that were written for it, so what a seat or a row held before
never shows. Knows no graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType

from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig


@contextmanager
def no_room_for(what: str) -> Iterator[None]:
    """A DeviceError where the device has no memory for ``what``."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        raise DeviceError(
            f"The device has no memory for {what} at once: {error}.", advice="Lower model.batch."
        ) from error


@dataclass(frozen=True, slots=True)
class DecodeBuffers:
    """``tokens`` int64 [B, T], ``log_probabilities`` float32 [B, T], ``caches``: keys, then values.

    ``attended`` float32 [B, T, A, S]: how much each of the heads that align text and audio
    (``WhisperConfig.aligned_by``) heeded each position when it had read the token at [T].
    """

    tokens: Buffer
    log_probabilities: Buffer
    attended: Buffer
    caches: tuple[Buffer, ...]

    def heeded(self, row: int, first: int, last: int) -> Float32Array:
        """``attended`` of one row, tokens [first, last): [T, A, S]. Only that leaves the device."""
        kept: Float32Array = self.attended[row : row + 1, first:last, :, :].to_numpy()[0]
        return kept


class BufferPool:
    """Decode buffers of one model: all numbers of rows are views of one allocation, which grows as needed.

    ``kept``: type of the caches. On a CPU float32 ones are NumPy's memory, so that whoever runs pass by pass
    may write to them; others are made where they stay.
    """

    def __init__(self, config: WhisperConfig, device: Device, kept: DType = DType.float32) -> None:
        self._config, self._device, self._kept = config, device, kept
        self._by_rows: dict[int, DecodeBuffers] = {}
        self._memory: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] | list[Buffer] = []

    def rows(self, rows: int) -> DecodeBuffers:
        """Buffers for ``rows`` rows; the same memory at every call."""
        if rows not in self._by_rows:
            if not self._memory or self._memory[0].shape[0] < rows:
                self._by_rows.clear()
                self._memory = []  # the old ones go before new ones come
                with no_room_for(f"{rows} decodes"):
                    self._memory = self._allocate(rows)
            views = (one[:rows] for one in self._memory)
            tokens, log_probabilities, attended, *caches = (
                view if isinstance(view, Buffer) else Buffer.from_numpy(view) for view in views
            )
            self._by_rows[rows] = DecodeBuffers(tokens, log_probabilities, attended, tuple(caches))
        return self._by_rows[rows]

    def _allocate(self, rows: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] | list[Buffer]:
        config, kept = self._config, self._kept
        cache, out = (rows, config.n_text_head, config.n_text_ctx, HEAD_WIDTH), (rows, config.n_text_ctx)
        attended = (*out, len(config.aligned_by), config.n_audio_ctx)
        caches = [(cache, kept)] * (2 * config.n_text_layer)
        shapes = [(out, DType.int64), (out, DType.float32), (attended, DType.float32), *caches]
        if self._device.is_host and kept == DType.float32:
            return [np.zeros(shape, dtype.to_numpy()) for shape, dtype in shapes]
        return [Buffer.zeros(shape, dtype, device=self._device) for shape, dtype in shapes]


_TURNS = count(1)  # of all models, so that none takes another one's seat for its own


@dataclass(frozen=True, slots=True)
class Seat:
    """One window's place: ``index`` in the buffers, ``positions`` that were heard, ``turn`` of its use."""

    index: int
    positions: int
    turn: int


class Seats:
    """Cross-attention K/V [W, H, S, D], a pair of buffers for each decoder layer; W grows as it is needed."""

    def __init__(self, config: WhisperConfig, device: Device, kept: DType = DType.float32) -> None:
        self._config, self._device, self._kept = config, device, kept
        self._turns: list[int] = []
        self._next = 0
        self.buffers: tuple[Buffer, ...] = ()

    def reserve(self, rows: int) -> None:
        """Make sure that ``rows`` windows can be taken one after another without losing one of them."""
        self._next = 0
        if rows <= len(self._turns):
            return
        config = self._config
        shape = (rows, config.n_text_head, config.n_audio_ctx, HEAD_WIDTH)
        self.buffers, self._turns = (), []  # the old ones go before new ones come
        with no_room_for(f"{rows} windows"):
            self.buffers = tuple(
                Buffer.zeros(shape, self._kept, device=self._device) for _ in range(2 * config.n_text_layer)
            )
        self._turns = [0] * rows

    def take(self, rows: int, positions: int) -> tuple[Seat, ...]:
        """Seats side by side for ``rows`` windows of ``positions``. Whoever had them loses them."""
        if self._next + rows > len(self._turns):
            self.reserve(rows)
        first, self._next = self._next, self._next + rows
        turn = next(_TURNS)
        self._turns[first : self._next] = [turn] * rows
        return tuple(Seat(index, positions, turn) for index in range(first, self._next))

    def check(self, seats: Sequence[Seat]) -> None:
        """Raise ValueError where one of ``seats`` was taken again since."""
        if any(seat.index >= len(self._turns) or self._turns[seat.index] != seat.turn for seat in seats):
            raise ValueError("an encoding was used after its seat had been given to another window")
