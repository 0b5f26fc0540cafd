"""Blocks of sound on their way from PortAudio's thread to the event loop.

Takes: blocks as a device gives them, in any number of channels. Gives: mono blocks in order, each with the
time at which it came. When full, the oldest is overwritten, and counted. One writer, one reader, no lock:
the writer never waits, and whatever the reader copied is looked at again before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from captiond_engine.types import Float32Array


class Block(NamedTuple):
    """``pcm``: float32 [frames], mono, at the device's rate; the last of it was there at ``at`` (loop time).

    ``overflowed``: PortAudio had to drop sound before it. ``overwritten``: frames before it that were in
    the ring and not taken in time.
    """

    pcm: Float32Array
    at: float
    overflowed: bool
    overwritten: int


class BlockRing:
    """Holds the newest ``capacity`` blocks of ``frames``. ``channel``: 1 is the first, 0 the mean of all."""

    def __init__(self, capacity: int, frames: int, channel: int = 0) -> None:
        self.written = 0  # blocks ever; the writer's alone
        self._store: Float32Array = np.zeros((capacity, frames), np.float32)
        self._at = [0.0] * capacity
        self._overflowed = bytearray(capacity)
        self._capacity = capacity
        self._channel = channel
        self._taken = 0  # blocks ever taken or passed over; the reader's alone
        self._overwritten = 0

    def put(self, data: Float32Array, at: float, overflowed: bool) -> None:
        """Copy float32 [frames, channels] that came ``at``. Called in PortAudio's thread."""
        place = self.written % self._capacity
        mono = self._store[place]
        channels = data.shape[1]
        if self._channel or channels == 1:
            mono[:] = data[:, self._channel - 1 if self._channel else 0]
        else:
            np.add.reduce(data, axis=1, out=mono)
            mono /= channels
        self._at[place] = at
        self._overflowed[place] = overflowed
        self.written += 1  # last: from here on the reader may look

    def take(self) -> Iterator[Block]:
        """The blocks since the last call, oldest first."""
        while self._taken < self.written:
            place = self._taken % self._capacity
            pcm = self._store[place].copy()
            at, overflowed = self._at[place], bool(self._overflowed[place])
            # The writer may be busy with the block that is a capacity after ``written - 1``.
            gone = self.written - self._capacity + 1 - self._taken
            if gone > 0:
                self._taken += gone
                self._overwritten += gone
                continue
            self._taken += 1
            before, self._overwritten = self._overwritten * len(pcm), 0
            yield Block(pcm, at, overflowed, before)
