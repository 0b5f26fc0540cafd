"""A small store of made-up speech: tones in place of words, so that it is known where each word stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra parity)")
pytest.importorskip("whisper", reason="needs openai-whisper (extra parity)")
pytest.importorskip("av", reason="needs PyAV: pip install 'captiond[av]'")

from engine.training import store
from engine.training.text import Vocabulary

WORD_S, GAP_S = 0.25, 0.1
TEXTS = [
    "Turn on the kitchen lights.",
    "It is half past six.",
    "My number is one, two, three.",
    "Stop the music.",
]
DIGITS = "zero one two three four five six seven eight nine".split()
RATE = store.SAMPLE_RATE


def tones(text: str) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """One tone a word, its pitch told by the word."""
    parts, times, at = [], [], 0.0
    for word in text.split():
        seconds = np.arange(int(WORD_S * RATE)) / RATE
        pitch = 200 + 37 * (sum(word.encode()) % 50)
        parts += [0.1 * np.sin(2 * np.pi * pitch * seconds), np.zeros(int(GAP_S * RATE))]
        times.append((at, at + WORD_S))
        at += WORD_S + GAP_S
    return np.concatenate(parts).astype(np.float32), times


def utterances(texts: list[str], voice: str, kind: str) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    for text in texts:
        samples, times = tones(text)
        yield samples, store.Utterance(text, voice, kind, 0, 0, times)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("training-data")
    store.write(made, "train_0000", utterances(TEXTS, "tones/one", "command"))
    store.write(made, "human_digits", utterances(DIGITS, "fsdd/somebody", "word"))
    store.write(made, "human_prompts", utterances([*DIGITS, "hundred"], "asterisk/somebody", "word"))
    g = np.random.default_rng(1)
    noise = [(0.08 * g.standard_normal(n)).astype(np.float32) for n in (11 * RATE, RATE // 2)]
    store.write(made, "noise_made", ((n, store.Utterance("", "made/noise", "noise", 0, 0)) for n in noise))
    return made


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary()
