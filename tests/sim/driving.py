"""Drives one stream by hand: pushes audio, answers its jobs, keeps all events, and holds it to the laws.

Takes: a stream, a scripted model and audio. Gives: the events, the passes that were answered, and checks
of the laws of ARCHITECTURE.md on them. Knows no event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from captiond_engine.stream import Stream, StreamSettings
from captiond_engine.types import (
    AudioFrame,
    AudioLost,
    Float32Array,
    Flushed,
    Job,
    SpeechEnded,
    SpeechStarted,
    StreamEvent,
    Suppressed,
    SuppressReason,
    Transcript,
)
from captiond_engine.vad.detector import VoiceDetector

from tests.sim.scripted import Script, ScriptedDetector, ScriptedModel, scripted_traits


class Driver:
    """A stream with a scripted model at hand. ``jobs``: every job asked; ``passes``: those answered."""

    def __init__(
        self,
        script: Script,
        *,
        settings: StreamSettings | None = None,
        model: ScriptedModel | None = None,
        detector: VoiceDetector | None = None,
        pcm: Float32Array | None = None,
        **traits: object,
    ) -> None:
        self.model = model or ScriptedModel(script)
        self.stream = Stream(
            "a",
            traits=scripted_traits(**traits),
            tokenizer=self.model.tokenizer,
            detector=detector or ScriptedDetector(script),
            settings=settings or StreamSettings(),
        )
        self.pcm = pcm
        self.jobs: list[Job] = []
        self.passes: list[Job] = []
        self.events: list[StreamEvent] = []

    def push(self, samples: int) -> None:
        """The next ``samples`` of the audio, as one frame; silence where no audio was given."""
        start = self.stream.heard_until
        pcm = np.zeros(samples, np.float32) if self.pcm is None else self.pcm[start : start + samples]
        self.push_frame(AudioFrame("a", start, pcm))

    def push_frame(self, frame: AudioFrame) -> None:
        self.stream.push(frame)
        self.collect()

    def take(self) -> Job | None:
        """The job that is due, unanswered."""
        job = self.stream.next_job()
        if job is not None:
            self.jobs.append(job)
        return job

    def answer(self, job: Job) -> None:
        self.passes.append(job)
        self.stream.complete(job, self.model.decode(job))
        self.collect()

    def fail(self, job: Job) -> None:
        self.stream.fail(job)
        self.collect()

    def work(self) -> None:
        """Answer jobs until none is due."""
        while (job := self.take()) is not None:
            self.answer(job)

    def flush(self) -> None:
        self.stream.flush()
        self.collect()

    def close(self) -> None:
        self.stream.close()
        self.collect()

    def collect(self) -> None:
        self.events += self.stream.take_events()

    def listen(self, until: int, frame: int = 320, *, work: bool = True) -> None:
        """Frames of ``frame`` samples up to sample ``until``, each answered at once if ``work``."""
        while self.stream.heard_until < until:
            self.push(min(frame, until - self.stream.heard_until))
            if work:
                self.work()

    def finish(self) -> list[StreamEvent]:
        """Close and answer everything; all events of the stream's life."""
        self.close()
        self.work()
        assert self.stream.done
        return self.events

    def of(self, kind: type[StreamEvent]) -> list[StreamEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finals(self) -> list[Transcript]:
        return [event for event in self.events if isinstance(event, Transcript) and event.final]

    @property
    def partials(self) -> list[Transcript]:
        return [event for event in self.events if isinstance(event, Transcript) and not event.final]


def names(events: Iterable[StreamEvent]) -> list[str]:
    """The kinds of events, in order, as short names."""
    short: dict[type[StreamEvent], str] = {
        SpeechStarted: "started",
        SpeechEnded: "ended",
        Suppressed: "suppressed",
        AudioLost: "lost",
        Flushed: "flushed",
    }
    return [
        ("final" if event.final else "partial") if isinstance(event, Transcript) else short[type(event)]
        for event in events
    ]


def check_order(events: Sequence[StreamEvent], *, closed: bool = True) -> None:
    """Laws 1 to 3, and the life of every segment: started, partials, ended, one answer, in order."""
    starts = {e.segment: e.at for e in events if isinstance(e, SpeechStarted)}
    ends = {e.segment: e.at for e in events if isinstance(e, SpeechEnded)}
    answers = [e for e in events if isinstance(e, Suppressed) or (isinstance(e, Transcript) and e.final)]
    assert [e.segment for e in answers] == sorted({e.segment for e in answers}), "one answer each, in order"
    assert list(starts) == sorted(starts)
    if closed:
        assert list(starts) == list(ends) == [e.segment for e in answers]
    assert all(starts[n] <= ends[n] for n in ends)
    assert all(ends[a] <= starts[b] for a, b in pairwise(starts)), "segments do not overlap"
    for number, start in starts.items():
        own = [e for e in events if getattr(e, "segment", None) == number]
        kinds = names(own)
        assert kinds[0] == "started"
        assert all(
            kind == "partial" for kind in kinds[1 : kinds.index("ended") if "ended" in kinds else None]
        )
        assert not closed or kinds[kinds.index("ended") + 1 :] in (["final"], ["suppressed"])
        _check_transcripts([e for e in own if isinstance(e, Transcript)], start, ends.get(number))


def _check_transcripts(told: Sequence[Transcript], start: int, end: int | None) -> None:
    for earlier, later in pairwise(told):
        assert later.committed.startswith(earlier.committed), "committed grows only at its end"
        assert later.revision > earlier.revision
    before = ""
    for transcript in told:
        assert transcript.start == start
        assert not transcript.final or transcript.tentative == ""
        shown = transcript.committed + transcript.tentative
        said = "".join(word.text for word in transcript.words).strip()
        assert shown == said if transcript.final else said.startswith(shown) or shown == before, (
            "what is shown is what the words say, or was shown before"
        )
        before = shown
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times), "word times never decrease"
        assert all(start <= time <= transcript.heard_until for time in times)
        assert end is None or not transcript.final or transcript.heard_until == end


def check_accounted(driver: Driver, script: Script, margin: int) -> None:
    """Law 7: every sample is in a finished pass, in a segment called too short, silent, or lost.

    ``margin``: how much of a word's edges the windows of the detector may leave out.
    """
    events = driver.events
    length = driver.stream.heard_until
    told = np.zeros(length, bool)  # inside of segments, or reported lost
    read = np.zeros(length, bool)  # in a finished pass, in a suppression, or reported lost
    starts = {e.segment: e.at for e in events if isinstance(e, SpeechStarted)}
    ends = {e.segment: e.at for e in events if isinstance(e, SpeechEnded)}
    for number, start in starts.items():
        told[start : ends[number]] = True
    for event in events:
        if isinstance(event, AudioLost):
            told[event.start : event.end] = read[event.start : event.end] = True
        if isinstance(event, Suppressed) and event.reason is SuppressReason.TOO_SHORT:
            read[starts[event.segment] : ends[event.segment]] = True
    for job in driver.passes:
        read[job.payload.start : job.payload.end] = True
    for number, start in starts.items():
        assert read[start : ends[number]].all(), f"segment {number} is neither decoded nor lost"
    for word in script:
        inside = slice(min(word.start + margin, length), min(max(word.end - margin, 0), length))
        assert told[inside].all(), f"{word} was heard, and nobody was told"


def random_cuts(length: int, choose: Callable[[int], int]) -> list[int]:
    """Frame lengths that make up ``length``; ``choose(i)`` gives the wish for frame ``i``."""
    cuts: list[int] = []
    while sum(cuts) < length:
        cuts.append(min(max(1, choose(len(cuts))), length - sum(cuts)))
    return cuts
