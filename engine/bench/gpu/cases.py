"""The models that are measured: the bundled one, and seeded random weights at published sizes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from captiond_engine.models import BUNDLED
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.weights import expected_shapes, read_checkpoint

from tests.parity import seeded

TURBO = "large-v3-turbo"
SIZES = ("demo-en", "tiny", "base", "small", TURBO)
_PATTERN = 1 << 20  # random values that are repeated; NumPy makes them slowly, and times do not see it


@dataclass(frozen=True, slots=True)
class Case:
    """One model: name, dimensions, weights, and a prompt of four tokens."""

    name: str
    config: WhisperConfig
    tensors: dict[str, Float32Array]
    prompt: tuple[int, ...]


def config_of(size: str) -> WhisperConfig:
    """Published dimensions, with all layers."""
    if size == "demo-en":
        return read_checkpoint(BUNDLED / size).config
    return seeded.DIMENSIONS[size]


def case_of(size: str, *, filled: bool = True) -> Case:
    """The model of this name. Not ``filled``: zeros, for whoever wants shapes."""
    config = config_of(size)
    if size == "demo-en":
        return Case(size, config, read_checkpoint(BUNDLED / size).tensors, (50_257, 50_362))
    prompt, _ = seeded.prompts_of(size)[0]
    if not filled:
        zeros = {name: np.zeros(shape, np.float32) for name, shape in expected_shapes(config).items()}
        return Case(size, config, zeros, prompt)
    whole = seeded.config_of(size) == config  # some are seeded with fewer layers
    return Case(size, config, seeded.tensors_of(size) if whole else _repeated(config), prompt)


def _repeated(config: WhisperConfig) -> dict[str, Float32Array]:
    pattern = np.random.default_rng(7).standard_normal(_PATTERN, dtype=np.float32)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        values = np.resize(np.roll(pattern, zlib.crc32(name.encode()) % _PATTERN), shape)
        if "_ln" in name or ".ln" in name:
            values = np.full(shape, float(name.endswith("weight")), np.float32)
        elif name.endswith("bias") or "embedding" in name:
            values = values * np.float32(0.02)
        else:
            values = values * np.float32(np.prod(shape[1:]) ** -0.5)
        tensors[name] = np.asarray(values, np.float32)
    return tensors


def mels(config: WhisperConfig, rows: int) -> Float32Array:
    """Noise like a mel, float32 [rows, C, 2 * n_audio_ctx]."""
    one = np.random.default_rng(11).standard_normal((1, config.n_mels, config.max_hops), dtype=np.float32)
    return np.concatenate([one * np.float32(0.4)] * rows)
