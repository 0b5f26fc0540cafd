"""Live captions measured from outside, through a real daemon at real-time pace.

Takes measuring sets (folders with a manifest.jsonl) and a model; prints a table (standard error) and one JSON
line (standard output). Starts a daemon of its own, or speaks to the one at --url. The offline half decodes
the same clips with the same weights afterwards, in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click
from captiond_engine.engine import Engine, import_max
from captiond_engine.errors import CaptiondError
from rich.console import Console
from websockets.exceptions import WebSocketException

from daemon.bench import page
from daemon.bench.clips import Clip, ClipError, find_manifests, read_manifest
from daemon.bench.comparing import print_comparison
from daemon.bench.daemon_process import DaemonError, running_daemon
from daemon.bench.feeding import FeedingError, Pace, Recording, feed_all
from daemon.bench.offline import offline_texts
from daemon.bench.report import Figures, group_figures, provenance
from daemon.bench.table import print_figures

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_SETS = (
    "models/demo-en/test/single",
    "models/demo-en/test/session",
    "data/open/noise",
    "data/open/silence",
)
SHARED = ROOT.parent / "shared"

EXPECTED = (ClipError, FeedingError, DaemonError, CaptiondError, WebSocketException, OSError)

console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)


def choose_clips(paths: Sequence[Path], limit: int | None) -> list[Clip]:
    """The clips of all manifests under ``paths``; what is not there is said and left out."""
    clips: list[Clip] = []
    for path in paths:
        manifests = find_manifests(path)
        if not manifests:
            console.print(f"skipped: no manifest.jsonl in {path}")
        for manifest in manifests:
            clips += read_manifest(manifest)[:limit]
    return clips


@contextlib.asynccontextmanager
async def _daemon(url: str | None, model: str, settings: Sequence[str]) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    async with running_daemon(model, settings) as own:
        yield own


async def stream_clips(
    url: str | None, model: str, settings: Sequence[str], clips: Sequence[Clip], pace: Pace
) -> list[Recording]:
    """The streaming half. Recordings in the order of ``clips``."""
    started, done = time.monotonic(), 0

    def told(recording: Recording) -> None:
        nonlocal done
        done += 1
        console.print(f"  [{time.monotonic() - started:4.0f} s] {done}/{len(clips)} {recording.clip.id}")

    async with _daemon(url, model, settings) as address:
        started = time.monotonic()
        recordings = await feed_all(address, clips, pace, told)
    order = {clip.path: number for number, clip in enumerate(clips)}
    return sorted(recordings, key=lambda recording: order[recording.clip.path])


def decode_offline(model: str, clips: Sequence[Clip]) -> tuple[dict[Path, str], Figures]:
    """The offline half: texts by path, and what the engine says of its device."""
    engine = Engine.load(model, progress=lambda event: console.print(f"  {event.message}"))
    try:
        once = {clip.path: clip for clip in clips if clip.is_speech}
        return offline_texts(engine, list(once.values())), dict(engine.info)
    finally:
        engine.close()


async def measure(
    clips: Sequence[Clip], *, url: str | None, model: str, settings: Sequence[str], pace: Pace, offline: bool
) -> tuple[Figures, list[Recording]]:
    """Both halves, one after the other: the figures of both, and what clients saw."""
    recordings = await stream_clips(url, model, settings, clips, pace)
    texts: dict[Path, str] = {}
    device: Figures = {}
    if offline:
        console.print("decoding the same clips offline")
        import_max()
        texts, device = await asyncio.to_thread(decode_offline, model, clips)
    figures = {
        "bench": "live",
        **provenance(ROOT),
        "model": recordings[0].model,
        "device": device,
        "pace": {"frame_ms": pace.frame_ms, "tail_s": pace.tail_s, "parallel": pace.parallel},
        "settings": list(settings),
        "figures": group_figures(recordings, texts),
    }
    return figures, recordings


def compare_files(one: Path, other: Path) -> None:
    """Print the newest runs in two files side by side."""
    try:
        runs = [page.last_line(path.read_text(encoding="utf-8")) for path in (one, other)]
    except (OSError, ValueError) as problem:
        raise click.ClickException(f"{one} and {other} cannot be compared: {problem}") from problem
    print_comparison(console, runs[0], runs[1], (one.stem, other.stem))


def leaves(problem: Exception) -> list[Exception]:
    """The exceptions of a group and of the groups within."""
    if not isinstance(problem, ExceptionGroup):
        return [problem]
    return [leaf for inner in problem.exceptions for leaf in leaves(inner)]


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", default="demo-en", show_default=True, help="Name or path, as for captiond serve.")
@click.option("--url", help="A daemon that is running already, with the same model.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Setting of the daemon to start.")
@click.option("--parallel", default=1, show_default=True, help="Streams at once: saves time, adds load.")
@click.option("--copies", default=1, show_default=True, help="Each clip so many times, on as many streams.")
@click.option("--frame-ms", default=20, show_default=True, help="Audio in one message.")
@click.option("--tail-s", default=1.5, show_default=True, help="Silence after each clip.")
@click.option("--limit", type=int, help="Only the first clips of each set.")
@click.option("--offline/--no-offline", default=True, help="Decode the clips whole, too.")
@click.option("--output", type=click.Path(path_type=Path), help="Add the JSON line to this file.")
@click.option("--html", type=click.Path(path_type=Path), help="Draw the figures and one session as a page.")
@click.option("--session", help="Which session the page shows; by default the longest.")
@click.option("--compare", nargs=2, type=click.Path(path_type=Path), help="Measure nothing: two outputs.")
def main(
    paths: tuple[Path, ...],
    model: str,
    url: str | None,
    settings: tuple[str, ...],
    parallel: int,
    copies: int,
    frame_ms: int,
    tail_s: float,
    limit: int | None,
    offline: bool,
    output: Path | None,
    html: Path | None,
    session: str | None,
    compare: tuple[Path, Path] | None,
) -> None:
    if compare is not None:
        compare_files(*compare)
        return
    pace = Pace(frame_ms=frame_ms, tail_s=tail_s, parallel=parallel)
    try:
        clips = copies * choose_clips(paths or [SHARED / name for name in DEFAULT_SETS], limit)
        if not clips:
            raise click.UsageError("nothing to measure: name a folder that has a manifest.jsonl")
        figures, recordings = asyncio.run(
            measure(clips, url=url, model=model, settings=settings, pace=pace, offline=offline)
        )
    except EXPECTED as problem:
        raise click.ClickException(str(problem)) from problem
    except ExceptionGroup as problems:
        expected, other = problems.split(EXPECTED)
        if expected is None or other is not None:
            raise
        raise click.ClickException("; ".join(dict.fromkeys(map(str, leaves(expected))))) from problems
    print_figures(console, figures["figures"])
    line = json.dumps(figures, ensure_ascii=False)
    click.echo(line)
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if html is not None:
        html.write_text(page.html(figures, recordings, session), encoding="utf-8")
        console.print(f"drawn: {html}")


if __name__ == "__main__":
    main()
