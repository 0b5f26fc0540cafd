"""Seeded random Whispers at the real sizes, made by NumPy alone, so that they need no file and no torch.

Dimensions are those of the published models; the larger ones are cut to fewer layers, as each layer costs a
compiler seconds and nothing differs between the layers of one model but their numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import expected_shapes

ENGLISH, MULTILINGUAL, LARGE_V3 = 51_864, 51_865, 51_866  # vocabularies


def _dimensions(width: int, encoder: int, decoder: int, vocabulary: int, mels: int = 80) -> WhisperConfig:
    heads = width // HEAD_WIDTH
    return WhisperConfig(mels, 1500, width, heads, encoder, vocabulary, 448, width, heads, decoder)


# openai-whisper's published dimensions (the ``dims`` of its files, and its paper's table 1), those of
# distil-whisper (arXiv:2311.00430: all of the encoder, two or four of the decoder's layers), and one of our
# own: all that is new in large-v3, with unequal depths, small enough for every run of the tests.
DIMENSIONS: dict[str, WhisperConfig] = {
    "tiny.en": _dimensions(384, 4, 4, ENGLISH),
    "tiny": _dimensions(384, 4, 4, MULTILINGUAL),
    "base.en": _dimensions(512, 6, 6, ENGLISH),
    "base": _dimensions(512, 6, 6, MULTILINGUAL),
    "small.en": _dimensions(768, 12, 12, ENGLISH),
    "small": _dimensions(768, 12, 12, MULTILINGUAL),
    "medium.en": _dimensions(1024, 24, 24, ENGLISH),
    "medium": _dimensions(1024, 24, 24, MULTILINGUAL),
    "large-v1": _dimensions(1280, 32, 32, MULTILINGUAL),
    "large-v2": _dimensions(1280, 32, 32, MULTILINGUAL),
    "large-v3": _dimensions(1280, 32, 32, LARGE_V3, 128),
    "large-v3-turbo": _dimensions(1280, 32, 4, LARGE_V3, 128),
    "distil-small.en": _dimensions(768, 12, 4, ENGLISH),
    "distil-medium.en": _dimensions(1024, 24, 2, ENGLISH),
    "distil-large-v2": _dimensions(1280, 32, 2, MULTILINGUAL),
    "distil-large-v3": _dimensions(1280, 32, 2, LARGE_V3, 128),
    "distil-large-v3.5": _dimensions(1280, 32, 2, LARGE_V3, 128),
    "mini-v3": _dimensions(128, 3, 2, LARGE_V3, 128),
}


@dataclass(frozen=True, slots=True)
class Seeded:
    """A seed without a tie in float32 (see make_goldens.SMALLEST_GAP), and most layers of each half."""

    seed: int
    most_encoder: int = 32
    most_decoder: int = 32


SIZES: dict[str, Seeded] = {
    "mini-v3": Seeded(7),
    "tiny.en": Seeded(7),
    "tiny": Seeded(7),
    "base": Seeded(8),
    "small": Seeded(7),
    "distil-small.en": Seeded(8, 2),
    "medium": Seeded(7, 2, 2),
    "large-v2": Seeded(7, 2, 2),
    "large-v3": Seeded(7, 2, 2),
    "large-v3-turbo": Seeded(7, 2),
    "distil-large-v3": Seeded(7, 2),
}
AUDIO_HOPS = (3_000, 1_234, 412)  # how much of each 30 s window is not silence


def config_of(size: str) -> WhisperConfig:
    """The dimensions of ``size`` as they are run: perhaps with fewer layers than published."""
    full, cut = DIMENSIONS[size], SIZES[size]
    return replace(
        full,
        n_audio_layer=min(full.n_audio_layer, cut.most_encoder),
        n_text_layer=min(full.n_text_layer, cut.most_decoder),
    )


def layers_of(size: str) -> str:
    """Layers of encoder and decoder for people: ``4+4``, or ``2+2 of 24+24`` where some were left out."""
    full, run = DIMENSIONS[size], config_of(size)
    shown = [f"{config.n_audio_layer}+{config.n_text_layer}" for config in (run, full)]
    return shown[0] if run == full else " of ".join(shown)


@cache
def tokenizer_of(size: str) -> WhisperTokenizer:
    """The published vocabulary of ``size``."""
    return WhisperTokenizer.from_published(DIMENSIONS[size])


def prompts_of(size: str) -> list[tuple[tuple[int, ...], int]]:
    """Three prompts of unequal length and where start-of-transcript stands in them.

    Without anything before or after; with earlier text; with earlier text and a prefix.
    """
    tokenizer = tokenizer_of(size)
    language = (tokenizer.language_token("en"), tokenizer.transcribe) if tokenizer.multilingual else ()
    start = (tokenizer.start_of_transcript, *language, tokenizer.no_timestamps)
    earlier, short = (tokenizer.start_of_previous, 400, 1_200, 77), (tokenizer.start_of_previous, 9)
    return [(start, 0), ((*earlier, *start), len(earlier)), ((*short, *start, 1_542, 318), len(short))]


def task_prompts_of(size: str) -> list[tuple[tuple[int, ...], int]]:
    """Three prompts for the other task, other languages, and times instead of none.

    Translate, and a prefix; a time before the first word; earlier text, translate, and a stretch from 0.00 to
    1.20 s as prefix.
    """
    tokenizer = tokenizer_of(size)
    begin, later = tokenizer.timestamps[0], tokenizer.timestamps[60]
    start: list[tuple[int, ...]] = [(tokenizer.start_of_transcript,)] * 3
    if tokenizer.multilingual:
        tasks = (("de", tokenizer.translate), ("ja", tokenizer.transcribe))
        last = (tokenizer.languages[-1], tokenizer.translate)
        start = [(*start[0], tokenizer.language_token(code), task) for code, task in (*tasks, last)]
    earlier = (tokenizer.start_of_previous, 3_000, 12)
    stretch = (begin, 400, 1_200, later)
    return [
        ((*start[0], tokenizer.no_timestamps, 1_542), 0),
        ((*start[1], begin), 0),
        ((*earlier, *start[2], *stretch), len(earlier)),
    ]


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
        name: np.asarray(_tensor(name, shape, SIZES[size].seed), np.float32)
        for name, shape in expected_shapes(config_of(size)).items()
    }


def mels(rows: int = 3, seed: int = 11, mels: int = 80) -> Float32Array:
    """Mel-like noise, float32 [rows, C, 3000]; each row silent (its lowest value) after AUDIO_HOPS."""
    made = np.random.default_rng(seed).standard_normal((rows, mels, 3000), dtype=np.float32) * np.float32(0.4)
    for row in range(rows):
        made[row, :, AUDIO_HOPS[row] :] = -1.0
    return made


def mels_of(size: str, rows: int = 3) -> Float32Array:
    """``mels`` as high as ``size`` takes them."""
    return mels(rows, mels=DIMENSIONS[size].n_mels)


def sampled(array: Float32Array, count: int = 200) -> Float32Array:
    """``count`` values at places that depend on the array's size alone."""
    flat = array.reshape(-1)
    return flat[np.random.default_rng(flat.size).integers(0, flat.size, count)]
