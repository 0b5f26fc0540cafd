"""Who hears a long recording, and how. Takes a model and a file, gives texts with the seconds they took.

Loading is not timed. Each function runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOW_S = 30


@dataclass(frozen=True, slots=True)
class Heard:
    """``segments``: start and end in seconds of each piece of text, as whoever heard it says."""

    who: str
    text: str
    seconds: float
    segments: tuple[tuple[float, float], ...] = ()

    @property
    def until_s(self) -> float | None:
        return max((end for _, end in self.segments), default=None)


def by_captiond(model: str, path: Path) -> list[Heard]:
    """As ``captiond transcribe`` does, and in whole windows without segmentation."""
    import soundfile
    from captiond import config_file
    from captiond.loading import load_engine
    from captiond_engine.types import SAMPLE_RATE_HZ

    config = config_file.load(None, (f"model.name={config_file.toml_value(model)}",))
    engine = load_engine(config, lambda event: None)
    try:
        began = time.perf_counter()
        text, segments = asyncio.run(_transcribed(path, config, engine))
        heard = [Heard("captiond, as transcribe", text, time.perf_counter() - began, segments)]
        pcm, _ = soundfile.read(path, dtype="float32")
        size = WINDOW_S * SAMPLE_RATE_HZ
        began = time.perf_counter()
        texts = [
            engine.transcribe_clip(pcm[at : at + size], window="full") for at in range(0, len(pcm), size)
        ]
        seconds = time.perf_counter() - began
        heard.append(Heard("captiond, 30 s windows", " ".join(texts), seconds))
    finally:
        engine.close()
    return heard


async def _transcribed(path: Path, config: Any, engine: Any) -> tuple[str, tuple[tuple[float, float], ...]]:
    from captiond import wire
    from captiond.transcribe.run import transcribe
    from captiond.transcribe.source import open_source

    events: list[wire.Event] = []
    async with open_source(path) as audio:
        await transcribe(path.name, audio.blocks, config, engine, events.append)
    if lost := [event for event in events if isinstance(event, wire.AudioLost)]:
        raise RuntimeError(f"audio was lost: {lost}")
    finals = [event for event in events if isinstance(event, wire.Final)]
    segments = tuple((final.start_ms / 1000, final.end_ms / 1000) for final in finals)
    return " ".join(final.text for final in finals), segments


def by_openai_whisper(checkpoint: Path, path: Path, segments: Sequence[tuple[float, float]]) -> list[Heard]:
    """``transcribe()`` as it is by itself, without timestamps, and on the ``segments`` that captiond found;
    greedy, without fallbacks by chance."""
    import soundfile
    import whisper
    from whisper.audio import SAMPLE_RATE

    model = whisper.load_model(str(checkpoint), device="cpu")
    pcm, _ = soundfile.read(path, dtype="float32")
    heard = []
    for who, asked in (
        ("openai-whisper, timestamps", {}),
        ("openai-whisper, 30 s windows", {"without_timestamps": True, "condition_on_previous_text": False}),
    ):
        began = time.perf_counter()
        answer = model.transcribe(pcm, language="en", temperature=0.0, fp16=False, **asked)
        seconds = time.perf_counter() - began
        bounds = tuple((float(one["start"]), float(one["end"])) for one in answer["segments"])
        heard.append(Heard(who, str(answer["text"]).strip(), seconds, bounds))
    began = time.perf_counter()
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    texts = []
    for start_s, end_s in segments:
        piece = pcm[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(piece), model.dims.n_mels)
        texts.append(whisper.decode(model, mel, options).text)
    seconds = time.perf_counter() - began
    heard.append(Heard("openai-whisper, captiond's segments", " ".join(texts), seconds, tuple(segments)))
    return heard
