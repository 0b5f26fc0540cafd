"""Step 8, `python -m engine.training.evaluate MODEL`: word error rates by condition, with their confidence
intervals.

MODEL is a checkpoint of train.py, or a folder of export.py; either is decoded greedily in windows of 30 s
and in windows that fit. What is measured is made from what nobody trains on (`--folder`, the store `kept`),
or read from manifests of recordings.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import jiwer
import numpy as np
import torch
from whisper_normalizer.english import EnglishTextNormalizer

from engine.training.examples import HOP, Mel
from engine.training.export import load_folder
from engine.training.humans import KEPT_SPEAKER
from engine.training.mixing import silence
from engine.training.model import Checkpoint, Whisper
from engine.training.store import SAMPLE_RATE, Store, read_sound
from engine.training.text import Vocabulary

SAMPLES_30_S = 30 * SAMPLE_RATE
SHORTEST_FITTED = 3 * SAMPLE_RATE  # as captiond's `ModelTraits.min_fitted_window`
TOGETHER = 8
RESAMPLES = 2000
WINDOWS = ("fitted", "30 s")


@dataclass(frozen=True)
class Clip:
    condition: str
    samples: np.ndarray
    text: str


def pink(g: np.random.Generator, length: int) -> np.ndarray:
    spectrum = np.fft.rfft(g.standard_normal(length)) / np.sqrt(np.maximum(np.arange(length // 2 + 1), 20))
    sound = np.fft.irfft(spectrum, length)
    return (sound / np.sqrt((sound**2).mean())).astype(np.float32)


def from_kept_voices(folder: Path, count: int) -> Iterator[Clip]:
    """Kept sentences said by kept voices: clean, at 10 dB in white and pink noise, several in one window."""
    store, r, g = Store(folder, "kept"), random.Random(7), np.random.default_rng(7)
    utterances = list({u.text: u for u in store.utterances}.values())
    r.shuffle(utterances)
    for i, u in enumerate(utterances[: 2 * count]):
        speech = store.samples(u)
        sound = np.concatenate([silence(r.uniform(0.1, 0.5)), speech, silence(r.uniform(0.2, 0.6))])
        if i < count:
            yield Clip("clean, voices not heard", sound, u.text)
            continue
        noise = pink(g, len(sound)) if i % 2 else g.standard_normal(len(sound)).astype(np.float32)
        yield Clip("10 dB, voices not heard", sound + noise * np.sqrt((speech**2).mean()) * 10**-0.5, u.text)
    rest = iter(utterances[2 * count :])
    for _ in range(count // 4):
        parts, texts = [silence(0.3)], []
        for u in islice(rest, r.choice([2, 3, 3, 4, 5, 6, 7])):
            if sum(map(len, parts)) + u.length > 27 * SAMPLE_RATE:
                break
            parts += [store.samples(u), silence(r.uniform(0.3, 1.2))]
            texts.append(u.text)
        if not texts:
            return
        sound = np.concatenate(parts)
        yield Clip(
            "windows of several, voices not heard", sound + 0.001 * pink(g, len(sound)), " ".join(texts)
        )


def from_kept_digits(folder: Path, count: int) -> Iterator[Clip]:
    store, r = Store(folder, "human_digits"), random.Random(11)
    digits = [u for u in store.utterances if KEPT_SPEAKER in u.voice]
    for _ in range(count):
        said = [r.choice(digits) for _ in range(r.choice([1, 3, 4, 5, 6, 7]))]
        parts = [part for u in said for part in (store.samples(u), silence(r.uniform(0.05, 0.3)))]
        yield Clip(
            "human digits, speaker not heard",
            np.concatenate([silence(0.3), *parts]),
            " ".join(u.text for u in said),
        )


def from_manifest(manifest: Path, condition: str) -> Iterator[Clip]:
    for row in map(json.loads, manifest.read_text().splitlines()):
        if row["seconds"] <= 30:
            yield Clip(
                row.get("condition", condition), read_sound(manifest.parent / row["path"]), row["text"]
            )


def decoded(model: Whisper, vocabulary: Vocabulary, clips: list[Clip], *, fitted: bool) -> list[str]:
    mel = Mel()
    texts: dict[int, str] = {}
    order = sorted(range(len(clips)), key=lambda i: len(clips[i].samples))
    for first in range(0, len(order), TOGETHER):
        together = order[first : first + TOGETHER]
        longest = max(SHORTEST_FITTED, *(len(clips[i].samples) for i in together)) if fitted else SAMPLES_30_S
        longest = -(-longest // (2 * HOP)) * 2 * HOP
        sounds = [
            np.pad(clips[i].samples, (0, max(0, longest - len(clips[i].samples))))[:longest] for i in together
        ]
        windows = torch.stack([mel(s.astype(np.float32)) for s in sounds])
        start = [vocabulary.start, vocabulary.no_timestamps]
        rows = model.greedy(windows, start, vocabulary.end)
        texts.update(zip(together, (vocabulary.decode(row) for row in rows), strict=True))
    return [texts[i] for i in range(len(clips))]


def bare(text: str) -> str:
    kept = "".join(c if c.isalnum() or c in " '" else " " for c in text.lower())
    return " ".join(kept.split())


def interval(errors: np.ndarray, words: np.ndarray) -> tuple[float, float]:
    """95 % of resampled clips (bootstrap; Bisani and Ney, 2004)."""
    g = np.random.default_rng(1)
    drawn = g.integers(0, len(errors), (RESAMPLES, len(errors)))
    rates = errors[drawn].sum(axis=1) / np.maximum(1, words[drawn].sum(axis=1))
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def counts(reference: str, heard: str) -> tuple[int, int]:
    if not reference:
        return len(heard.split()), 0
    found = jiwer.process_words(reference, heard or "")
    return found.substitutions + found.deletions + found.insertions, len(reference.split())


def report(condition: str, window: str, clips: list[Clip], texts: list[str]) -> dict[str, Any]:
    if not any(c.text for c in clips):
        empty = sum(not bare(t) for t in texts)
        print(f"{condition:38} {window:7} n {len(clips):4}  empty {empty} of {len(clips)}", flush=True)
        return {"condition": condition, "window": window, "n": len(clips), "empty": empty}
    normal = EnglishTextNormalizer()
    told: dict[str, Any] = {"condition": condition, "window": window, "n": len(clips)}
    for name, form in (("wer", bare), ("wer_normalized", normal)):
        pairs = [counts(form(c.text), form(t)) for c, t in zip(clips, texts, strict=True)]
        errors, words = (np.array(column) for column in zip(*pairs, strict=True))
        told[name] = errors.sum() / words.sum() * 100
        told[f"{name}_95"] = [100 * x for x in interval(errors, words)]
        told.setdefault("words", int(words.sum()))
    low, high = told["wer_95"]
    print(
        f"{condition:38} {window:7} n {len(clips):4}  WER {told['wer']:5.1f} %  ({low:.1f} to {high:.1f})  "
        f"normalized {told['wer_normalized']:5.1f} %",
        flush=True,
    )
    return told


def loaded(path: Path) -> tuple[Whisper, Vocabulary]:
    if path.is_dir():
        return load_folder(path)
    checkpoint = Checkpoint.load(path)
    return checkpoint.model().eval(), Vocabulary(checkpoint.tokens)


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option(
    "--count", default=200, show_default=True, help="Clips of a condition; a quarter of it for long windows."
)
@click.option("--manifest", "manifests", multiple=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--window", "windows", multiple=True, type=click.Choice(WINDOWS), default=WINDOWS, show_default=True
)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--show", is_flag=True, help="Each text that was not heard as it was said.")
def main(
    model: Path, folder: Path, count: int, manifests: tuple[Path, ...], windows: tuple[str, ...],
    json_file: Path | None, show: bool,
) -> None:  # fmt: skip
    whisper, vocabulary = loaded(model)
    clips = [c for m in manifests for c in from_manifest(m, m.parent.name)]
    if not manifests:
        clips = [*from_kept_voices(folder, count), *from_kept_digits(folder, count)]
    told = []
    for window in windows:
        for condition in dict.fromkeys(c.condition for c in clips):
            mine = [c for c in clips if c.condition == condition]
            texts = decoded(whisper, vocabulary, mine, fitted=window == "fitted")
            told.append(report(condition, window, mine, texts))
            if show:
                for clip, text in zip(mine, texts, strict=True):
                    if bare(clip.text) != bare(text):
                        print(f"    {clip.text}  =>  {text}")
    if json_file:
        json_file.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
