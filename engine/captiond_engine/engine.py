"""The engine: one model, resident on one device, behind one thread; streams are opened on it.

Takes a model's name, gives Streams and runs their jobs. Knows nothing of sockets, sessions or configuration.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast

import numpy as np

from captiond_engine import models
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.commit import POLICIES
from captiond_engine.decoding.options import DecodingOptions, FallbackOptions
from captiond_engine.errors import ModelError
from captiond_engine.progress import Progress, ProgressEvent, silent
from captiond_engine.speech_model import Device, ModelTraits, Tokenizer
from captiond_engine.stream import Stream, StreamSettings
from captiond_engine.types import (
    HOP_SAMPLES,
    Decoding,
    Float32Array,
    Job,
    Precision,
    PromptSpec,
    Window,
    samples_from_ms,
)
from captiond_engine.vad.detector import VoiceDetector, open_detector

WindowChoice = Literal["full", "fitted"]


class RunsJobs(Protocol):
    """A model as the device thread sees it."""

    def run(self, jobs: Sequence[Job]) -> list[Decoding]: ...

    def probe(self, mel: Float32Array | None = None) -> None: ...


class DeviceThread:
    """Runs a model's jobs on one thread of its own; MAX releases the interpreter while it computes.

    Implements ``speech_model.Device``. A call that is cancelled is forgotten, not interrupted.
    """

    def __init__(self, model: RunsJobs) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="captiond-device")

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        """Decodings of ``jobs`` in order. Raises DeviceError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._model.run, list(jobs))

    async def probe(self) -> None:
        """The model's shortest run, on the device's own thread. Raises DeviceError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._model.probe)

    def run_now(self, jobs: Sequence[Job]) -> list[Decoding]:
        """The same, for callers without an event loop."""
        return self._thread.submit(self._model.run, list(jobs)).result()

    def probe_now(self, mel: Float32Array) -> None:
        """The same on ``mel``, blocking. Raises DeviceError."""
        self._thread.submit(self._model.probe, mel).result()

    def close(self) -> None:
        """Wait for the running job and end the thread."""
        self._thread.shutdown(wait=True)


def import_max() -> None:
    """Import what runs a model. Call it in the main thread before ``Engine.load`` runs in another one.

    MAX ties itself to the thread that imports it first and takes leave in the main thread; where these are
    not the same, it complains of an "Unbalanced Context" when the process ends.
    """
    importlib.import_module("captiond_engine.whisper.loading")


@dataclass
class Engine:
    """What the daemon needs of a model. Tests build one from scripted parts."""

    traits: ModelTraits
    tokenizer: Tokenizer
    device: Device
    info: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        download: bool = True,
        progress: Progress = silent,
    ) -> Engine:
        """Load, compile where needed, check and warm up. Blocks for seconds to minutes; call it in a thread,
        after ``import_max`` in the main one. ``precision`` is that of weights, as far as there is one; what
        is really run stands in ``info``.

        Raises ModelError (also not found, hub unreachable) and DeviceError.
        """
        from captiond_engine.whisper.loading import choose_device, load_model, return_memory
        from captiond_engine.whisper.weights import read_checkpoint

        path = models.find(model, download=download, progress=progress)
        progress(ProgressEvent("weights", f"reading {model}"))
        checkpoint = read_checkpoint(path)
        driver = choose_device(device)
        whisper = load_model(checkpoint, driver, precision=precision, progress=progress)
        del checkpoint  # the graphs have what they read of it
        return_memory()
        tokenizer = whisper.tokenizer
        if tokenizer is None:
            raise ModelError(f"{model} has no tokenizer.")
        languages = tokenizer.languages if tokenizer.multilingual else ("en",)
        traits = traits_of(model, models.read_card(path), whisper.config.n_mels, languages)
        where = "cpu" if driver.is_host else f"gpu ({driver.label})"
        info = {"model": model, "device": where, "precision": whisper.precision}
        engine = cls(traits, tokenizer, DeviceThread(whisper), info)
        progress(ProgressEvent("warm_up", "warming up"))
        engine.warm_up()
        return engine

    def open_stream(
        self,
        name: str,
        settings: StreamSettings | None = None,
        *,
        detector: VoiceDetector | None = None,
        slot: int = 0,
    ) -> Stream:
        """A new stream on this model."""
        settings = settings or StreamSettings()
        return Stream(
            name,
            traits=self.traits,
            tokenizer=self.tokenizer,
            detector=detector or open_detector(settings.vad, settings.vad_aggressiveness),
            settings=settings,
            slot=slot,
        )

    def transcribe_clip(self, pcm: Float32Array, *, window: WindowChoice | None = None) -> str:
        """The text of one clip of at most 30 s, float32 [samples] at 16 kHz, in one decode; blocking."""
        return self.tokenizer.decode(self.decode_clip(pcm, window=window).tokens).strip()

    def decode_clip(
        self,
        pcm: Float32Array,
        *,
        window: WindowChoice | None = None,
        prompt: PromptSpec | None = None,
        options: DecodingOptions | FallbackOptions | None = None,
    ) -> Decoding:
        """One decode of one clip: the whole model without segmentation or streaming.

        ``options`` default to greedy, without timestamps; what ``prompt`` says goes before what they say.
        """
        length = self.traits.window_length(
            min(len(pcm), self.traits.max_window), window or self.traits.window_final
        )
        mel = log_mel(pcm[:length], self.traits.mels, length // HOP_SAMPLES)
        job = Job(0, 0, "final", length, Window(0, 0, length, mel, prompt or PromptSpec(), options))
        device = self.device
        if not isinstance(device, DeviceThread):
            raise TypeError("this engine's device has no blocking call")
        return device.run_now([job])[0]

    def warm_up(self) -> None:
        """Run both graphs once on silence, so that the first caption does not wait for first-time work.

        A few tokens are enough, and all that can be asked: a model may find no end in silence.
        """
        length = self.traits.window_length(self.traits.min_fitted_window, "fitted")
        mel = log_mel(np.zeros(length, np.float32), self.traits.mels, length // HOP_SAMPLES)
        if isinstance(self.device, DeviceThread):
            self.device.probe_now(mel)

    def with_windows(self, partial: WindowChoice | None, final: WindowChoice | None) -> Engine:
        """The same engine with other windows than the model's card says."""
        traits = replace(
            self.traits,
            window_partial=partial or self.traits.window_partial,
            window_final=final or self.traits.window_final,
        )
        return replace(self, traits=traits)

    def close(self) -> None:
        """End the device thread, if there is one."""
        if isinstance(self.device, DeviceThread):
            self.device.close()


def traits_of(name: str, card: models.Card, mels: int, languages: tuple[str, ...]) -> ModelTraits:
    """What streams must know of a model, from its card. Raises ModelError."""
    for choice in (card.window_partial, card.window_final):
        if choice not in ("full", "fitted"):
            raise ModelError(f"The card of {name} says window {choice!r}; 'full' or 'fitted' was expected.")
    if card.commit not in POLICIES:
        raise ModelError(f"The card of {name} says commit {card.commit!r}; there are: {', '.join(POLICIES)}.")
    return ModelTraits(
        name=name,
        mels=mels,
        languages=languages,
        min_fitted_window=samples_from_ms(card.min_fitted_window_ms),
        fitted_step=samples_from_ms(card.fitted_step_ms),
        window_partial=cast(WindowChoice, card.window_partial),
        window_final=cast(WindowChoice, card.window_final),
        max_segment=samples_from_ms(card.max_segment_ms),
        pack=card.pack,
        commit=card.commit,
        commit_hold=samples_from_ms(card.commit_hold_ms),
        unsure=card.unsure or None,
        unfinished_silence=samples_from_ms(card.unfinished_silence_ms),
    )
