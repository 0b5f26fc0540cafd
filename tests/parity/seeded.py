"""Seeded random Whispers at the real sizes, made by NumPy alone, so that they need no file and no torch."""

from __future__ import annotations

import zlib

import numpy as np
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.weights import expected_shapes

# openai-whisper's published dimensions: width, heads, layers of encoder and decoder.
SIZES = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12)}
SEEDS = {"tiny": 7, "base": 8, "small": 7}  # without a tie in float32: see make_goldens.SMALLEST_GAP
VOCABULARY = 51_865
# start of transcript, <|en|>, <|transcribe|>, <|notimestamps|>; two rows have earlier text before it.
START = (50_258, 50_259, 50_359, 50_363)
PROMPTS = (START, (50_361, 400, 1_200, 77, *START), (50_361, 9, *START, 1_542, 318))
START_INDICES = (0, 4, 2)
AUDIO_HOPS = (3_000, 1_234, 412)  # how much of each 30 s window is not silence


def config_of(size: str) -> WhisperConfig:
    width, heads, depth = SIZES[size]
    return WhisperConfig(80, 1500, width, heads, depth, VOCABULARY, 448, width, heads, depth)


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> Float32Array:
    """Values that keep a greedy decode varied: a plain Gaussian model says one token for ever."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    if "_ln" in name or ".ln" in name:
        return 1.0 + 0.1 * values if name.endswith("weight") else 0.01 * values
    if name.endswith("bias"):
        return 0.01 * values
    if name == "decoder.token_embedding.weight":
        return 0.02 * values
    if "embedding" in name:
        return 0.1 * values
    values *= np.float32(np.prod(shape[1:]) ** -0.5)
    if name.startswith("decoder") and ("query" in name or "key" in name):
        values *= 4.0  # attention that chooses
    if name.startswith("decoder") and "mlp.2" in name:
        values *= 3.0
    return values


def tensors_of(size: str) -> dict[str, Float32Array]:
    """All tensors of a random Whisper, float32, by OpenAI's names."""
    return {
        name: np.asarray(_tensor(name, shape, SEEDS[size]), np.float32)
        for name, shape in expected_shapes(config_of(size)).items()
    }


def mels(rows: int = 3, seed: int = 11) -> Float32Array:
    """Mel-like noise, float32 [rows, 80, 3000]; each row silent (its lowest value) after AUDIO_HOPS."""
    made = np.random.default_rng(seed).standard_normal((rows, 80, 3000), dtype=np.float32) * np.float32(0.4)
    for row in range(rows):
        made[row, :, AUDIO_HOPS[row] :] = -1.0
    return made


END = VOCABULARY - 1  # what a model without a tokenizer takes for end-of-text


def sampled(array: Float32Array, count: int = 200) -> Float32Array:
    """``count`` values at places that depend on the array's size alone."""
    flat = array.reshape(-1)
    return flat[np.random.default_rng(flat.size).integers(0, flat.size, count)]
