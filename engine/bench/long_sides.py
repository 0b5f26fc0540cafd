"""Who hears a long recording, and how. Takes a model and a file, gives texts with the seconds they took.

Loading is not timed. Each function runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOW_S = 30


@dataclass(frozen=True, slots=True)
class Heard:
    """``until_s``: where the last text ends, as whoever heard it says; None where nothing says it."""

    who: str
    text: str
    seconds: float
    until_s: float | None = None


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
        text, until_s = asyncio.run(_transcribed(path, config, engine))
        heard = [Heard("captiond, as transcribe", text, time.perf_counter() - began, until_s)]
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


async def _transcribed(path: Path, config: Any, engine: Any) -> tuple[str, float | None]:
    from captiond.transcribe import transcribe
    from captiond_clients.events import AudioLost, Final, parse

    texts: list[str] = []
    until_s: float | None = None
    async for message in transcribe(path, config, engine):
        event = parse(message.decode())
        if isinstance(event, AudioLost):
            raise RuntimeError(f"audio was lost: {message.decode()}")
        if isinstance(event, Final):
            texts.append(event.text)
            until_s = event.end_ms / 1000
    return " ".join(texts), until_s


def by_openai_whisper(checkpoint: Path, path: Path) -> list[Heard]:
    """``transcribe()`` as it is by itself, and without timestamps; greedy, without fallbacks by chance."""
    import soundfile
    import whisper

    model = whisper.load_model(str(checkpoint), device="cpu")
    pcm, _ = soundfile.read(path, dtype="float32")
    heard = []
    for who, options in (
        ("openai-whisper, timestamps", {}),
        ("openai-whisper, 30 s windows", {"without_timestamps": True, "condition_on_previous_text": False}),
    ):
        began = time.perf_counter()
        answer = model.transcribe(pcm, language="en", temperature=0.0, fp16=False, **options)
        seconds = time.perf_counter() - began
        until_s = max((float(segment["end"]) for segment in answer["segments"]), default=None)
        heard.append(Heard(who, str(answer["text"]).strip(), seconds, until_s))
    return heard
