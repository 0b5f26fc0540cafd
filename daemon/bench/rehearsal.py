"""Settings compared on sessions without waiting for them: the stream and the real model, in virtual time.

Takes measuring sets, a model, and settings to vary; gives a row of figures for each combination, as a table
(standard error) and a JSON line each (standard output). A pass takes as long as it did take, or --pass-ms;
network, scheduler and other streams are left out, so that a run of four minutes takes half a minute. What
looks good here is to be measured by ``captiond bench live``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from captiond import wire
from captiond.cli import load
from captiond.config import Config
from captiond.loading import load_engine, with_windows
from captiond.segments import stream_settings
from captiond_engine.engine import DeviceThread, Engine, import_max
from captiond_engine.errors import CaptiondError
from captiond_engine.progress import silent
from captiond_engine.stream import Stream
from captiond_engine.types import SAMPLE_RATE_HZ, AudioFrame, Decoding, Float32Array, Job, samples_from_ms
from rich.console import Console
from rich.table import Table

from daemon.bench.clips import Clip, ClipError, find_manifests, read_audio, read_manifest
from daemon.bench.feeding import Recording
from daemon.bench.offline import offline_texts
from daemon.bench.report import Figures, provenance, speech_figures
from daemon.bench.timeline import Event, Received

ROOT = Path(__file__).resolve().parents[2]
FRAME = samples_from_ms(20)
TAIL = samples_from_ms(1_500)
COLUMNS = ("first", "tentative", "committed", "final", "flicker %", "WER", "ΔWER", "early, torn")
console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    answer: Decoding
    asked_at: int
    done_at: int


class Passes:
    """Decodes jobs, blocking. What several settings ask for alike is decoded once, and took them as long."""

    def __init__(self, run: Callable[[Sequence[Job]], Sequence[Decoding]]) -> None:
        self._run = run
        self._known: dict[bytes, tuple[Decoding, float]] = {}

    def __call__(self, job: Job) -> tuple[Decoding, float]:
        """The answer, and how many milliseconds it took."""
        window = job.payload
        asked = (window.mel.shape, window.start, window.end, window.prompt, window.options, job.kind)
        key = hashlib.sha256(window.mel.tobytes() + repr(asked).encode()).digest()
        if key not in self._known:
            began = time.perf_counter()
            answer = self._run([job])[0]
            self._known[key] = answer, (time.perf_counter() - began) * 1000
        return self._known[key]


class Rehearsal:
    """One clip on one stream. ``passes`` decodes; ``pass_ms``: what a pass takes, None: as long as it did."""

    def __init__(
        self, stream: Stream, passes: Callable[[Job], tuple[Decoding, float]], pass_ms: int | None
    ) -> None:
        self._stream, self._passes, self._pass_ms = stream, passes, pass_ms
        self._running: _Running | None = None
        self.received: list[Received] = []

    def play(self, pcm: Float32Array) -> list[Received]:
        """The whole clip, frame by frame, and what a client would have received when."""
        for start in range(0, len(pcm), FRAME):
            now = min(start + FRAME, len(pcm))
            self._stream.push(AudioFrame("a", start, pcm[start:now]))
            self._tell(now)
            self._work(now)
        self._stream.close()
        now = len(pcm)
        while not self._stream.done and (self._running is not None or self._stream.has_work):
            self._work(now)
            now = self._running.done_at if self._running is not None else now
        self._tell(now)
        return self.received

    def _work(self, now: int) -> None:
        """Passes that are done by ``now``, and the next one."""
        while True:
            if self._running is None:
                job = self._stream.next_job()
                if job is None:
                    return
                answer, took_ms = self._passes(job)
                self._running = _Running(job, answer, now, now + samples_from_ms(self._pass_ms or took_ms))
            running = self._running
            if running.done_at > now:
                return
            self._running = None
            self._stream.complete(running.job, running.answer, took=running.done_at - running.asked_at)
            self._tell(running.done_at)

    def _tell(self, now: int) -> None:
        for event in self._stream.take_events():
            self.received.append(Received(now / SAMPLE_RATE_HZ, as_wire(event)))


def as_wire(event: Any) -> Event:
    """A stream's event as clients read it."""
    return json.loads(wire.encode(wire.from_engine(event)))  # type: ignore[no-any-return]


def rehearse(
    engine: Engine, config: Config, clips: Sequence[Clip], passes: Passes, pass_ms: int | None
) -> list[Recording]:
    """All clips, one after another, on streams of their own."""
    settings = stream_settings(config, engine.traits, config.model.language or None, "")
    recordings = []
    for clip in clips:
        pcm = np.concatenate((read_audio(clip.path), np.zeros(TAIL, np.float32)))
        rehearsal = Rehearsal(engine.open_stream(clip.id, settings), passes, pass_ms)
        received = rehearsal.play(pcm)
        recordings.append(Recording(clip, tuple(received), 0.0, engine.traits.name))
    return recordings


def combinations(varied: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """``a=1,2`` and ``b=3,4`` as a=1 b=3, a=1 b=4, a=2 b=3, a=2 b=4. Raises ValueError."""
    choices = []
    for text in varied:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise ValueError(f"{text!r} varies nothing; key=value,value was expected")
        choices.append([f"{key}={value}" for value in values.split(",")])
    return itertools.product(*choices)


def row_of(figures: Figures) -> list[str]:
    """One line of the table; milliseconds are p50/p90."""

    def both(key: str) -> str:
        row = figures["latency_ms"][key]
        return "/".join("–" if row[p] is None else f"{row[p]:.0f}" for p in ("p50", "p90"))

    wer, counts = figures["wer"]["all"], figures["segments"]
    return [
        *map(both, ("first_partial", "word_tentative", "word_committed", "finalization")),
        f"{100 * (figures['flicker']['upwr_tentative'] or 0):.1f}",
        *("–" if wer[key] is None else f"{wer[key]:.1f}" for key in ("streaming", "delta")),
        f"{counts['cut_early']}, {counts['sentences_torn']} of {counts['ended_by_silence']}",
    ]


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default="demo-en", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Setting that holds for all.")
@click.option("--vary", "varied", multiple=True, metavar="A.B=C,D", help="Setting, and its values.")
@click.option(
    "--pass-ms", type=click.IntRange(1, 60_000), help="What a pass takes; default: as long as it did."
)
@click.option("--offline/--no-offline", default=True, help="Decode the clips whole, too, for the delta.")
def main(
    paths: tuple[Path, ...],
    model: str,
    settings: tuple[str, ...],
    varied: tuple[str, ...],
    pass_ms: int | None,
    offline: bool,
) -> None:
    import_max()
    try:
        clips = [
            clip
            for path in paths
            for manifest in find_manifests(path)
            for clip in read_manifest(manifest)
            if clip.is_speech
        ]
        if not clips:
            raise click.UsageError("no speech to rehearse: name a folder that has a manifest.jsonl")
        configs = {wished: load(None, model, (*settings, *wished)) for wished in combinations(varied)}
        engine = load_engine(load(None, model, settings), silent)
        texts = offline_texts(engine, clips) if offline else {}
        table = Table("setting", *COLUMNS, title=f"{model}, {len(clips)} clips; ms are p50/p90")
        if not isinstance(engine.device, DeviceThread):
            raise TypeError("this engine's device has no blocking call")
        passes = Passes(engine.device.run_now)
        for wished, config in configs.items():
            windowed = with_windows(engine, config.model)
            figures = speech_figures(rehearse(windowed, config, clips, passes, pass_ms), texts)
            named = [setting.partition(".")[2] for setting in wished]
            table.add_row(" ".join(named) or "as configured", *row_of(figures))
            line = {"bench": "rehearsal", **provenance(ROOT), "model": model, "pass_ms": pass_ms}
            click.echo(json.dumps(line | {"settings": [*settings, *wished], "figures": figures}))
        engine.close()
    except (ClipError, CaptiondError, OSError, ValueError) as problem:
        raise click.ClickException(str(problem)) from problem
    console.print(table)


if __name__ == "__main__":
    main()
