"""Whose turn it is at the device: one batch, formed from whatever streams have work.

Takes: the seats of streams that have work, the time, and what batches cost. Gives: their most urgent jobs.
Knows no device and no event loop; its clock is the caller's.

Finals come before the passes of pauses, these before partials, and a batch holds one of these kinds only: no
final waits for a partial that began with it. Within a kind, who has the oldest undecoded sound comes first;
who was served has none so old, so that everybody's turn comes. What a stream reads ahead of the pace of
speech comes last, until that pace has caught up with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from captiond_engine.batch_cost import BatchCost
from captiond_engine.pace import Pace
from captiond_engine.stream import Stream
from captiond_engine.types import HOP_SAMPLES, SAMPLE_RATE_HZ, Job

# How long a batch may be expected to take: a final that falls due meanwhile has to wait for it. The pass of a
# pause is due 200 ms after the last voice, and the endpoint falls 300 ms later (segment.post_roll_ms and
# silence_ms by default): with this much of it gone, a pass of 100 ms is still there when the endpoint falls.
LONGEST_BATCH_S = 0.2
# Where one pass alone takes longer than that, a batch may take half as long again: a final waits for that
# pass anyway, and further rows may cost next to nothing.
LONGEST_BATCH_PASSES = 1.5
AHEAD = 3  # added to the urgency of a stream that reads ahead: after all that is live


@dataclass(slots=True, eq=False)
class Seat:
    """A stream at the device.

    ``changed_at``: when work was first due that the device has not taken yet. ``alone``: a batch with it has
    failed, so that it goes without others until it has had an answer: they must not suffer for it.
    """

    stream: Stream
    on_events: Callable[[], None]
    boundary: Callable[[], AbstractContextManager[None]]
    pace: Pace
    changed_at: float | None = None
    alone: bool = False

    def follow(self, now: float) -> None:
        """What the stream has heard, and what of it was decoded."""
        self.pace.hear(now, self.stream.heard_until, self.stream.oldest_unheard)

    def look(self, now: float) -> None:
        """Whether there is work. What is live waits for no text as what can be read later does."""
        self.follow(now)
        if not self.pace.leads(now):
            self.stream.hurry()
        if self.changed_at is None and self.stream.has_work:
            self.changed_at = now


class Taken(NamedTuple):
    """A job on its way to the device. ``new_s``: seconds of speech in it that are in no earlier one."""

    seat: Seat
    job: Job
    queued_ms: float
    new_s: float

    @property
    def sound_s(self) -> float:
        """Length of its window."""
        return float(self.job.payload.mel.shape[1] * HOP_SAMPLES / SAMPLE_RATE_HZ)


class _Due(NamedTuple):
    """A stream's turn; the least comes first. ``said_at``: when its oldest undecoded sound was said."""

    urgency: int
    said_at: float
    number: int
    seat: Seat


def take_batch(seats: Sequence[Seat], now: float, most: int, cost: BatchCost) -> list[Taken]:
    """The most urgent jobs of one kind: at most ``most``, and as many as keep within their time."""
    changed = [seat for seat in seats if seat.changed_at is not None]
    due = sorted(_due(changed, now), key=lambda entry: entry[:3])
    batch: list[Taken] = []
    for entry in due:
        if entry.urgency != due[0].urgency or not _has_room(batch, most, cost):
            break
        if batch and (entry.seat.alone or batch[0].seat.alone):
            continue
        with entry.seat.boundary():
            taken = _take(entry.seat, now)
            if taken is not None:
                batch.append(taken)
    for seat in changed:
        with seat.boundary():
            if not seat.stream.has_work:
                seat.changed_at = None
    return batch


def _due(changed: Sequence[Seat], now: float) -> list[_Due]:
    due = []
    for number, seat in enumerate(changed):
        with seat.boundary():
            urgency, oldest = seat.stream.urgency, seat.stream.oldest_unheard
            if urgency is not None:
                urgency += AHEAD if seat.pace.is_ahead(now, oldest) else 0
                due.append(_Due(urgency, seat.pace.said_at(oldest), number, seat))
    return due


def _has_room(batch: Sequence[Taken], most: int, cost: BatchCost) -> bool:
    """Whether one more job like those of ``batch`` keeps it within its time."""
    if not batch or len(batch) >= most:
        return not batch
    sound_s = sum(taken.sound_s for taken in batch) / len(batch)
    alone_s = cost.expect(1, sound_s)
    together_s = cost.expect(len(batch) + 1, sound_s * (len(batch) + 1))
    if alone_s is None or together_s is None:
        return False
    return together_s <= max(LONGEST_BATCH_S, LONGEST_BATCH_PASSES * alone_s)


def _take(seat: Seat, now: float) -> Taken | None:
    job = seat.stream.next_job()
    if job is None:
        return None
    waited_s = 0.0 if seat.changed_at is None else now - seat.changed_at
    return Taken(seat, job, waited_s * 1000, seat.pace.cover(job.payload.start, job.payload.end))
