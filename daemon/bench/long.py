"""How fast ``captiond transcribe`` is and how much memory it takes, by batch size and by length.

Takes audio files, batch sizes and a model. Each run is a process of its own, all of them in turn, so that a
busy moment hits no size alone. Prints a table (standard error) and one JSON line: medians of the real-time
factor (compute ÷ audio, without loading the model) and the peak of resident memory.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
from captiond import config_file
from captiond.audio import open_audio
from captiond.loading import load_engine
from captiond.transcribe.run import Position, transcribe
from captiond_engine.progress import silent

from daemon.bench.report import provenance

Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="demo-en", show_default=True)
@click.option("--batches", default="1,2,4,8", show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE")
@click.option("--once", is_flag=True, hidden=True, help="Be one run, of the first file.")
def main(
    files: tuple[Path, ...], model: str, batches: str, repeats: int, settings: tuple[str, ...], once: bool
) -> None:
    """Time transcriptions of FILES."""
    if once:
        print(json.dumps(asyncio.run(one(files[0], model, settings))))
        return
    sizes = [int(size) for size in batches.split(",")]
    runs: dict[tuple[Path, int], list[Figures]] = {(file, size): [] for file in files for size in sizes}
    for _ in range(repeats):
        for (file, size), done in runs.items():
            done.append(_in_a_process(file, model, (*settings, f"transcribe.batch={size}")))
    rows = [_row(file, size, done) for (file, size), done in runs.items()]
    print(
        f"{'file':24} {'audio s':>8} {'batch':>5} {'RTF':>8} {'x real time':>12} {'MB':>6}", file=sys.stderr
    )
    for row in rows:
        print(
            f"{row['file'][:24]:24} {row['audio_s']:8.0f} {row['batch']:5} {row['rtf']:8.4f} "
            f"{1 / row['rtf']:12.1f} {row['peak_mb']:6.0f}",
            file=sys.stderr,
        )
    print(
        json.dumps({"bench": "long", "model": model, "settings": settings, **provenance(ROOT), "rows": rows})
    )


async def one(path: Path, model: str, settings: tuple[str, ...]) -> Figures:
    """One transcription in this process."""
    config = config_file.load(None, (*settings, f"model.name={config_file.toml_value(model)}"))
    engine = load_engine(config, silent)
    heard_ms = 0

    def move(position: Position) -> None:
        nonlocal heard_ms
        heard_ms = position.heard_ms

    began, used = time.perf_counter(), time.process_time()
    async with open_audio(path) as audio:
        await transcribe("bench", audio.blocks, config, engine, lambda event: None, on_position=move)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    engine.close()
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"audio_s": heard_ms / 1000, "took_s": took_s, "cpu_s": cpu_s, "peak_mb": peak_kb / 1024}


def _in_a_process(path: Path, model: str, settings: tuple[str, ...]) -> Figures:
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "daemon.bench.long", str(path), "--model", model, "--once", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def _row(file: Path, batch: int, runs: list[Figures]) -> Figures:
    return {
        "file": file.name,
        "audio_s": runs[0]["audio_s"],
        "batch": batch,
        "rtf": median(run["took_s"] / run["audio_s"] for run in runs),
        "cpu": median(run["cpu_s"] / run["audio_s"] for run in runs),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "runs": len(runs),
    }


if __name__ == "__main__":
    main()
