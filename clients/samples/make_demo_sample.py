"""Builds the bundled sample: clips with texts in, demo.flac and demo.json out.

Takes a folder with ``manifest.jsonl`` and its clips (rows: id, path, text, condition, speaker, source,
licence). Gives one 16 kHz mono recording and a table of what was said when. Knows no model: which clips are
taken is fixed by RULE, never by how well anything understands them.

    python clients/samples/make_demo_sample.py CLIPS_FOLDER clients/captiond_clients/samples
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypedDict

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 16_000
GRID = RATE_HZ // 100  # speech bounds are found on a 10 ms grid
SPEECH_BELOW_PEAK_DB = 35.0  # a grid step is speech when its energy is within this of the loudest step
LEAD_IN = RATE_HZ // 2
TAIL = RATE_HZ
PAUSES_S = (0.6, 1.5, 0.9, 1.2, 0.75, 1.35)  # wanted from speech to speech, in turn
TAKE = {"seen_voice": 5, "unseen_voice": 5, "human_digits_unseen_speaker": 1}
RULE = (
    "The first 5, 5 and 1 ids in sorted order of the conditions seen_voice, unseen_voice and "
    "human_digits_unseen_speaker, taken in turn; not chosen by any model's result."
)
LICENCE = "CC BY-SA 4.0 as a whole (one clip is of the Free Spoken Digit Dataset); the other clips are CC0."


class Row(TypedDict):
    id: str
    path: str
    text: str
    condition: str
    speaker: str
    source: str
    licence: str


def chosen(rows: list[Row]) -> list[Row]:
    """The rows that RULE names, in the order in which they are spoken."""
    queues = [
        sorted((row for row in rows if row["condition"] == condition), key=lambda row: row["id"])[:count]
        for condition, count in TAKE.items()
    ]
    return [queue[turn] for turn in range(max(TAKE.values())) for queue in queues if turn < len(queue)]


def speech_bounds(pcm: NDArray[np.float32]) -> tuple[int, int]:
    """First and last sample of speech in ``pcm`` (float32 [samples]), by energy on the 10 ms grid."""
    steps = pcm[: len(pcm) // GRID * GRID].reshape(-1, GRID).astype(np.float64)
    energy_db = 10 * np.log10(np.mean(steps**2, axis=1) + 1e-12)
    loud = np.flatnonzero(energy_db > energy_db.max() - SPEECH_BELOW_PEAK_DB)
    return int(loud[0]) * GRID, (int(loud[-1]) + 1) * GRID


def read_clip(path: Path) -> NDArray[np.float32]:
    pcm, rate = soundfile.read(path, dtype="float32")
    if rate != RATE_HZ or pcm.ndim != 1:
        raise SystemExit(f"{path.name}: expected 16 kHz mono, found {rate} Hz, {pcm.ndim} dimensions")
    return np.asarray(pcm, dtype=np.float32)


def build(folder: Path, target: Path) -> None:
    rows: list[Row] = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    pieces = [np.zeros(LEAD_IN, np.float32)]
    position, last_speech_end = LEAD_IN, None
    segments: list[dict[str, object]] = []
    for turn, row in enumerate(chosen(rows)):
        pcm = read_clip(folder / row["path"])
        first, last = speech_bounds(pcm)
        if last_speech_end is not None:
            wanted = last_speech_end + round(PAUSES_S[(turn - 1) % len(PAUSES_S)] * RATE_HZ)
            silence = max(0, wanted - (position + first))
            pieces.append(np.zeros(silence, np.float32))
            position += silence
        segments.append(
            {
                "start": position / RATE_HZ,
                "end": (position + len(pcm)) / RATE_HZ,
                "speech_start": (position + first) / RATE_HZ,
                "speech_end": (position + last) / RATE_HZ,
                "text": row["text"],
                "clip": row["id"],
                "condition": row["condition"],
                "speaker": row["speaker"],
                "source": row["source"],
                "licence": row["licence"],
            }
        )
        pieces.append(pcm)
        last_speech_end, position = position + last, position + len(pcm)
    pieces.append(np.zeros(TAIL, np.float32))
    recording = np.concatenate(pieces)
    soundfile.write(target / "demo.flac", recording, RATE_HZ, subtype="PCM_16")
    card = {
        "audio": "demo.flac",
        "seconds": len(recording) / RATE_HZ,
        "rule": RULE,
        "licence": LICENCE,
        "speech_bounds": f"energy on a 10 ms grid, within {SPEECH_BELOW_PEAK_DB:g} dB of the loudest step",
        "segments": segments,
    }
    (target / "demo.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    build(Path(sys.argv[1]), Path(sys.argv[2]))
