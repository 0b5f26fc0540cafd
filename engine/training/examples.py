"""Windows as the model takes them: log-mel, tokens, labels, letters, and when each token is said; in batches
of like length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from whisper.audio import mel_filters

from engine.training.mixing import LONGEST_SAMPLES, Mix, Mixer, Window, Words
from engine.training.model import MELS
from engine.training.store import SAMPLE_RATE
from engine.training.text import Vocabulary, letters

FFT, HOP = 400, 160
FORMANTS = np.linspace(0.86, 1.16, 11)  # factors by which the spectrum is stretched: other vocal tracts
IGNORED = -100  # torch's own label for "do not count"
UNTIMED = -1.0
POOL = 6  # batches that are sorted by length together


class Example(NamedTuple):
    """mel float32 [80, frames]; inputs and labels in rows of the vocabulary; times in seconds, `UNTIMED`
    where none.
    """

    mel: Tensor
    inputs: list[int]
    labels: list[int]
    letters: list[int]
    times: list[float]


class Batch(NamedTuple):
    """mel float16 [batch, 80, frames], inputs, labels, times [batch, n]; letters flat with their counts."""

    mel: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    times: np.ndarray
    letters: np.ndarray
    letter_counts: np.ndarray


class Mel:
    """Whisper's log-mel (openai-whisper's audio.py), its filters stretched where another vocal tract is
    wanted.
    """

    def __init__(self) -> None:
        self._hann = torch.hann_window(FFT)
        plain = mel_filters("cpu", MELS)
        self._plain, self._bent = plain, [plain @ stretched(plain.shape[1], factor) for factor in FORMANTS]

    def __call__(self, samples: np.ndarray, r: random.Random | None = None) -> Tensor:
        spectrum = torch.stft(torch.from_numpy(samples), FFT, HOP, window=self._hann, return_complex=True)
        filters = self._plain if r is None else r.choice(self._bent)
        log = (filters @ spectrum[..., :-1].abs() ** 2).clamp(min=1e-10).log10()
        return (torch.maximum(log, log.max() - 8.0) + 4) / 4


def stretched(bins: int, factor: float) -> Tensor:
    """[bins, bins]: takes a spectrum to the one whose formants are `factor` times as high."""
    at = np.arange(bins) / factor
    low = np.minimum(at.astype(int), bins - 1)
    part = np.where(low < bins - 1, at - low, 0.0)
    matrix = np.zeros((bins, bins), np.float32)
    matrix[np.arange(bins), low] = 1 - part
    matrix[np.arange(bins), np.minimum(low + 1, bins - 1)] += part
    matrix[at > bins - 1] = 0
    return torch.from_numpy(matrix)


class Examples:
    def __init__(self, folder: Path, vocabulary: Vocabulary, seed: int) -> None:
        self._mixer, self._vocabulary, self._mel = Mixer(folder, seed), vocabulary, Mel()
        self._r = self._mixer.r

    def batches(self, mix: Mix, frames: int) -> Iterator[Batch]:
        """Endless; at most `frames` mel frames in one, so a long window comes with few others."""
        while True:
            pool: list[Example] = []
            while sum(e.mel.shape[1] for e in pool) < frames * POOL:
                pool.append(self.example(mix))
            groups = grouped(sorted(pool, key=lambda e: e.mel.shape[1]), frames)
            self._r.shuffle(groups)
            for group in groups:
                yield self._together(group)

    def example(self, mix: Mix) -> Example:
        r, window = self._r, self._mixer.window(mix)
        padded = r.random() < mix.padded
        samples = self._ended(window.samples, padded)
        bent = r if r.random() < 0.6 * mix.strength else None
        mel = self._mel(samples, bent)
        heard = mel.shape[1]
        if padded and heard < 3000:
            mel = F.pad(mel, (0, 3000 - heard))
        if r.random() < 0.5 * mix.strength:
            self._masked(mel, min(heard, len(window.samples) // HOP))
        before: list[int] = []
        if r.random() < 0.08 * mix.strength:
            before = [self._vocabulary.before, *self._earlier()]
        inputs, labels, times = self._told(window, r.random() < 0.1 * mix.strength)
        said = " ".join(text for _, _, text, _ in window.spoken)
        labels = [IGNORED] * len(before) + labels
        return Example(mel, before + inputs, labels, letters(said), [UNTIMED] * len(before) + times)

    def _ended(self, samples: np.ndarray, padded: bool) -> np.ndarray:
        """With some digital silence after it, at times; to 30 s in samples or, later, in the mel."""
        r = self._r
        if r.random() < 0.4:
            seconds = r.uniform(0, 1.5) if r.random() < 0.9 else r.uniform(0, 4.0)
            samples = np.concatenate([samples, np.zeros(int(seconds * SAMPLE_RATE), np.float32)])
        if padded and r.random() < 0.6:
            samples = np.concatenate([samples, np.zeros(max(0, LONGEST_SAMPLES - len(samples)), np.float32)])
        samples = samples[:LONGEST_SAMPLES]
        samples = samples[: len(samples) // (2 * HOP) * 2 * HOP]
        short = max(0, 40 * HOP - len(samples))
        return np.concatenate([samples, np.zeros(short, np.float32)])

    def _masked(self, mel: Tensor, heard: int) -> None:
        """SpecAugment (Park and others, 2019), light."""
        r, mean = self._r, float(mel.mean())
        for _ in range(r.randint(1, 2)):
            width = r.randint(1, 10)
            first = r.randrange(MELS - width + 1)
            mel[first : first + width] = mean
        for _ in range(r.randint(0, 2)):
            width = r.randint(2, 12)
            first = r.randrange(max(1, heard - width))
            mel[:, first : first + width] = mean

    def _earlier(self) -> list[int]:
        r = self._r
        count = r.choice([1, 1, 2, 3]) if r.random() < 0.93 else r.randint(8, 14)
        return self._vocabulary.encode(" ".join(self._mixer.text() for _ in range(count)))[-220:]

    def _told(self, window: Window, timestamps: bool) -> tuple[list[int], list[int], list[float]]:
        v = self._vocabulary
        if not window.spoken:  # the first label teaches the no-speech probability, the second to say nothing
            return [v.start, v.no_timestamps], [v.no_speech, v.end], [UNTIMED, UNTIMED]
        told: list[int] = []
        times: list[float] = [UNTIMED]  # a token's time stands where it is asked for: one place earlier
        for start, end, text, words in window.spoken:
            tokens, when = self._timed(text, start, end, words)
            if timestamps:
                told += [v.timestamp(start), *tokens, v.timestamp(end)]
                times += [start + 0.1, *when, end - 0.1]
            else:
                told += tokens
                times += when
        sequence = [v.start, *([] if timestamps else [v.no_timestamps]), *told, v.end]
        times = (times[1:] if timestamps else times) + [UNTIMED if timestamps else window.spoken[-1][1]]
        return sequence[:-1], sequence[1:], times

    def _timed(
        self, text: str, start: float, end: float, words: Words | None
    ) -> tuple[list[int], list[float]]:
        """Tokens and the middle of each in time: within its word where words are known, else along the
        letters.
        """
        tokens = self._vocabulary.encode(text)
        lengths = [self._vocabulary.length(t) for t in tokens]
        spoken = text.split()
        if words is None or len(words) != len(spoken):
            spoken, words = [text], [(start, end)]
        bounds = np.cumsum([0, *(len(word) + 1 for word in spoken)])
        at = np.cumsum([0, *lengths])
        middles = [(a + b) / 2 for a, b in pairwise(at)]
        times = []
        for middle in middles:
            i = min(int(np.searchsorted(bounds, middle, side="right")) - 1, len(words) - 1)
            part = (middle - bounds[i]) / max(1, bounds[i + 1] - bounds[i])
            times.append(words[i][0] + min(1.0, part) * (words[i][1] - words[i][0]))
        return tokens, times

    def _together(self, group: list[Example]) -> Batch:
        r, frames = self._r, max(e.mel.shape[1] for e in group)
        if frames < 2900:
            frames = min(3000, frames + 2 * r.choice([0, 0, 5, r.randint(0, 40)]))
        frames += frames % 2
        mel = torch.zeros(len(group), MELS, frames)
        for row, e in zip(mel, group, strict=True):
            row[:, : e.mel.shape[1]] = e.mel
            if r.random() < 0.5:
                row[:, e.mel.shape[1] :] = e.mel.min()
        longest = max(len(e.inputs) for e in group)

        def table(rows: list[list[int]] | list[list[float]], fill: float, kind: type) -> np.ndarray:
            return np.array([[*row, *[fill] * (longest - len(row))] for row in rows], kind)

        return Batch(
            mel.half().numpy(),
            table([e.inputs for e in group], self._vocabulary.end, np.int64),
            table([e.labels for e in group], IGNORED, np.int64),
            table([e.times for e in group], UNTIMED, np.float32),
            np.array([letter for e in group for letter in e.letters], np.int64),
            np.array([len(e.letters) for e in group], np.int64),
        )


def grouped(pool: list[Example], frames: int) -> list[list[Example]]:
    """Neighbours in length, together within `frames` and a third of one another."""
    groups: list[list[Example]] = []
    for example in pool:
        length = example.mel.shape[1]
        last = groups[-1] if groups else []
        if last and length * (len(last) + 1) <= frames and length <= 1.35 * last[0].mel.shape[1] + 60:
            last.append(example)
        else:
            groups.append([example])
    return groups
