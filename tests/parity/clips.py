"""Real audio for the parity checks: clips kept in the project, and the larger sets where they lie."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import soundfile
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

KEPT = Path(__file__).parent.parent / "data" / "audio"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "open"


@dataclass(frozen=True, slots=True)
class Clip:
    """float32 PCM at 16 kHz with its reference text (empty: no speech)."""

    id: str
    set: str
    pcm: Float32Array
    text: str


def read_set(folder: Path, *, longest_s: float = 30.0) -> list[Clip]:
    """Clips of one manifest, those up to ``longest_s`` (one window), in the manifest's order."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    found = []
    for row in rows:
        if row["seconds"] <= longest_s:
            pcm, rate_hz = soundfile.read(folder / row["path"], dtype="float32")
            if rate_hz != SAMPLE_RATE_HZ:
                raise ValueError(f"{row['path']} has {rate_hz} Hz")
            found.append(Clip(row["id"], folder.name, pcm, row["text"]))
    return found


def bundled() -> list[Clip]:
    """The clips kept in the project."""
    return read_set(KEPT)


def shared() -> list[Clip]:
    """The clips of the larger sets, or none where they are not beside the project.

    All of them, or of each set each so many'th: CAPTIOND_PARITY_EVERY, for who has little time.
    """
    if not SHARED.is_dir():
        return []
    every = int(os.environ.get("CAPTIOND_PARITY_EVERY", "1"))
    folders = [folder for folder in sorted(SHARED.iterdir()) if folder.is_dir()]
    return [clip for folder in folders for clip in read_set(folder)[::every]]
