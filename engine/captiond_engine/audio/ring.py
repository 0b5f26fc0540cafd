"""The last seconds of one stream, addressed by absolute sample index.

Takes: float32 PCM in order. Gives: copies of any stretch that is still held. When full, the oldest
samples are overwritten; whoever still needs them must look at ``oldest`` before appending. Knows
nothing of speech.
"""

from __future__ import annotations

import numpy as np

from captiond_engine.types import Float32Array


class AudioRing:
    """Holds the ``capacity`` newest samples of [0, ``end``)."""

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"a ring of {capacity} samples cannot hold audio")
        self._store: Float32Array = np.zeros(capacity, np.float32)
        self._first = start
        self._end = start

    @property
    def capacity(self) -> int:
        return len(self._store)

    @property
    def end(self) -> int:
        """Index after the newest sample."""
        return self._end

    @property
    def oldest(self) -> int:
        """Index of the oldest sample that is still held."""
        return max(self._first, self._end - len(self._store))

    def append(self, pcm: Float32Array) -> None:
        """Add float32 [samples] after ``end``, overwriting the oldest where there is no room."""
        held = pcm[-len(self._store) :]
        at = (self._end + len(pcm) - len(held)) % len(self._store)
        until_wrap = min(len(held), len(self._store) - at)
        self._store[at : at + until_wrap] = held[:until_wrap]
        self._store[: len(held) - until_wrap] = held[until_wrap:]
        self._end += len(pcm)

    def restart(self, at: int) -> None:
        """Forget everything; the next sample has index ``at``."""
        if at < self._end:
            raise ValueError(f"a ring that ends at {self._end} cannot go back to {at}")
        self._first = self._end = at

    def read(self, start: int, end: int) -> Float32Array:
        """A copy of [start, end). Raises LookupError where part of it is not held."""
        if not self.oldest <= start <= end <= self._end:
            raise LookupError(f"[{start}, {end}) is not within the held [{self.oldest}, {self._end})")
        at = start % len(self._store)
        until_wrap = min(end - start, len(self._store) - at)
        return np.concatenate(
            (self._store[at : at + until_wrap], self._store[: end - start - until_wrap]), dtype=np.float32
        )
