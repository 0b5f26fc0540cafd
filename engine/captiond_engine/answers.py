"""Ended segments and flushes that wait for their answers, told in the order in which they came.

Takes: segments as they end, flushes as they are asked for. Gives: the events that are due, in order, with
a final, a suppression or a report of loss for every one. Bounded twice: by the ring, whose overwriting
gives up what still needs it, and by ``MOST_WAITING``. Knows no device and no detector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from captiond_engine.audio.ring import AudioRing
from captiond_engine.live_segment import LiveSegment
from captiond_engine.types import AudioLost, Flushed, Suppressed, Transcript

MOST_WAITING = 256

Answer = Transcript | Suppressed | AudioLost | Flushed


class Answers:
    """Every method that can change something gives the events which that makes due."""

    def __init__(self) -> None:
        self._waiting: deque[LiveSegment | Flushed] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[LiveSegment]:
        """The segments without an answer, oldest first."""
        return (e for e in self._waiting if isinstance(e, LiveSegment) and e.outcome is None)

    @property
    def is_full(self) -> bool:
        """The device has not answered for very long: the oldest segment must be given up."""
        return len(self._waiting) > MOST_WAITING

    def add(self, entry: LiveSegment | Flushed) -> list[Answer]:
        self._waiting.append(entry)
        return self.due()

    def due(self) -> list[Answer]:
        """What is answered and has nothing unanswered before it."""
        told: list[Answer] = []
        while self._waiting:
            entry = self._waiting[0]
            answer = entry if isinstance(entry, Flushed) else entry.outcome
            if answer is None:
                break
            told.append(answer)
            self._waiting.popleft()
        return told

    def give_up(self, segment: LiveSegment, reason: str) -> list[Answer]:
        """``segment`` will not be decoded: what of it was in no pass is lost, for ``reason``."""
        return [*segment.give_up(reason), *self.due()]

    def overwrite(self, oldest: int) -> list[Answer]:
        """The ring is about to hold nothing before ``oldest``: give up what still needs that."""
        told: list[Answer] = []
        for segment in self:
            if segment.needs_from is not None and segment.needs_from < oldest:
                told += segment.give_up("overrun")
        return told + self.due() if told else told

    def hear_out(self, ring: AudioRing) -> None:
        """Take out of ``ring`` all that is still needed of it."""
        for segment in self:
            if segment.end is not None:
                segment.hear(ring, segment.end)
