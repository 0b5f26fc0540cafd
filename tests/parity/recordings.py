"""Long recordings, and what the bundled model says of them through ``Recording``; without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import soundfile
from captiond_engine.engine import traits_of
from captiond_engine.models import BUNDLED, read_card
from captiond_engine.recording import Recording
from captiond_engine.speech_model import ModelTraits
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import (
    SAMPLE_RATE_HZ,
    Decoding,
    Float32Array,
    Job,
    SpeechEnded,
    SpeechStarted,
    Transcript,
)
from captiond_engine.vad.detector import open_detector

from tests.parity import clips, models

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
SAMPLE = ROOT / "clients" / "captiond_clients" / "samples"


@dataclass(frozen=True, slots=True)
class Long:
    """A recording, float32 [samples] at 16 kHz, with what was said in it."""

    id: str
    pcm: Float32Array
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """What we say of a recording. ``spans``: its segments, in samples; ``passes``: jobs and their answers."""

    text: str
    spans: list[tuple[int, int]]
    passes: list[tuple[Job, Decoding]]


def kept() -> Long:
    """The sample of ``captiond demo``: eleven sentences, 39 s."""
    pcm, _ = soundfile.read(SAMPLE / "demo.flac", dtype="float32")
    said = json.loads((SAMPLE / "demo.json").read_text(encoding="utf-8"))["segments"]
    return Long("demo", pcm, " ".join(segment["text"] for segment in said))


def shared() -> Iterator[Long]:
    """Sessions in the bundled model's domain, a chapter outside of it; where they lie beside the project."""
    for folder in (SHARED / "models" / "demo-en" / "test" / "session", SHARED / "data" / "open" / "long"):
        if folder.is_dir():
            for clip in clips.read_set(folder, longest_s=3_600):
                yield Long(clip.id, clip.pcm, clip.text)


def bundled_traits() -> ModelTraits:
    return traits_of("demo-en", read_card(BUNDLED / "demo-en"), 80, ("en",))


def ours(
    pcm: Float32Array,
    *,
    batch: int = 4,
    pack: bool | None = None,
    window: Literal["full", "fitted"] | None = None,
) -> Told:
    """The bundled model through ``Recording``; ``pack`` and ``window``: otherwise than its card says."""
    model, traits = models.bundled_model(), bundled_traits()
    if window is not None:
        traits = replace(traits, window_final=window)
    assert model.tokenizer is not None
    recording = Recording(
        traits=traits,
        tokenizer=model.tokenizer,
        detector=open_detector("webrtc", 2),
        settings=StreamSettings(partials=False),
        pack=traits.max_window if (traits.pack if pack is None else pack) else 0,
        look_ahead=batch,
    )
    passes: list[tuple[Job, Decoding]] = []

    def work() -> None:
        jobs = recording.next_jobs(batch)
        for job, decoding in zip(jobs, model.run(jobs), strict=True):
            passes.append((job, decoding))
            recording.complete(job, decoding)

    for start in range(0, len(pcm), SAMPLE_RATE_HZ):
        recording.hear(pcm[start : start + SAMPLE_RATE_HZ])
        while recording.full:
            work()
    recording.close()
    while not recording.done:
        work()
    events = recording.take_events()
    finals = [event for event in events if isinstance(event, Transcript)]
    starts = [event.at for event in events if isinstance(event, SpeechStarted)]
    ends = [event.at for event in events if isinstance(event, SpeechEnded)]
    return Told(" ".join(f.committed for f in finals), list(zip(starts, ends, strict=True)), passes)
