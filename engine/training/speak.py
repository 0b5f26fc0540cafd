"""Step 1, `python -m engine.training.speak`: sentences of the grammar, spoken by the machine's voices, into
a store.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np

from engine.training import store, voices
from engine.training.grammar import Grammar, Sentence
from engine.training.voices import Voice

BATCH = 200  # utterances of one file
LONGEST_CHARACTERS = 110
SHORTEST_SAMPLES, LONGEST_SAMPLES = 4000, 13 * store.SAMPLE_RATE


def chosen(r: random.Random, grammar: Grammar, *, kept: bool) -> list[tuple[Sentence, Voice]]:
    """What one file holds. Tests say kept sentences with kept voices; short ones belong to training alone."""
    told: dict[str, tuple[Sentence, Voice]] = {}
    while len(told) < BATCH:
        sentence = grammar.sentence(r)
        short = sentence.kind == "short"
        wanted = not kept if short else sentence.kept_for_tests == kept
        if wanted and len(sentence.text) <= LONGEST_CHARACTERS and sentence.text not in told:
            told[sentence.text] = (sentence, voices.kept(r) if kept else voices.heard(r))
    return list(told.values())


def spoken(told: list[tuple[Sentence, Voice]], folder: Path) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    paths = [folder / f"{i}.wav" for i in range(len(told))]
    festival = [(s.text, v, p) for (s, v), p in zip(told, paths, strict=True) if v.program == "festival"]
    try:
        voices.speak_with_festival(festival, folder / "say.scm")
    except subprocess.TimeoutExpired:
        print("festival took too long: some of its utterances are left out", flush=True)
    for (sentence, voice), path in zip(told, paths, strict=True):
        try:
            if voice.program != "festival":
                voices.speak(sentence.text, voice, path)
            samples = store.trimmed(store.read_sound(path))
        except (subprocess.SubprocessError, RuntimeError):
            continue
        if samples is not None and SHORTEST_SAMPLES <= len(samples) <= LONGEST_SAMPLES:
            yield (
                samples,
                store.Utterance(sentence.text, f"{voice.program}/{voice.name}", sentence.kind, 0, 0),
            )


def speak_file(folder: Path, name: str, seed: int, kept: bool, every_kind: bool) -> int:
    told = chosen(random.Random(seed), Grammar(every_kind=every_kind), kept=kept)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        return store.write(folder, name, spoken(told, Path(scratch)))


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option("--files", default=150, show_default=True, help=f"How many files of {BATCH} utterances.")
@click.option(
    "--first", default=0, show_default=True, help="The number of the first file; a number is a seed."
)
@click.option("--kept", is_flag=True, help="Sentences and voices that are kept for tests.")
@click.option("--every-kind", is_flag=True, help="The wide domain.")
@click.option("--workers", default=2, show_default=True)
def main(folder: Path, files: int, first: int, kept: bool, every_kind: bool, workers: int) -> None:
    name, base = ("kept", 900_000) if kept else ("train", 0)
    with ProcessPoolExecutor(workers) as pool:
        numbers = [n for n in range(first, first + files) if not (folder / f"{name}_{n:04d}.jsonl").exists()]
        runs = [
            pool.submit(speak_file, folder, f"{name}_{n:04d}", base + n, kept, every_kind) for n in numbers
        ]
        for run, n in zip(runs, numbers, strict=True):
            print(f"{name}_{n:04d}: {run.result()} of {BATCH} utterances", flush=True)


if __name__ == "__main__":
    main()
