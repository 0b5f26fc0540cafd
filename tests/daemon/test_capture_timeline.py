"""One timeline from a device's blocks: nothing is invented or lost in silence, and clocks may differ."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from captiond.capture.ring import Block
from captiond.capture.timeline import AWAY, OVERFLOW, CaptureTimeline, Lost, Piece
from captiond_engine.types import SAMPLE_RATE_HZ
from hypothesis import example, given, settings
from hypothesis import strategies as st

RATES_HZ = [8_000, 16_000, 44_100, 48_000]
BLOCK_S = 0.05


class Device:
    """Gives blocks to a timeline, and keeps what comes out. ``now`` is the clock."""

    def __init__(
        self, rate_hz: int = 16_000, *, drift: float = 0.0, began: float = 100.0, block_s: float = BLOCK_S
    ) -> None:
        self.rate_hz = rate_hz
        self.frames = round(rate_hz * block_s)
        self.now = began
        self.timeline = CaptureTimeline(began)
        self.timeline.start(rate_hz)
        self.pieces: list[Piece] = []
        self._drift = drift

    def block(self, *, late: float = 0.0, overflowed: bool = False, overwritten: int = 0) -> None:
        """One block; it comes ``late`` seconds after its last sample was there."""
        self.now += self.frames / self.rate_hz * (1 + self._drift)
        pcm = np.full(self.frames, 0.25, np.float32)
        self.pieces += self.timeline.take(Block(pcm, self.now + late, overflowed, overwritten))

    def miss(self, frames: int) -> None:
        """Time for so many frames passes, and nobody hears them."""
        self.now += frames / self.rate_hz

    def gone(self) -> None:
        self.pieces += self.timeline.stop(self.now)

    def back(self, rate_hz: int | None = None) -> None:
        self.rate_hz = rate_hz or self.rate_hz
        self.frames = round(self.rate_hz * BLOCK_S)
        self.timeline.start(self.rate_hz)

    @property
    def lost(self) -> list[Lost]:
        return [piece for piece in self.pieces if isinstance(piece, Lost)]

    @property
    def length(self) -> int:
        """Samples of the timeline: what Stream hears and what it is told to skip."""
        return sum(piece.samples if isinstance(piece, Lost) else len(piece) for piece in self.pieces)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("blocks"), st.integers(1, 8)),
        st.tuples(st.just("overflow"), st.integers(1, 50_000)),
        st.tuples(st.just("overwritten"), st.integers(1, 40)),
        st.tuples(st.just("away"), st.integers(1, 1_000_000)),
        st.tuples(st.just("rate"), st.sampled_from(RATES_HZ)),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(rate_hz=st.sampled_from(RATES_HZ), course=steps)
def test_what_is_heard_and_what_is_lost_make_up_the_time_that_passed(
    rate_hz: int, course: list[tuple[str, int]]
) -> None:
    device = Device(rate_hz)
    device.block()
    expected: list[Lost] = []
    for step, amount in course:
        if step == "blocks":
            for _ in range(amount):
                device.block()
        elif step == "overflow":
            device.miss(amount)
            device.block(overflowed=True)
            expected.append(Lost(round(amount / device.rate_hz * SAMPLE_RATE_HZ), OVERFLOW))
        elif step == "overwritten":
            device.miss(amount * device.frames)
            device.block(overwritten=amount * device.frames)
            expected.append(Lost(round(amount * device.frames / device.rate_hz * SAMPLE_RATE_HZ), OVERFLOW))
        else:
            away = amount if step == "away" else device.rate_hz
            device.miss(away)
            device.gone()
            expected.append(Lost(round(away / device.rate_hz * SAMPLE_RATE_HZ), AWAY))
            device.miss(2 * away)
            expected.append(Lost(round(2 * away / device.rate_hz * SAMPLE_RATE_HZ), AWAY))
            device.back(amount if step == "rate" else None)
            device.block()
    device.gone()
    expected.append(Lost(1, AWAY))  # so that a segment ends here
    assert [lost.reason for lost in device.lost] == [lost.reason for lost in expected if lost.samples]
    for told, true in zip(device.lost, [lost for lost in expected if lost.samples], strict=True):
        assert abs(told.samples - true.samples) <= 1
    passed = (device.now - 100.0) * SAMPLE_RATE_HZ
    # Each hole, and each stretch of sound between two, has a whole number of samples.
    assert abs(device.length - 1 - passed) <= 2 * len(expected) + 1
    heard = [piece for piece in device.pieces if not isinstance(piece, Lost)]
    assert all(len(piece) and piece.dtype == np.float32 for piece in heard)


def test_at_16_khz_losses_are_exact_to_the_sample() -> None:
    device = Device(16_000)
    device.block()
    device.miss(12_345)
    device.block(overflowed=True)
    device.miss(800 * 7)
    device.block(overwritten=800 * 7)
    device.miss(54_321)
    device.gone()
    device.miss(16_000)
    device.back()
    device.block()
    assert device.lost == [
        Lost(12_345, OVERFLOW),
        Lost(5_600, OVERFLOW),
        Lost(54_321, AWAY),
        Lost(16_000, AWAY),
    ]
    assert device.length == 4 * 800 + 12_345 + 5_600 + 54_321 + 16_000


@settings(max_examples=25, deadline=None)
@given(
    drift=st.floats(-5e-4, 5e-4),
    lates=st.lists(st.floats(0.0, 0.4), min_size=1, max_size=50),
)
@example(drift=5e-4, lates=[0.0])
@example(drift=-5e-4, lates=[0.0, 0.4])
def test_clocks_that_differ_and_blocks_that_come_late_lose_nothing(drift: float, lates: list[float]) -> None:
    """Half a thousandth is five times what a bad crystal does."""
    device = Device(drift=drift, block_s=0.5)
    device.block()
    device.pieces.clear()
    for late in itertools.islice(itertools.cycle(lates), 1_200):
        device.block(late=late)
    assert device.lost == []
    assert device.length == 1_200 * 8_000


@pytest.mark.parametrize("drift", [-5e-4, 5e-4])
def test_a_clock_that_is_wrong_for_hours_loses_nothing(drift: float) -> None:
    device = Device(drift=drift, block_s=1.0)
    device.block()
    device.pieces.clear()
    for _ in range(2 * 3_600):  # 3.6 s apart at the end
        device.block()
    assert device.lost == []


@pytest.mark.parametrize("missing_s", [0.6, 1.0, 2.9])
def test_sound_that_stays_late_is_missing_although_nobody_said_so(missing_s: float) -> None:
    device = Device()
    for _ in range(40):
        device.block()
    device.miss(round(missing_s * 16_000))
    for _ in range(80):
        device.block()
    (lost,) = device.lost
    assert lost.reason == OVERFLOW
    assert abs(lost.samples - missing_s * 16_000) <= 0.005 * 16_000  # its clock was followed meanwhile


def test_blocks_that_were_held_up_and_come_at_once_are_no_loss() -> None:
    device = Device()
    for _ in range(20):
        device.block()
    for held in range(40, 0, -1):  # two seconds of sound, all at the end of them
        device.block(late=held * BLOCK_S)
    for _ in range(100):
        device.block()
    assert device.lost == []


def test_a_device_that_gave_nothing_since_it_was_opened_is_not_told_twice() -> None:
    device = Device()
    device.block()
    device.gone()
    for _ in range(5):
        device.miss(16_000)
        device.back()
        device.gone()
    assert device.lost == [Lost(1, AWAY)]
    device.back()
    device.block()
    assert device.lost == [Lost(1, AWAY), Lost(5 * 16_000 - 1, AWAY)]


def test_before_the_first_sound_the_time_since_the_beginning_is_told() -> None:
    device = Device()
    device.miss(3 * 16_000)
    device.block()
    assert device.lost == [Lost(3 * 16_000, AWAY)]
    early = Device()
    early.now -= BLOCK_S  # the stream was opened when the first block had come
    early.block()
    assert early.lost == []


def test_no_number_is_silence_and_nothing_is_louder_than_full() -> None:
    device = Device()
    pcm = np.array([np.nan, np.inf, -np.inf, 2.0, -3.0, 0.5], np.float32)
    (heard,) = device.timeline.take(Block(pcm, 100.0, False, 0))
    assert not isinstance(heard, Lost)
    assert heard.tolist() == [0.0, 0.0, 0.0, 1.0, -1.0, 0.5]
