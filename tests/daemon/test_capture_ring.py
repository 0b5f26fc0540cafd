"""The ring between PortAudio's thread and the loop: nothing is invented, and what is gone is counted."""

from __future__ import annotations

import threading

import numpy as np
from captiond.capture.ring import BlockRing
from hypothesis import given
from hypothesis import strategies as st

FRAMES = 3


def block(number: int, channels: int = 1) -> np.ndarray:
    return np.full((FRAMES, channels), number, np.float32)


@given(st.integers(2, 6), st.lists(st.integers(0, 9), max_size=30))
def test_blocks_come_in_order_and_those_that_were_overwritten_are_counted(
    capacity: int, writes: list[int]
) -> None:
    """``writes``: how many blocks come between two looks of the reader."""
    ring = BlockRing(capacity, FRAMES)
    written, accounted = 0, 0
    for count in writes:
        for _ in range(count):
            ring.put(block(written), written / 8, written % 3 == 0)
            written += 1
        for taken in ring.take():
            assert taken.overwritten % FRAMES == 0
            accounted += taken.overwritten // FRAMES
            assert (taken.pcm == accounted).all(), "the next block that was not overwritten"
            assert taken.at == accounted / 8
            assert taken.overflowed == (accounted % 3 == 0)
            accounted += 1
        assert accounted == written


def test_less_than_the_capacity_is_never_lost() -> None:
    ring = BlockRing(10, FRAMES)
    for number in range(9):
        ring.put(block(number), 0.0, False)
    assert [taken.overwritten for taken in ring.take()] == [0] * 9


def test_a_channel_is_chosen_and_the_mean_is_of_all() -> None:
    data = np.array([[0.25, 0.75], [-1.0, 1.0], [0.5, 0.0]], np.float32)
    for channel, heard in [(0, [0.5, 0.0, 0.25]), (1, [0.25, -1.0, 0.5]), (2, [0.75, 1.0, 0.0])]:
        ring = BlockRing(4, FRAMES, channel)
        ring.put(data, 0.0, False)
        (taken,) = ring.take()
        assert taken.pcm.tolist() == heard
        assert taken.pcm.dtype == np.float32


def test_what_was_taken_is_a_copy() -> None:
    ring = BlockRing(2, FRAMES)
    ring.put(block(1), 0.0, False)
    (taken,) = ring.take()
    for number in range(2, 6):
        ring.put(block(number), 0.0, False)
    assert (taken.pcm == 1).all()


def test_a_writer_in_another_thread_never_tears_a_block() -> None:
    """Every block that is believed is whole, and with the overwritten ones they are all that were written."""
    ring, blocks = BlockRing(4, 2_000), 20_000

    def write() -> None:
        for number in range(blocks):
            ring.put(np.full((2_000, 1), number, np.float32), float(number), False)

    writer = threading.Thread(target=write)
    writer.start()
    accounted = 0
    while accounted < blocks:
        alive = writer.is_alive()
        for taken in ring.take():
            accounted += taken.overwritten // 2_000
            assert (taken.pcm == accounted).all()
            assert taken.at == accounted
            accounted += 1
        assert alive or accounted == blocks
    writer.join()
