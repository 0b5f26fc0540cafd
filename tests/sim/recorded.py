"""Drives one recording by hand: blocks in, jobs answered by a scripted model, all events kept.

Takes: a script and how the recording is packed. Gives: the events and the passes that were believed, as
``driving.check_order`` and ``driving.check_accounted`` look at them. Knows no event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from captiond_engine.recording import Recording
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import Decoding, Float32Array, Job, StreamEvent, Transcript
from captiond_engine.vad.detector import VoiceDetector

from tests.sim.scripted import Script, ScriptedDetector, ScriptedModel, scripted_traits


class RecordingDriver:
    """A recording with a scripted model at hand. ``stream``: the recording, under the name that laws use.

    ``room``: words for which the decoder has room; a longer text is cut off there, and says so.
    """

    def __init__(
        self,
        script: Script,
        *,
        settings: StreamSettings | None = None,
        pack: int = 0,
        look_ahead: int = 1,
        model: ScriptedModel | None = None,
        detector: VoiceDetector | None = None,
        pcm: Float32Array | None = None,
        room: int | None = None,
        **traits: object,
    ) -> None:
        self.model = model or ScriptedModel(script)
        self.stream = self.recording = Recording(
            traits=scripted_traits(**traits),
            tokenizer=self.model.tokenizer,
            detector=detector or ScriptedDetector(script),
            settings=settings or StreamSettings(),
            pack=pack,
            look_ahead=look_ahead,
        )
        self.pcm = pcm
        self.room = room
        self.jobs: list[Job] = []
        self.passes: list[Job] = []
        self.events: list[StreamEvent] = []

    def hear(self, samples: int) -> None:
        """The next ``samples`` of the audio, as one block; silence where no audio was given."""
        start = self.recording.heard_until
        quiet = np.zeros(samples, np.float32)
        self.recording.hear(quiet if self.pcm is None else self.pcm[start : start + samples])
        self.collect()

    def take(self, limit: int) -> list[Job]:
        jobs = self.recording.next_jobs(limit)
        self.jobs += jobs
        return jobs

    def answer(self, job: Job) -> None:
        due = self.recording.due
        self.recording.complete(job, self.decode(job))
        if self.recording.due == due:  # else it was not believed, and its halves are due
            self.passes.append(job)
        self.collect()

    def decode(self, job: Job) -> Decoding:
        decoding = self.model.decode(job)
        if self.room is None or len(decoding.tokens) <= self.room:
            return decoding
        kept, logs = decoding.tokens[: self.room], decoding.log_probabilities[: self.room]
        return replace(decoding, tokens=kept, log_probabilities=logs, truncated=True)

    def fail(self, job: Job) -> None:
        self.recording.fail(job)
        self.collect()

    def work(self, limit: int = 1) -> None:
        """Answer jobs, ``limit`` at a time, until none is due."""
        while jobs := self.take(limit):
            for job in jobs:
                self.answer(job)

    def listen(self, until: int, blocks: Sequence[int] = (16_000,), limit: int = 1) -> None:
        """Blocks of these lengths in turn up to sample ``until``; the device is asked when it must be."""
        number = 0
        while self.recording.heard_until < until:
            self.hear(min(blocks[number % len(blocks)], until - self.recording.heard_until))
            number += 1
            if self.recording.full:
                self.work(limit)

    def finish(self, limit: int = 1) -> list[StreamEvent]:
        self.recording.close()
        self.collect()
        self.work(limit)
        assert self.recording.done
        return self.events

    def collect(self) -> None:
        self.events += self.recording.take_events()

    @property
    def finals(self) -> list[Transcript]:
        return [event for event in self.events if isinstance(event, Transcript)]

    @property
    def text(self) -> str:
        return " ".join(final.committed for final in self.finals)
