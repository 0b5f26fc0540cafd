"""How well voice is found: each detector over the same clips, without a model and as fast as it goes.

Takes measuring sets (folders with a manifest.jsonl). Gives, by detector and set: speech that was missed,
other sound taken for speech, how late speech was noticed and its end told, and segments ended too early; as a
table (standard error) and one JSON line (standard output). The segmenter is the live one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from captiond_engine.errors import CaptiondError
from captiond_engine.types import SAMPLE_RATE_HZ, EndReason, Float32Array, samples_from_ms
from captiond_engine.vad.detector import DETECTORS, VoiceDetector, open_detector
from captiond_engine.vad.segmenter import Began, Segmenter, SegmenterSettings
from rich.console import Console
from rich.table import Table

from daemon.bench.clips import Clip, ClipError, find_manifests, read_audio, read_manifest
from daemon.bench.metrics import Summary, summarise
from daemon.bench.report import Figures, provenance

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_SETS = ("clean", "mix", "session", "noise", "silence")
GRID = samples_from_ms(10)
console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)


class Found(NamedTuple):
    """One segment. Seconds; ``noticed`` and ``told``: when its begin and its end were known."""

    onset: float
    speech_end: float
    noticed: float
    told: float
    silence: bool


@dataclass(slots=True)
class Tally:
    """Seconds of speech and other sound, and what of it was taken for the other; and the delays."""

    clips: int = 0
    speech_s: float = 0.0
    missed_s: float = 0.0
    other_s: float = 0.0
    false_s: float = 0.0
    segments: int = 0
    early: int = 0
    took_s: float = 0.0
    onsets: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def add(self, clip: Clip, found: Sequence[Found]) -> None:
        """What was found in one clip, held against its utterances on a grid of 10 ms."""
        steps = round(clip.seconds * SAMPLE_RATE_HZ / GRID)
        spoken = on_grid([(u.start, u.end) for u in clip.utterances], steps)
        heard = on_grid([(f.onset, f.speech_end) for f in found], steps)
        step_s = GRID / SAMPLE_RATE_HZ
        self.clips += 1
        self.speech_s += float(spoken.sum()) * step_s
        self.missed_s += float((spoken & ~heard).sum()) * step_s
        self.other_s += float((~spoken).sum()) * step_s
        self.false_s += float((heard & ~spoken).sum()) * step_s
        self.segments += len(found)
        for utterance in clip.utterances:
            over = [f for f in found if f.onset < utterance.end and f.speech_end > utterance.start]
            if over and over[0].noticed >= utterance.start:
                self.onsets.append(over[0].noticed - utterance.start)
            if over and over[-1].silence and over[-1].told >= utterance.end:
                self.ends.append(over[-1].told - utterance.end)
            self.early += sum(f.silence and f.told < utterance.end for f in over)

    def figures(self) -> Figures:
        return {
            "clips": self.clips,
            "speech_s": round(self.speech_s, 1),
            "other_s": round(self.other_s, 1),
            "miss": _share(self.missed_s, self.speech_s),
            "false_alarm": _share(self.false_s, self.other_s),
            "segments": self.segments,
            "ended_early": self.early,
            "onset_ms": _of(summarise(self.onsets)),
            "end_ms": _of(summarise(self.ends)),
            "rtf": round(self.took_s / max(1e-9, self.speech_s + self.other_s), 5),
        }


def on_grid(
    spans: Sequence[tuple[float, float]], steps: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which steps of 10 ms lie within ``spans`` of seconds."""
    grid = np.zeros(steps, np.bool_)
    for start, end in spans:
        grid[round(start * SAMPLE_RATE_HZ / GRID) : round(end * SAMPLE_RATE_HZ / GRID)] = True
    return grid


def segments_of(pcm: Float32Array, detector: VoiceDetector, settings: SegmenterSettings) -> list[Found]:
    """What the live segmenter makes of a clip. The end of the clip ends what is open."""
    segmenter, found = Segmenter(settings), list[Found]()
    began, noticed = Began(0, 0), 0.0
    for start in range(0, len(pcm) - detector.window + 1, detector.window):
        end = start + detector.window
        window = pcm[start:end]
        energy = float(np.dot(window, window)) / len(window)
        boundaries = segmenter.update(detector.probability(window), energy, start, end)
        if end + detector.window > len(pcm):
            boundaries += segmenter.interrupt(len(pcm), EndReason.END)
        for boundary in boundaries:
            now = end / SAMPLE_RATE_HZ
            if isinstance(boundary, Began):
                began, noticed = boundary, now
            else:
                times = began.onset / SAMPLE_RATE_HZ, boundary.speech_end / SAMPLE_RATE_HZ
                found.append(Found(*times, noticed, now, boundary.reason is EndReason.SILENCE))
    return found


def measure(names: Sequence[str], clips: Sequence[Clip], settings: SegmenterSettings) -> Figures:
    """By detector and group."""
    tallies: dict[str, dict[str, Tally]] = {}
    for clip in clips:
        tail = np.zeros(settings.silence + GRID * 100, np.float32)
        pcm = np.concatenate((read_audio(clip.path), tail))
        group = f"{clip.group} (no speech)" if not clip.is_speech else clip.group
        for name in names:
            tally = tallies.setdefault(name, {}).setdefault(group, Tally())
            detector = open_detector(name, 2)
            began = time.perf_counter()
            found = segments_of(pcm, detector, settings)
            tally.took_s += time.perf_counter() - began
            tally.add(clip, found)
    return {
        name: {group: tally.figures() for group, tally in groups.items()} for name, groups in tallies.items()
    }


def table_of(figures: Figures) -> Table:
    columns = ("detector", "set", "clips", "miss %", "false %", "segments", "early")
    table = Table(
        *columns, "onset p50/p90", "end p50/p90", "RTF", title="voice detection", title_justify="left"
    )
    for name, groups in figures.items():
        for group, row in groups.items():
            table.add_row(
                name,
                group,
                str(row["clips"]),
                _percent(row["miss"]),
                _percent(row["false_alarm"]),
                str(row["segments"]),
                str(row["ended_early"]),
                *(f"{_ms(row[key]['p50'])}/{_ms(row[key]['p90'])}" for key in ("onset_ms", "end_ms")),
                f"{row['rtf']:.4f}",
            )
    return table


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _of(summary: Summary) -> Figures:
    return {"n": summary.n, "p50": summary.p50, "p90": summary.p90, "p99": summary.p99}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--detector", "names", multiple=True, type=click.Choice(list(DETECTORS)), help="By default all."
)
@click.option("--silence-ms", default=500, show_default=True, help="Quiet that ends a segment.")
def main(paths: tuple[Path, ...], names: tuple[str, ...], silence_ms: int) -> None:
    shared = ROOT.parent / "shared" / "data" / "open"
    clips: list[Clip] = []
    try:
        for path in paths or [shared / name for name in DEFAULT_SETS]:
            manifests = find_manifests(path)
            if not manifests:
                console.print(f"skipped: no manifest.jsonl in {path}")
            clips += [clip for manifest in manifests for clip in read_manifest(manifest)]
        if not clips:
            raise click.UsageError("nothing to measure: name a folder that has a manifest.jsonl")
        settings = SegmenterSettings(silence=samples_from_ms(silence_ms))
        figures = measure(names or list(DETECTORS), clips, settings)
    except (ClipError, CaptiondError, OSError) as problem:
        raise click.ClickException(str(problem)) from problem
    console.print(table_of(figures))
    click.echo(json.dumps({"bench": "vad", **provenance(ROOT), "silence_ms": silence_ms, "figures": figures}))


if __name__ == "__main__":
    main()
