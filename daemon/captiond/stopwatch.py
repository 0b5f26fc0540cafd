"""Where the time of one stream's results went, as far as the edge can see it.

Takes: when audio arrived and was heard, and when segments ended. Gives: the engine's timings with what
it cannot know filled in. Times are the loop's, in seconds; knows no wire.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import replace

from captiond_engine.types import SpeechEnded, StreamEvent, Timings, Transcript

FRAMES = 512  # two minutes of pieces: more than a segment and what is read ahead of it
SEGMENTS = 512  # more than may wait for their final


class Stopwatch:
    """One stream's. Memory is bounded; what is too old to be known stays None."""

    def __init__(self) -> None:
        self._waits: deque[tuple[int, float]] = deque(maxlen=FRAMES)
        self._ended_at: OrderedDict[int, float] = OrderedDict()

    def heard(self, end: int, waited_s: float) -> None:
        """Audio up to sample ``end`` was heard ``waited_s`` after it had arrived."""
        self._waits.append((end, waited_s))

    def complete(self, event: StreamEvent, now: float) -> StreamEvent:
        """``event`` as it leaves at ``now``; only transcripts change."""
        if isinstance(event, SpeechEnded):
            self._ended_at[event.segment] = now
            while len(self._ended_at) > SEGMENTS:
                self._ended_at.popitem(last=False)
        if not isinstance(event, Transcript):
            return event
        timings = replace(event.timings or Timings(), captured_to_heard_ms=self._waited_ms(event.heard_until))
        ended_at = self._ended_at.pop(event.segment, None) if event.final else None
        if ended_at is not None:
            timings = replace(timings, endpoint_to_final_ms=(now - ended_at) * 1000)
        return replace(event, timings=timings)

    def _waited_ms(self, sample: int) -> float | None:
        for end, waited_s in self._waits:
            if end >= sample:
                return waited_s * 1000
        return None
