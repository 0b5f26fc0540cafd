"""One recording from blocks of samples to transcripts, as fast as it goes. Sans I/O: no await, clock or file.

Takes: float32 PCM in order, and answers to the jobs it asked for, in any order. Gives: jobs, as many at once
as are wanted, and events, segment by segment in the order of the recording. A passage of ``Packer`` is one
segment here. Held are the newest audio and the windows that wait for an answer, never the recording: when
``full``, the device must be asked before more is heard. Knows no device.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.align import Detokenizer
from captiond_engine.decoding.placing import place, snap
from captiond_engine.live_segment import LiveSegment
from captiond_engine.packing import Packer, Passage
from captiond_engine.speech_model import ModelTraits, Tokenizer
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import (
    HOP_SAMPLES,
    AudioLost,
    Decoding,
    Float32Array,
    Job,
    PromptSpec,
    SpeechEnded,
    SpeechStarted,
    StreamEvent,
    Suppressed,
    SuppressReason,
    Transcript,
    Window,
    samples_from_ms,
)
from captiond_engine.vad.detector import VoiceDetector

TRIES = 2  # of a window that the device failed on
SHORTEST_CUT = samples_from_ms(8_000)  # a window that is no longer is not cut in two

Outcome = tuple[Transcript | Suppressed | AudioLost, ...]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A passage on its way. ``outcome``: what it comes to, its segment not numbered; None: not known yet."""

    passage: Passage
    window: Window | None = None
    asked: bool = False
    failures: int = 0
    outcome: Outcome | None = None


class Recording:
    """Hear blocks, run the jobs, take the events after every call. Not thread-safe.

    ``pack``: neighbouring speech shares a window of so many samples at most; with 0 each segment has its own,
    and what is told is what a live stream tells. ``look_ahead``: windows that may wait for the device.
    """

    def __init__(
        self,
        *,
        traits: ModelTraits,
        tokenizer: Tokenizer,
        detector: VoiceDetector,
        settings: StreamSettings,
        pack: int = 0,
        look_ahead: int = 1,
    ) -> None:
        self._traits = traits
        self._detokenizer = Detokenizer(tokenizer)
        self._look_ahead = look_ahead
        self._prompt = PromptSpec(settings.language, hints=settings.hints, task=settings.decoding.task)
        decoding = replace(settings.decoding, budget_ms=None)  # nobody waits
        self._settings = replace(settings, decoding=decoding)
        self._language_open = settings.language is None and len(traits.languages) > 1
        self._packer = Packer(
            detector,
            settings.segmenter(traits),
            longest=min(pack, traits.max_window),
            min_speech=settings.min_speech,
        )
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[int, _Waiting] = {}
        self._generation = 0
        self._segments = 0
        self._closed = False
        self._events: list[StreamEvent] = []

    # --- audio in -------------------------------------------------------------------------------

    def hear(self, pcm: Float32Array) -> None:
        """The next block. Raises ValueError after ``close``, and while ``full``."""
        if self._closed:
            raise ValueError("the recording is closed")
        if self.full:
            raise ValueError(f"{self.due} windows wait for the device; no more is heard before it is asked")
        self._add(self._packer.hear(pcm))

    def close(self) -> None:
        """No more audio will come; what was heard will be decoded. May be called again."""
        self._closed = True
        self._add(self._packer.close())

    # --- work for the device --------------------------------------------------------------------

    def next_jobs(self, limit: int) -> list[Job]:
        """Up to ``limit`` windows that wait, in the order of the recording.

        Where the recording's language is to be found out, its first window is asked alone: when words are in
        it, its language is that of all others. So it does not depend on ``limit``.
        """
        jobs: list[Job] = []
        for waiting in self._waiting:
            if len(jobs) >= limit or (self._language_open and (jobs or self._running)):
                break
            if waiting.window is not None and waiting.outcome is None and not waiting.asked:
                waiting.asked = True
                self._generation += 1
                self._running[self._generation] = waiting
                window = replace(waiting.window, prompt=self._prompt)
                jobs.append(Job(0, self._generation, "final", window.end, window))
        return jobs

    def complete(self, job: Job, decoding: Decoding) -> None:
        """The device answered ``job``. Raises KeyError for one that does not wait for an answer.

        Where the text ended because the decoder had no room left, the window is cut in two and asked again.
        """
        waiting = self._running.pop(job.generation)
        passage = waiting.passage
        if decoding.truncated and len(passage.pcm) > SHORTEST_CUT:
            at = self._waiting.index(waiting)
            del self._waiting[at]
            for half in reversed(passage.halves()):
                self._waiting.insert(at, self._windowed(half))
            return
        segment = self._segment(passage)
        segment.finish(segment.read(job.payload, decoding, None))
        outcome = segment.outcome
        assert outcome is not None
        if isinstance(outcome, Transcript):
            at_voice = snap if decoding.starts else place
            outcome = replace(outcome, words=at_voice(outcome.words, passage.stretches))
            if self._language_open and decoding.language:
                self._language_open = False
                self._prompt = self._prompt._replace(language=decoding.language)
        self._settle(waiting, (outcome,))

    def fail(self, job: Job) -> None:
        """The device failed on ``job``. The window is asked once more; after that it is reported lost."""
        waiting = self._running.pop(job.generation)
        waiting.asked = False
        waiting.failures += 1
        if waiting.failures >= TRIES:
            speech = waiting.passage.speech
            lost = AudioLost(speech.start, speech.end, "device")
            self._settle(waiting, (lost, Suppressed(0, SuppressReason.LOW_CONFIDENCE)))

    # --- what others ask ------------------------------------------------------------------------

    def take_events(self) -> list[StreamEvent]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def heard_until(self) -> int:
        return self._packer.heard_until

    @property
    def told_until(self) -> int:
        """The recording up to here is silent, or was told."""
        return self._waiting[0].passage.speech.start if self._waiting else self._packer.open_since

    @property
    def due(self) -> int:
        """Windows that the device is still to be asked for."""
        return sum(waiting.outcome is None and not waiting.asked for waiting in self._waiting)

    @property
    def full(self) -> bool:
        """As many windows are due as may be: the device must be asked before more is heard."""
        return self.due >= self._look_ahead

    @property
    def held(self) -> int:
        """Samples that are kept, as such or in a window."""
        return self._packer.held + sum(len(waiting.passage.pcm) for waiting in self._waiting)

    @property
    def done(self) -> bool:
        """Closed, and everything is told."""
        return self._closed and not self._waiting

    # --- inside -----------------------------------------------------------------------------------

    def _add(self, passages: list[Passage]) -> None:
        for passage in passages:
            if passage.speech.short:
                self._waiting.append(_Waiting(passage))
                self._settle(self._waiting[-1], (Suppressed(0, SuppressReason.TOO_SHORT),))
            else:
                self._waiting.append(self._windowed(passage))

    def _windowed(self, passage: Passage) -> _Waiting:
        """``passage`` as the model hears it. What a job is asked with is put together in ``next_jobs``."""
        traits, speech = self._traits, passage.speech
        hops = traits.window_length(len(passage.pcm), traits.window_final) // HOP_SAMPLES
        mel = log_mel(passage.pcm, traits.mels, hops)
        decoding = self._settings.decoding
        options = None if decoding.is_plain else decoding
        return _Waiting(passage, Window(0, speech.start, speech.end, mel, self._prompt, options))

    def _segment(self, passage: Passage) -> LiveSegment:
        """The passage as a segment that has ended and was never shown: its final is made as a live one's."""
        speech = passage.speech
        segment = LiveSegment(
            0,
            speech.start,
            speech.onset,
            traits=self._traits,
            detokenizer=self._detokenizer,
            settings=self._settings,
            prompt=self._prompt,
            commit_limit=speech.end,
        )
        segment.end, segment.speech_end = speech.end, speech.speech_end
        segment.voiced = sum(end - start for start, end in passage.stretches)
        return segment

    def _settle(self, waiting: _Waiting, outcome: Outcome) -> None:
        """``waiting`` comes to ``outcome``; tell what has nothing unanswered before it."""
        waiting.outcome, waiting.window = outcome, None
        while self._waiting and (told := self._waiting[0].outcome) is not None:
            speech = self._waiting.popleft().passage.speech
            self._segments += 1
            number = self._segments
            self._events += [
                SpeechStarted(number, speech.start),
                SpeechEnded(number, speech.end, speech.reason),
            ]
            for event in told:
                self._events.append(event if isinstance(event, AudioLost) else replace(event, segment=number))
