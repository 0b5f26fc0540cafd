"""How late the event loop is while the device encodes and decodes without a pause.

A task that wants to run every 2 ms in the loop of a process whose device thread is never idle: how late it
runs. Each setting has a process of its own: where threads may run (any core; the loop on one of its own;
everything on one), and keys of the configuration (``--set``, one setting each). Prints a table (standard
error) and one JSON line (standard output).
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from captiond import config_file
from captiond.loading import load_engine
from captiond_engine.audio.mel import log_mel
from captiond_engine.engine import Engine
from captiond_engine.errors import CaptiondError
from captiond_engine.types import HOP_SAMPLES, SAMPLE_RATE_HZ, Job, PromptSpec, Window

from engine.bench.cases import windows
from engine.bench.figures import Figures
from engine.bench.plot import Bar, BarChart
from engine.bench.publish import Files, file_options, load_average, publish
from engine.bench.sheets import Sheet, number

TICK_S = 0.002
GOAL_MS = 20.0
AFFINITIES = {
    "any core": "",
    "loop on a core of its own": "the device's threads on the others",
    "one core": "for everything",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """``affinity`` as in AFFINITIES; ``settings``: keys for the configuration; ``busy``: the device works."""

    affinity: str
    settings: tuple[str, ...] = ()
    busy: bool = True

    @property
    def name(self) -> str:
        return ", ".join((self.affinity, *self.settings)) + ("" if self.busy else ", device idle")


def measured(setting: Setting, model: str, seconds: float) -> Figures:
    """In a process of its own: load, then tick for ``seconds``."""
    cores = sorted(os.sched_getaffinity(0))
    if setting.affinity == "one core":
        os.sched_setaffinity(0, cores[:1])
    elif setting.affinity != "any core" and len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])  # what MAX starts stays there
    words = (f"model.name={config_file.toml_value(model)}", *setting.settings)
    engine = load_engine(config_file.load(None, words), lambda event: None)
    if setting.affinity not in ("any core", "one core"):
        os.sched_setaffinity(0, cores[:1])  # this thread alone
    try:
        late, passes = asyncio.run(_ticking(engine, seconds, setting.busy))
    finally:
        engine.close()
    return figures_of(late, passes)


def figures_of(late: list[float], passes: int) -> Figures:
    """Milliseconds from seconds of lateness."""
    p50, p99 = (round(1000 * float(np.percentile(late, p)), 2) for p in (50, 99))
    worst = round(1000 * max(late), 2)
    return {"ticks": len(late), "p50_ms": p50, "p99_ms": p99, "worst_ms": worst, "passes": passes}


async def _ticking(engine: Engine, seconds: float, busy: bool) -> tuple[list[float], int]:
    """How late each tick was, in seconds, and how many passes the device made meanwhile."""
    loop, passes = asyncio.get_running_loop(), 0
    jobs = _jobs(engine)

    async def work() -> None:
        nonlocal passes
        for job in itertools.cycle(jobs):
            await engine.device.run([job])
            passes += 1

    late: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work(), name="device") if busy else None
        end, due = loop.time() + seconds, loop.time() + TICK_S
        while due < end:
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            late.append(now - due)
            due = max(due + TICK_S, now)  # those that were missed are one late tick, not many
        if working is not None:
            working.cancel()
    return late, passes


def _jobs(engine: Engine) -> list[Job]:
    """Windows of speech as a stream would ask for them, long ones and short ones."""
    traits, jobs = engine.traits, []
    for row, seconds in zip(windows(4), (30, 6, 30, 6), strict=True):
        length = traits.window_length(seconds * SAMPLE_RATE_HZ, traits.window_final)
        mel = log_mel(row[:length], traits.mels, length // HOP_SAMPLES)
        jobs.append(Job(0, 0, "final", length, Window(0, 0, length, mel, PromptSpec())))
    return jobs


def sheet_of(figures: Figures) -> Sheet:
    rows = tuple(
        (
            name,
            *(number(one[key], 2) for key in ("p50_ms", "p99_ms", "worst_ms")),
            "yes" if one["worst_ms"] <= GOAL_MS else "no",
            str(one["ticks"]),
            str(one["passes"]),
        )
        for name, one in figures["settings"].items()
    )
    headings = ("", "p50", "p99", "worst", f"within {GOAL_MS:.0f} ms", "ticks", "device's passes")
    return Sheet(f"{figures['model']}: how late the loop is, ms", headings, rows)


def chart_of(figures: Figures) -> BarChart:
    bars = tuple(
        Bar(name, (one["p99_ms"],), one["worst_ms"], one["p50_ms"], one["worst_ms"])
        for name, one in figures["settings"].items()
    )
    title = f"{figures['model']}: how late the loop is (bar: p99; line: p50 to worst)"
    return BarChart(title, "ms at worst", ("p99",), bars)


@click.command(help=__doc__)
@click.option("--model", default="demo-en", show_default=True, help="Name or path, as for captiond serve.")
@click.option("--seconds", default=10.0, show_default=True, help="For each setting.")
@click.option(
    "--set", "keys", multiple=True, metavar="TABLE.KEY=VALUE", help="One more setting, as often as needed."
)
@file_options
def command(model: str, seconds: float, keys: tuple[str, ...], **files: Path | None) -> None:
    load_before = load_average()
    settings = [Setting("any core", busy=False), *map(Setting, AFFINITIES)]
    settings += [Setting("any core", (key,)) for key in keys]
    figures: Figures = {"model": model, "seconds": seconds, "tick_ms": 1000 * TICK_S, "settings": {}}
    for setting in settings:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                found = process.submit(measured, setting, model, seconds).result()
            except CaptiondError as error:
                raise click.ClickException(str(error)) from error
        figures["settings"][setting.name] = found | asdict(setting)
    publish("loop", figures, [sheet_of(figures)], [chart_of(figures)], Files(**files), load_before)


if __name__ == "__main__":
    command()
