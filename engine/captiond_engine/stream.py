"""One timeline of audio, from frames to events. Sans I/O: no await, no clock, no socket.

Takes: audio frames in order, and answers to the jobs it asked for. Gives: jobs, at most one at a time,
and events. Knows no device, no session and no other stream. It outlives a lost socket.

Which pass is due, first to last: the finals of ended segments, oldest first; in a pause, the pass that
will be the final if nobody speaks again; a partial, each time the segment has grown by a step.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Literal, NamedTuple

import numpy as np

from captiond_engine.audio.ring import AudioRing
from captiond_engine.decoding.align import Detokenizer
from captiond_engine.decoding.commit import LocalAgreement2
from captiond_engine.live_segment import LiveSegment
from captiond_engine.speech_model import ModelTraits, Tokenizer
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import (
    AudioFrame,
    AudioLost,
    Decoding,
    EndReason,
    Float32Array,
    Flushed,
    Job,
    PromptSpec,
    SpeechEnded,
    SpeechStarted,
    StreamEvent,
    SuppressReason,
    samples_from_ms,
)
from captiond_engine.vad.detector import VoiceDetector
from captiond_engine.vad.segmenter import Began, Ended, Segmenter

__all__ = ["Keep", "Stream", "StreamSettings"]

MOST_WAITING = 256  # ended segments and flushes without an answer; beyond, the oldest is given up
FINAL_TRIES = 2
WATCHED = samples_from_ms(1_000)  # audio before a segment's onset that must not be overwritten


class Keep(Enum):
    """``configure``'s default: leave as it is."""

    KEEP = "keep"


class _Pass(NamedTuple):
    segment: LiveSegment
    end: int
    kind: Literal["partial", "final"]


class Stream:
    """Push frames, run the jobs, drain the events after every call. Not thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        traits: ModelTraits,
        tokenizer: Tokenizer,
        detector: VoiceDetector,
        settings: StreamSettings,
        slot: int = 0,
    ) -> None:
        self.name = name
        self.settings = settings
        self._slot = slot
        self._traits = traits
        self._detector = detector
        self._detokenizer = Detokenizer(tokenizer)
        self._prompt = PromptSpec(language=settings.language, hints=settings.hints)
        self._ring = AudioRing(settings.ring)
        self._segmenter = Segmenter(settings.segmenter(traits))
        self._seen = 0  # end of the last window that the detector had
        self._segments = 0
        self._open: LiveSegment | None = None
        self._waiting: deque[LiveSegment | Flushed] = deque()
        self._running: tuple[Job, _Pass] | None = None
        self._generation = 0
        self._closed = False
        self._events: list[StreamEvent] = []

    # --- audio in -------------------------------------------------------------------------------

    def push(self, frame: AudioFrame) -> None:
        """Hear a frame. Raises ValueError after ``close`` and for audio that was heard already.

        A frame that begins late leaves a gap: the open segment ends there, the gap is reported lost.
        """
        if self._closed:
            raise ValueError(f"stream {self.name} is closed")
        if frame.start < self.heard_until:
            raise ValueError(f"audio from {frame.start} on was heard already, up to {self.heard_until}")
        if frame.start > self.heard_until:
            self._skip_to(frame.start)
        at = 0
        while at < len(frame.pcm):
            until = at + self._seen + self._detector.window - self.heard_until
            self._hear(frame.pcm[at:until])
            at = until

    def flush(self) -> None:
        """End the open segment here; ``Flushed`` follows once everything up to here is answered."""
        self._follow(self._segmenter.interrupt(self.heard_until, EndReason.FLUSH))
        self._wait_for(Flushed(self.heard_until))

    def close(self) -> None:
        """No more audio will come; the open segment ends and will be decoded. May be called again."""
        self._closed = True
        self._follow(self._segmenter.interrupt(self.heard_until, EndReason.END))

    def configure(self, *, language: str | Keep | None = Keep.KEEP, hints: str | Keep = Keep.KEEP) -> None:
        """Language and hints from the next segment on."""
        if not isinstance(language, Keep):
            self._prompt = self._prompt._replace(language=language)
        if not isinstance(hints, Keep):
            self._prompt = self._prompt._replace(hints=hints)

    # --- work for the device --------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """The pass that is due now, if any and if none runs already."""
        due = self._due()
        if due is None:
            return None
        segment = due.segment
        window = segment.window(self._ring, due.end, due.kind)
        segment.asked_partial = max(segment.asked_partial, due.end)
        if due.kind == "final":
            segment.asked_final = due.end
        self._generation += 1
        job = Job(self._slot, self._generation, due.kind, self.heard_until, window)
        self._running = (job, due)
        return job

    def complete(self, job: Job, decoding: Decoding, *, queued_ms: float | None = None) -> None:
        """The device answered ``job``; an answer that is no longer wanted is dropped."""
        done = self._answered(job)
        if done is None:
            return
        segment = done.segment
        heard = segment.read(job.payload, decoding, queued_ms)
        if heard is None:
            segment.contradicted_at, segment.asked_final = done.end, None
        elif segment.end is not None:
            segment.finish(heard)
            self._drain()
        else:
            if done.kind == "final":
                segment.settled = heard
            told = segment.tell(heard, show=self.settings.partials)
            if told is not None:
                self._events.append(told)

    def fail(self, job: Job) -> None:
        """The device failed on ``job``. A partial is dropped. A final is tried once more; after that
        what was last shown becomes the final, and the rest is reported lost (reason "device")."""
        failed = self._answered(job)
        if failed is None or failed.segment.end is None:
            return
        failed.segment.failures += 1
        if failed.segment.failures >= FINAL_TRIES:
            self._events += failed.segment.give_up("device")
            self._drain()

    # --- what others ask ------------------------------------------------------------------------

    def take_events(self) -> list[StreamEvent]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def heard_until(self) -> int:
        return self._ring.end

    @property
    def has_work(self) -> bool:
        return self._due() is not None

    @property
    def urgency(self) -> int | None:
        """0: a final waits; 1: the pass of a pause; 2: a partial; None: ``next_job`` has nothing."""
        due = self._due()
        if due is None:
            return None
        if due.segment.end is not None:
            return 0
        return 1 if due.kind == "final" else 2

    @property
    def backlog(self) -> int:
        """Samples of speech that were heard, but are in no finished pass yet."""
        return sum(end - segment.covered for segment, end in self._undecoded())

    @property
    def oldest_unheard(self) -> int:
        """First sample of speech that is in no finished pass yet; ``heard_until`` where all are."""
        return min((segment.covered for segment, _ in self._undecoded()), default=self.heard_until)

    @property
    def room(self) -> int:
        """Samples that can be pushed before undecoded speech is overwritten: back-pressure for files."""
        segments = [s for s in (*self._waiting, self._open) if isinstance(s, LiveSegment)]
        needed = [s.needs_from for s in segments if s.needs_from is not None]
        oldest = min([*needed, self._seen - self.settings.pre_roll - WATCHED])
        return max(0, self._ring.capacity - (self.heard_until - oldest))

    @property
    def done(self) -> bool:
        """Closed, and everything is answered."""
        return self._closed and self._open is None and not self._waiting

    # --- inside -----------------------------------------------------------------------------------

    def _hear(self, pcm: Float32Array) -> None:
        """At most as much as completes one window for the detector."""
        self._make_room(len(pcm))
        self._ring.append(pcm)
        end = self._seen + self._detector.window
        if self._ring.end < end:
            return
        window = self._ring.read(self._seen, end)
        energy = float(np.dot(window, window)) / len(window)
        self._follow(self._segmenter.update(self._detector.probability(window), energy, self._seen, end))
        self._seen = end
        if self._open is not None:
            self._open.speech_end = self._segmenter.speech_end

    def _follow(self, boundaries: list[Began | Ended]) -> None:
        for boundary in boundaries:
            if isinstance(boundary, Began):
                self._begin(boundary)
            else:
                self._end(boundary)

    def _begin(self, began: Began) -> None:
        limits = self._segmenter.settings
        self._segments += 1
        self._open = LiveSegment(
            self._segments,
            began.at,
            began.onset,
            traits=self._traits,
            detokenizer=self._detokenizer,
            policy=LocalAgreement2(),
            prompt=self._prompt,
            commit_limit=began.at + limits.max_segment - limits.cut_search,
            continued=began.continued,
        )
        self._events.append(SpeechStarted(self._segments, began.at))

    def _end(self, ended: Ended) -> None:
        segment = self._open
        assert segment is not None
        self._open = None
        segment.end = ended.at
        segment.speech_end = ended.speech_end
        self._events.append(SpeechEnded(segment.number, ended.at, ended.reason))
        if self._running is not None and self._running[1] != _Pass(segment, ended.at, "final"):
            self._running = None if self._running[1].segment is segment else self._running
        if (
            ended.voiced < self.settings.min_speech
            and not segment.continued
            and segment.covered == segment.start
        ):
            segment.suppress(SuppressReason.TOO_SHORT)
        elif segment.settled is not None and segment.settled.end == ended.at:
            segment.finish(segment.settled)
        self._wait_for(segment)

    def _wait_for(self, entry: LiveSegment | Flushed) -> None:
        self._waiting.append(entry)
        if len(self._waiting) > MOST_WAITING:  # the device has not answered for very long
            first = next(e for e in self._waiting if isinstance(e, LiveSegment) and e.outcome is None)
            self._running = None
            self._events += first.give_up("overrun")
        self._drain()

    def _drain(self) -> None:
        """Tell what is answered, in the order of the segments."""
        while self._waiting:
            entry = self._waiting[0]
            told = entry if isinstance(entry, Flushed) else entry.outcome
            if told is None:
                return
            self._events.append(told)
            self._waiting.popleft()

    def _due(self) -> _Pass | None:
        if self._running is not None:
            return None
        for entry in self._waiting:
            if isinstance(entry, LiveSegment) and entry.outcome is None and entry.end is not None:
                return _Pass(entry, entry.end, "final")
        segment = self._open
        if segment is None or not (segment.continued or self._segmenter.voiced >= self.settings.min_speech):
            return None
        quiet_end = self._segmenter.quiet_end
        if quiet_end is not None:
            return None if segment.asked_final == quiet_end else _Pass(segment, quiet_end, "final")
        step = self.settings.partial_step
        grid = segment.start + (self._seen - segment.start) // step * step
        due = self.settings.partials and grid > segment.asked_partial
        return _Pass(segment, grid, "partial") if due else None

    def _answered(self, job: Job) -> _Pass | None:
        """The pass that ``job`` was for; None if it is no longer wanted."""
        if self._running is None or self._running[0].generation != job.generation:
            return None
        _, run = self._running
        self._running = None
        return run

    def _undecoded(self) -> list[tuple[LiveSegment, int]]:
        segments = [e for e in self._waiting if isinstance(e, LiveSegment) and e.outcome is None]
        undecoded = [(segment, segment.end) for segment in segments if segment.end is not None]
        if self._open is not None:
            undecoded.append((self._open, self._segmenter.quiet_end or self._seen))
        return [(segment, end) for segment, end in undecoded if end > segment.covered]

    def _make_room(self, samples: int) -> None:
        """Before ``samples`` more: give up ended segments whose audio would be overwritten."""
        oldest = self._ring.end + samples - self._ring.capacity
        for entry in self._waiting:
            needed = entry.needs_from if isinstance(entry, LiveSegment) else None
            if isinstance(entry, LiveSegment) and needed is not None and needed < oldest:
                self._events += entry.give_up("overrun")
        self._drain()

    def _skip_to(self, start: int) -> None:
        heard = self.heard_until
        self._follow(self._segmenter.interrupt(heard, EndReason.GAP))
        for entry in self._waiting:
            if isinstance(entry, LiveSegment) and entry.outcome is None and entry.end is not None:
                entry.hear(self._ring, entry.end)
        self._events.append(AudioLost(heard, start, "gap"))
        self._ring.restart(start)
        self._segmenter.restart(start)
        self._detector.reset()
        self._seen = start
