"""What is measured: sets of weights, the audio they hear, and what they may not say.

Takes a case's name, gives its configuration, tensors, prompt and windows. Knows no contender.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import captiond_clients
import numpy as np
import soundfile
from captiond_engine import models
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array, PromptSpec
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.loading import tokenizer_of
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import read_checkpoint

from tests.parity import seeded

SAMPLE = Path(captiond_clients.__file__).parent / "samples" / "demo.flac"
WINDOW = 30 * SAMPLE_RATE_HZ  # samples
NEW_TOKENS = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One set of weights: prompt, and tokens that no contender may say (end-of-text, so that all of them say
    ``new_tokens``). Start-of-transcript is the prompt's first token."""

    name: str
    config: WhisperConfig
    prompt: tuple[int, ...]
    blocked: tuple[int, ...]
    new_tokens: int = NEW_TOKENS


def weights_of(name: str) -> tuple[WhisperConfig, dict[str, Float32Array], WhisperTokenizer]:
    """``tiny``, ``base`` or ``small``: seeded random weights at OpenAI's size, as no published ones need be
    here. Any other name is a model's, as for ``captiond serve``. Raises ModelError."""
    if name in seeded.SIZES:
        config = seeded.config_of(name)
        return config, seeded.tensors_of(name), WhisperTokenizer.from_published(config)
    checkpoint = read_checkpoint(models.find(name))
    return checkpoint.config, checkpoint.tensors, tokenizer_of(checkpoint)


def case_of(name: str, config: WhisperConfig, tokenizer: WhisperTokenizer, new_tokens: int) -> Case:
    prompt, _ = tokenizer.prompt(PromptSpec(), language="en")
    return Case(name, config, tuple(prompt), (tokenizer.end_of_text,), new_tokens)


def windows(rows: int) -> Float32Array:
    """Real speech, float32 [rows, 480000]: the bundled sample, each row a second later than the last."""
    pcm, rate_hz = soundfile.read(SAMPLE, dtype="float32")
    if rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(f"{SAMPLE.name} has {rate_hz} Hz")
    latest = (len(pcm) - WINDOW) // SAMPLE_RATE_HZ
    starts = [row % (latest + 1) * SAMPLE_RATE_HZ for row in range(rows)]
    return np.stack([np.asarray(pcm[start : start + WINDOW], np.float32) for start in starts])
