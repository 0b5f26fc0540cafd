"""Sessions to measure live captions by: sentences and voices kept for tests, with pauses between them.

    python -m engine.training.sessions --out training-data/sessions
    captiond bench rehearsal training-data/sessions --model demo-en --vary segment.silence_ms=500,1000

What is chosen for demo-en (windows, policy, endpoints) is chosen by these, and reported by others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from engine.training.evaluate import pink
from engine.training.humans import KEPT_SPEAKER
from engine.training.mixing import silence
from engine.training.store import LEVEL_RMS, SAMPLE_RATE, Store

LONGEST_S = 120.0
ROOM_DB, NOISE_DB = -45.0, -10.0


@dataclass(frozen=True)
class Part:
    samples: np.ndarray
    text: str
    voice: str
    margin_s: float  # what store.trimmed left around it


def sentences(folder: Path, r: random.Random) -> Iterator[Part]:
    store = Store(folder, "kept")
    utterances = store.utterances[:]
    r.shuffle(utterances)
    return (Part(store.samples(u), u.text, u.voice, 0.04) for u in utterances)


def digits(folder: Path, r: random.Random) -> Iterator[Part]:
    store = Store(folder, "human_digits")
    known = [u for u in store.utterances if KEPT_SPEAKER in u.voice]
    while True:
        said = [r.choice(known) for _ in range(r.choice([1, 3, 4, 5, 6]))]
        parts = [part for u in said for part in (store.samples(u), silence(r.uniform(0.02, 0.15)))]
        text = " ".join(u.text for u in said)
        yield Part(np.concatenate(parts[:-1]), text[0].upper() + text[1:] + ".", known[0].voice, 0.01)


def session(
    name: str, parts: Iterator[Part], noise_db: float, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Sound of up to `LONGEST_S`, and its line of the manifest; noise is `noise_db` below the speech."""
    r, g = random.Random(seed), np.random.default_rng(seed)
    sound, segments, at = [silence(1.0)], [], 1.0
    for part in parts:
        seconds = len(part.samples) / SAMPLE_RATE
        pause = r.choice([r.uniform(0.3, 1.0), r.uniform(1.0, 3.0)])
        if at + seconds + pause > LONGEST_S:
            break
        segments.append(
            {
                "start": round(at, 3),
                "end": round(at + seconds, 3),
                "speech_start": round(at + part.margin_s, 3),
                "speech_end": round(at + seconds - part.margin_s, 3),
                "text": part.text,
                "speaker": part.voice,
                "pause_after": round(pause, 3),
            }
        )
        sound += [part.samples, silence(pause)]
        at = sum(map(len, sound)) / SAMPLE_RATE
    samples = np.concatenate([*sound, silence(1.0)])
    samples = samples + pink(g, len(samples)) * (LEVEL_RMS * 10 ** (noise_db / 20))
    row = {
        "id": name,
        "path": f"{name}.flac",
        "seconds": round(len(samples) / SAMPLE_RATE, 3),
        "text": " ".join(str(s["text"]) for s in segments),
        "segments": segments,
        "speaker": None,
        "source": "engine/training/sessions.py",
        "licence": "as the voices",
    }
    return samples.astype(np.float32), row


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--seed", default=21, show_default=True)
def main(folder: Path, out: Path, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    r, rows = random.Random(seed), []
    said = sentences(folder, r)
    spoken = [
        ("clean-1", said, ROOM_DB),
        ("clean-2", said, ROOM_DB),
        ("noise-10-db", said, NOISE_DB),
        ("digits", digits(folder, r), ROOM_DB),
    ]
    for i, (name, parts, noise_db) in enumerate(spoken):
        samples, row = session(name, parts, noise_db, seed + i)
        soundfile.write(out / row["path"], samples, SAMPLE_RATE, subtype="PCM_16")
        rows.append(row)
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
