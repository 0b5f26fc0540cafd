"""Step 5, `python -m engine.training.align`: when each word of the training speech is said, from a model's
own CTC head.

Writes the words' times into the store's lines, so that windows can be cut between words and attention be
guided. What the model does not recognise (mean log-probability below `WORST`) stays without times, and is
then never cut.
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import numpy as np
import torch

from engine.training.examples import Mel
from engine.training.model import FRAME_S, Checkpoint, Whisper
from engine.training.store import SAMPLE_RATE, Store, Utterance
from engine.training.text import letters

WORST = -0.6
TOGETHER = 16
IMPOSSIBLE = -1e9


def best_path(log_probabilities: np.ndarray, labels: list[int]) -> tuple[np.ndarray, float]:
    """Viterbi over CTC's lattice (Graves and others, 2006): for each frame of float32 [frames, symbols] the
    place in blank, label, blank, label, …, blank; and the mean log-probability of that path.
    """
    places = np.zeros(2 * len(labels) + 1, int)
    places[1::2] = labels
    may_skip = np.zeros(len(places), bool)
    may_skip[2:] = (places[2:] != 0) & (places[2:] != places[:-2])
    said = log_probabilities[:, places]
    best = np.full(len(places), IMPOSSIBLE)
    best[:2] = said[0, :2]
    came_from = np.zeros(said.shape, np.int8)
    for t in range(1, len(said)):
        ways = np.full((3, len(places)), IMPOSSIBLE)
        ways[0], ways[1, 1:], ways[2, 2:] = best, best[:-1], best[:-2]
        ways[2, ~may_skip] = IMPOSSIBLE
        came_from[t] = ways.argmax(axis=0)
        best = ways.max(axis=0) + said[t]
    place = len(places) - 1 if best[-1] > best[-2] else len(places) - 2
    mean = float(best[place]) / len(said)
    path = np.zeros(len(said), int)
    for t in range(len(said) - 1, -1, -1):
        path[t] = place
        place -= int(came_from[t, place])
    return path, mean


def word_times(log_probabilities: np.ndarray, text: str) -> list[tuple[float, float]] | None:
    labels = letters(text)
    if 2 * len(labels) + 1 > 2 * len(log_probabilities):
        return None
    path, mean = best_path(log_probabilities, labels)
    if mean < WORST:
        return None
    times, first = [], 0
    for word in text.split():
        count = len(letters(word))
        frames = np.flatnonzero((path >= 2 * first + 1) & (path <= 2 * (first + count) - 1) & (path % 2 == 1))
        if not len(frames):
            return None
        start, end = float(frames[0]) * FRAME_S - FRAME_S, float(frames[-1]) * FRAME_S + 0.04
        times.append((round(start, 2), round(end, 2)))
        first += count + 1
    return times


@torch.no_grad()
def aligned(store: Store, model: Whisper, utterances: list[Utterance]) -> int:
    """Sets `words` of these; answers how many have them."""
    mel_of, found = Mel(), 0
    ordered = sorted(utterances, key=lambda u: u.length)
    for first in range(0, len(ordered), TOGETHER):
        together = ordered[first : first + TOGETHER]
        padded = [np.append(store.samples(u), np.zeros(SAMPLE_RATE // 10, np.float32)) for u in together]
        mels = [mel_of(samples[: len(samples) // 320 * 320]) for samples in padded]
        longest = max(m.shape[1] for m in mels)
        windows = torch.stack([torch.nn.functional.pad(m, (0, longest - m.shape[1])) for m in mels])
        with torch.autocast("cpu", torch.bfloat16):
            heard = model.ctc(model.encoder(windows))
        told = heard.float().log_softmax(dim=-1).numpy()
        for utterance, row, mel in zip(together, told, mels, strict=True):
            utterance.words = word_times(row[: mel.shape[1] // 2], utterance.text)
            found += utterance.words is not None
    return found


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option("--name", default="train", show_default=True, help="Stores whose files begin with this.")
@click.option("--part", type=(int, int), default=(0, 1), help="This one of so many parts of the files.")
def main(checkpoint: Path, folder: Path, name: str, part: tuple[int, int]) -> None:
    torch.set_num_threads(1)
    model = Checkpoint.load(checkpoint).model().eval()
    for lines in sorted(folder.glob(f"{name}*.jsonl"))[part[0] :: part[1]]:
        store = Store(folder, lines.stem)
        mine = [u for u in store.utterances if u.file == lines.name]
        if any(u.words for u in mine):
            continue
        found = aligned(store, model, mine)
        scratch = lines.with_suffix(".part")
        scratch.write_bytes(b"".join(msgspec.json.encode(u) + b"\n" for u in mine))
        scratch.rename(lines)
        print(f"{lines.stem}: {found} of {len(mine)}", flush=True)


if __name__ == "__main__":
    main()
