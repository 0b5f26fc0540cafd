"""One timeline of audio, from frames to events. Sans I/O: no await, no clock, no socket.

Takes: audio frames in order, and answers to the jobs it asked for. Gives: jobs, at most one at a time,
and events. Knows no device, no session and no other stream. It outlives a lost socket.

Where a pause's text decides whether the segment has ended (``early_silence``), the stream holds what it hears
until it has the text, so that audio which comes faster than it is decoded is cut as the same audio live.
"""

from __future__ import annotations

from captiond_engine.answers import Answers
from captiond_engine.decoding.align import Detokenizer
from captiond_engine.decoding.showing import Composure
from captiond_engine.due import due_pass, waits_for_text
from captiond_engine.listener import Listener
from captiond_engine.live_segment import LiveSegment, Pass
from captiond_engine.prompts import Prompts
from captiond_engine.room import room_left
from captiond_engine.speech_model import ModelTraits, Tokenizer
from captiond_engine.stream_settings import Keep, StreamSettings
from captiond_engine.types import (
    AudioFrame,
    AudioLost,
    Decoding,
    EndReason,
    Flushed,
    Job,
    PromptSpec,
    SpeechEnded,
    SpeechStarted,
    StreamEvent,
    SuppressReason,
)
from captiond_engine.vad.detector import VoiceDetector
from captiond_engine.vad.segmenter import Began, Ended

__all__ = ["Keep", "Stream", "StreamSettings"]

FINAL_TRIES = 2
MOST_HELD = 8  # cuts, and wishes, while a text is waited for; with more of them it is not


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
        self._detokenizer = Detokenizer(tokenizer)
        self._prompts = Prompts(PromptSpec(settings.language, (), settings.hints, settings.decoding.task))
        self._limits = settings.segmenter(traits)
        self._listener = Listener(detector, self._limits, settings.ring)
        self._segments = 0
        self._open: LiveSegment | None = None
        self._answers = Answers()
        self._composure = Composure()
        self._running: tuple[Job, Pass] | None = None
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
            self._skip_to(frame.start, "gap")
        ring = self._listener.ring
        for piece in self._listener.pieces(frame.pcm):
            if self._waits_for_text and self.room < len(piece):
                self._listen(wait=False)
            self._events += self._answers.overwrite(ring.end + len(piece) - ring.capacity)
            self._listener.keep(piece)
            self._listen()

    def skip(self, samples: int, reason: str = "gap") -> None:
        """``samples`` of time that nobody heard: the open segment ends, and they are reported lost."""
        if self._closed:
            raise ValueError(f"stream {self.name} is closed")
        if samples > 0:
            self._skip_to(self.heard_until + samples, reason)

    def flush(self) -> None:
        """End the open segment here; ``Flushed`` follows once everything up to here is answered."""
        self._listener.cut(EndReason.FLUSH)
        self._listen(wait=self._listener.cuts <= MOST_HELD)

    def close(self) -> None:
        """No more audio will come; the open segment ends and will be decoded. May be called again."""
        if not self._closed:
            self._closed = True
            self._listener.cut(EndReason.END)
            self._listen()

    def jump_to_live(self, reason: str = "behind", *, wait: bool = True) -> None:
        """Give up every ended segment, for a live source too far behind; with ``wait`` not the one that runs.

        What was shown of them becomes their final, the rest is lost. The open segment goes on.
        """
        self._running = self._running if wait else None
        self._listen(wait=False)
        for segment in list(self._answers):
            if self._running is None or self._running[1].segment is not segment:
                self._events += self._answers.give_up(segment, reason)

    def configure(self, *, language: str | Keep | None = Keep.KEEP, hints: str | Keep = Keep.KEEP) -> None:
        """Language and hints from the next segment on."""
        self._prompts.wish(self.heard_until, self._listener.seen, language, hints)
        self._listen(wait=self._prompts.waiting <= MOST_HELD)

    def hurry(self) -> None:
        """The source does not wait: no text is waited for longer than for an end by silence alone."""
        if self._listener.unseen > self.settings.silence and self._waits_for_text:
            self._listen(wait=False)

    # --- work for the device --------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """The pass that is due now, if any and if none runs already."""
        due = self._due()
        if due is None:
            return None
        segment = due.segment
        window = segment.window(self._listener.ring, due.end, due.kind)
        segment.asked_partial = max(segment.asked_partial, due.end)
        if due.kind == "final":
            segment.asked_final = due.end
        self._generation += 1
        job = Job(self._slot, self._generation, due.kind, self.heard_until, window)
        self._running = (job, due)
        return job

    def complete(
        self, job: Job, decoding: Decoding, *, queued_ms: float | None = None, took: int = 0
    ) -> None:
        """The device answered ``job`` after ``took`` samples of time; what is no longer wanted is dropped."""
        done = self._answered(job)
        if done is None:
            return
        segment = done.segment
        heard = segment.read(job.payload, decoding, queued_ms, last=done.kind == "final")
        if segment.end is not None:
            segment.finish(heard)
            self._events += self._answers.due()
        else:
            if done.kind == "final":
                segment.settle(heard)
            else:
                segment.partial_took = took
            told = segment.tell(heard, show=self.settings.partials)
            if told is not None:
                self._events.append(told)
            self._end_early()
        self._listen()

    def fail(self, job: Job) -> None:
        """The device failed on ``job``. A partial is dropped. A final is tried once more; after that
        what was last shown becomes the final, and the rest is reported lost (reason "device")."""
        failed = self._answered(job)
        if failed is not None and failed.segment.end is not None:
            failed.segment.failures += 1
            if failed.segment.failures >= FINAL_TRIES:
                self._events += self._answers.give_up(failed.segment, "device")
        self._listen()

    # --- what others ask ------------------------------------------------------------------------

    def take_events(self) -> list[StreamEvent]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def heard_until(self) -> int:
        return self._listener.heard_until

    @property
    def has_work(self) -> bool:
        return self._due() is not None

    @property
    def urgency(self) -> int | None:
        """0: a final waits; 1: the pass of a pause; 2: a partial; None: ``next_job`` has nothing."""
        return None if (due := self._due()) is None else due.urgency

    @property
    def backlog(self) -> int:
        """Samples of speech that were heard, but are in no finished pass yet; and those not listened to."""
        waiting = self._listener.unseen if self._waits_for_text else 0
        return waiting + sum(end - segment.covered for segment, end in self._undecoded())

    @property
    def oldest_unheard(self) -> int:
        """First sample of speech that is in no finished pass yet; ``heard_until`` where all are."""
        return min((segment.covered for segment, _ in self._undecoded()), default=self.heard_until)

    @property
    def room(self) -> int:
        """Samples that can be pushed: see ``room.room_left``."""
        return room_left(self._listener, self._answers, self._open, self.settings)

    @property
    def done(self) -> bool:
        """Closed, and everything is answered."""
        return self._closed and not self._listener.cuts and self._open is None and not self._answers

    # --- inside -----------------------------------------------------------------------------------

    def _listen(self, *, wait: bool = True) -> None:
        """Go through what was heard; with ``wait`` no further than where a text decides."""
        while not (wait and self._waits_for_text) and (step := self._listener.step()) is not None:
            self._follow(step.boundaries)
            if step.cut is EndReason.FLUSH:
                self._wait_for(Flushed(step.at))
            elif self._open is not None:
                self._open.follow(self._listener.speech_end, self._listener.voiced)
                self._end_early()

    @property
    def _waits_for_text(self) -> bool:
        running = self._running and self._running[1]
        return waits_for_text(self._open, running, self._listener, self.settings)

    def _follow(self, boundaries: list[Began | Ended]) -> None:
        for boundary in boundaries:
            if isinstance(boundary, Began):
                self._begin(boundary)
            else:
                self._end(boundary)

    def _begin(self, began: Began) -> None:
        self._segments += 1
        self._open = LiveSegment(
            self._segments,
            began.at,
            began.onset,
            traits=self._traits,
            detokenizer=self._detokenizer,
            settings=self.settings,
            prompt=self._prompts.at(self._listener.seen),
            commit_limit=began.at + self._limits.max_segment - self._limits.cut_search,
            composure=self._composure,
            continued=began.continued,
        )
        self._events.append(SpeechStarted(self._segments, began.at))

    def _end(self, ended: Ended) -> None:
        segment = self._open
        assert segment is not None
        self._open = None
        segment.end = ended.at
        segment.speech_end, segment.voiced = ended.speech_end, ended.voiced
        self._events.append(SpeechEnded(segment.number, ended.at, ended.reason))
        if self._running is not None and self._running[1] != Pass(segment, ended.at, "final"):
            self._running = None if self._running[1].segment is segment else self._running
        too_short = ended.voiced < self.settings.min_speech and not segment.continued
        if too_short and segment.covered == segment.start:
            segment.suppress(SuppressReason.TOO_SHORT)
        elif segment.settled is not None and segment.settled.end == ended.at:
            segment.finish(segment.settled)
        self._wait_for(segment)

    def _end_early(self) -> None:
        """End a segment whose pass of this pause surely ended a sentence, if that is asked for."""
        segment, early, quiet = self._open, self.settings.early_silence, self._listener.quiet_end
        if segment is not None and early and segment.is_said and segment.settled_at == quiet:
            self._follow(self._listener.end_early(early))

    def _wait_for(self, entry: LiveSegment | Flushed) -> None:
        self._events += self._answers.add(entry)
        if self._answers.is_full:
            self._running = None
            self._events += self._answers.give_up(next(iter(self._answers)), "overrun")

    def _due(self) -> Pass | None:
        if self._running is not None:
            return None
        return due_pass(self._answers, self._open, self._listener, self.settings)

    def _answered(self, job: Job) -> Pass | None:
        """The pass that ``job`` was for; None if it is no longer wanted."""
        if self._running is None or self._running[0].generation != job.generation:
            return None
        _, run = self._running
        self._running = None
        return run

    def _undecoded(self) -> list[tuple[LiveSegment, int]]:
        undecoded = [(segment, segment.end) for segment in self._answers if segment.end is not None]
        if self._open is not None:
            undecoded.append((self._open, self._listener.quiet_end or self._listener.seen))
        return [(segment, end) for segment, end in undecoded if end > segment.covered]

    def _skip_to(self, start: int, reason: str) -> None:
        heard = self.heard_until
        self._listener.cut(EndReason.GAP)
        self._listen(wait=False)
        self._answers.hear_out(self._listener.ring)
        self._events.append(AudioLost(heard, start, reason))
        self._listener.restart(start)
