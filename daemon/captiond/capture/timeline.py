"""From a device's blocks to one timeline of 16 kHz audio, in which what is missing has a length and a reason.

Takes: mono blocks at the device's rate with the times at which they came, and when the device ran or was
gone. Gives: audio, and losses between it. Pure: it is told the time, and waits for nothing.

While a device runs, its own clock counts: sound cards and computers disagree by some parts in a million, and
that is no loss. What counts as lost is told by the device (overflow), by the ring, by the time for which the
device was away, or by sound that stays late for so long that it must be missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from captiond_engine.audio.pcm import Resampler
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

from captiond.capture.ring import Block

AWAY = "microphone"  # reasons of ``audio.lost``
OVERFLOW = "overflow"

DRIFT = 1e-3  # most that a device's clock may be slow; crystals are within 1e-4
LATE_S = 0.5  # later than any buffer between us and the device makes a block;
LATE_FOR_S = 2.0  # for so much sound one after another, it will not catch up any more


@dataclass(frozen=True, slots=True)
class Lost:
    """``samples`` of time at 16 kHz of which there is no sound."""

    samples: int
    reason: str


Piece = Float32Array | Lost


class CaptureTimeline:
    """``start`` when a device has been opened, ``take`` its blocks, ``stop`` when it is gone; and so again.

    ``began``: when the timeline began, in seconds of the clock that blocks are timed with.
    """

    def __init__(self, began: float) -> None:
        self._until = began  # all before is told
        self._expected: float | None = None  # when the newest sample came or should have; None: none has
        self._rate_hz = SAMPLE_RATE_HZ
        self._resampler = Resampler(SAMPLE_RATE_HZ)
        self._late_for = 0.0
        self._least_late = 0.0

    def start(self, rate_hz: int) -> None:
        """A device runs, or runs again, perhaps at another rate."""
        self._rate_hz = rate_hz
        self._resampler = Resampler(rate_hz)
        self._expected = None

    def take(self, block: Block) -> list[Piece]:
        """One block: what is missing before it, and its sound."""
        duration = len(block.pcm) / self._rate_hz
        missing = block.overwritten / self._rate_hz
        pieces: list[Piece] = []
        if self._expected is None:
            self._expected = block.at - duration - missing
            self._late_for = 0.0
            pieces += self._lose(self._expected - self._until, AWAY)
        self._expected += missing + duration
        missing += self._missing(block, duration)
        pieces += self._lose(missing, OVERFLOW)
        self._until = self._expected
        heard = self._resampler.extend(_sound(block.pcm))
        return [*pieces, heard] if len(heard) else pieces

    def stop(self, now: float) -> list[Piece]:
        """The device is gone: the end of its sound, and the time since then, so that a segment ends here."""
        if self._expected is None:
            return []
        self._expected = None
        tail = self._resampler.finish()
        since = max(now - self._until, 1 / SAMPLE_RATE_HZ)
        lost = self._lose(since, AWAY)
        self._until += since
        return [tail, *lost] if len(tail) else lost

    def _missing(self, block: Block, duration: float) -> float:
        """Seconds that the device has left out before ``block``, as far as can be told; follows its clock."""
        assert self._expected is not None
        late = block.at - self._expected
        if late <= 0:  # the device is fast, or the blocks before were late
            self._expected = block.at
            self._late_for = 0.0
            return 0.0
        if block.overflowed:
            self._expected = block.at
            self._late_for = 0.0
            return late
        self._expected += min(late, DRIFT * duration)
        self._least_late = min(late, self._least_late) if self._late_for else late
        self._late_for = self._late_for + duration if late > LATE_S else 0.0
        if self._late_for < LATE_FOR_S:
            return 0.0
        self._late_for = 0.0
        self._expected += self._least_late
        return self._least_late

    def _lose(self, seconds: float, reason: str) -> list[Piece]:
        """A hole, if there is one; the sound before it ends, and the sound after it begins anew."""
        samples = round(seconds * SAMPLE_RATE_HZ)
        if samples < 1:
            return []
        tail = self._resampler.finish()
        self._resampler = Resampler(self._rate_hz)
        lost = Lost(samples, reason)
        return [tail, lost] if len(tail) else [lost]


def _sound(pcm: Float32Array) -> Float32Array:
    """Within [-1, 1], and silence for what is no number."""
    if not np.isfinite(pcm).all():
        pcm = np.nan_to_num(pcm, posinf=0.0, neginf=0.0)
    return np.clip(pcm, -1, 1)
