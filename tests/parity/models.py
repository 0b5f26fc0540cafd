"""The models that several tests share, compiled once a run (and kept on disk between runs)."""

from __future__ import annotations

import os
from functools import cache

from captiond_engine.models import BUNDLED
from captiond_engine.progress import ProgressEvent
from captiond_engine.types import Float32Array
from captiond_engine.whisper.loading import build_model, load_model
from captiond_engine.whisper.model import WhisperModel
from captiond_engine.whisper.weights import Checkpoint, read_checkpoint
from max.driver import CPU

from tests.parity import seeded


def tell(event: ProgressEvent) -> None:
    """Compiling takes minutes the first time; say so even when pytest captures."""
    estimate = f", about {event.estimate_s:.0f} s" if event.estimate_s and not event.done else ""
    os.write(2, f"\n[{event.stage}] {event.message}{estimate}\n".encode())


@cache
def bundled_checkpoint() -> Checkpoint:
    return read_checkpoint(BUNDLED / "demo-en")


@cache
def bundled_model() -> WhisperModel:
    return load_model(bundled_checkpoint(), CPU(), progress=tell)


@cache
def seeded_tensors(size: str) -> dict[str, Float32Array]:
    return seeded.tensors_of(size)


@cache
def seeded_model(size: str) -> WhisperModel:
    return build_model(seeded.config_of(size), seeded_tensors(size), CPU(), progress=tell)


def sizes() -> list[str]:
    """Seeded sizes to test: CAPTIOND_PARITY_SIZES, or tiny alone, as each other one compiles for minutes."""
    return os.environ.get("CAPTIOND_PARITY_SIZES", "tiny").replace(",", " ").split()
