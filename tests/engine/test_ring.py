"""The audio ring holds the newest samples under their absolute index, and refuses the rest."""

from __future__ import annotations

import numpy as np
import pytest
from captiond_engine.audio.ring import AudioRing
from hypothesis import given
from hypothesis import strategies as st


def ramp(start: int, end: int) -> np.ndarray:
    return np.arange(start, end, dtype=np.float32)


@given(
    capacity=st.integers(1, 60),
    start=st.integers(0, 100),
    lengths=st.lists(st.integers(0, 90), max_size=20),
)
def test_every_held_sample_is_found_under_its_index(capacity: int, start: int, lengths: list[int]) -> None:
    ring = AudioRing(capacity, start)
    end = start
    for length in lengths:
        ring.append(ramp(end, end + length))
        end += length
        assert ring.end == end
        assert ring.oldest == max(start, end - capacity)
        assert np.array_equal(ring.read(ring.oldest, end), ramp(ring.oldest, end))


def test_what_was_overwritten_or_is_to_come_is_refused() -> None:
    ring = AudioRing(10)
    ring.append(ramp(0, 25))
    for start, end in ((14, 20), (20, 26), (20, 19)):
        with pytest.raises(LookupError):
            ring.read(start, end)


def test_what_is_read_is_a_copy() -> None:
    ring = AudioRing(4)
    ring.append(ramp(0, 4))
    held = ring.read(0, 4)
    ring.append(ramp(4, 8))
    assert held.tolist() == [0, 1, 2, 3]


def test_after_a_restart_only_the_new_timeline_is_held() -> None:
    ring = AudioRing(10)
    ring.append(ramp(0, 8))
    ring.restart(100)
    ring.append(ramp(100, 103))
    assert (ring.oldest, ring.end) == (100, 103)
    assert ring.read(100, 103).tolist() == [100, 101, 102]
    with pytest.raises(ValueError):
        ring.restart(50)
