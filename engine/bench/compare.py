"""Whole model against whole model: captiond and its peers on the same weights and audio, in turn.

Windows of 30 s in, tokens out: mel, encoder and greedy decoder, each contender's own. Each has a process of
its own and they take turns, so that a machine that grows slower does so for all. Cases are demo-en, tiny,
base and small (seeded random weights at OpenAI's sizes) or any model that ``captiond serve`` knows. Prints
tables (standard error) and one JSON line (standard output).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from captiond_engine.errors import CaptiondError

from engine.bench.apart import Apart, EndedError, Round, prepared
from engine.bench.cases import NEW_TOKENS, Case
from engine.bench.compare_report import charts_of, sheets_of
from engine.bench.contenders import Entry, entries
from engine.bench.figures import Figures, batch_figures
from engine.bench.publish import Files, counts, file_options, load_average, names, publish

REST_S = 0.35  # MAX's threads spin for a while after each call; nobody is measured meanwhile
# faster-whisper's generate() keeps half of its limit, which is at most the text context, for the prompt.
MOST_TOKENS = 200


def chosen(threads: int, only: Sequence[str]) -> list[Entry]:
    """Those in whose name one of ``only`` is found, or all. Raises click.BadParameter."""
    everybody = entries(threads)
    unknown = [part for part in only if not any(part in entry.name for entry in everybody)]
    if unknown:
        known = "; ".join(entry.name for entry in everybody)
        raise click.BadParameter(f"nobody is called {', '.join(unknown)}. There are: {known}")
    return [entry for entry in everybody if not only or any(part in entry.name for part in only)]


def measure(contenders: Sequence[Apart], rows: int, rounds: int) -> tuple[dict[Entry, list[Round]], Figures]:
    """All in turn, ``rounds`` times after one that is not counted; who goes first changes every round.

    The second value tells whose process ended, and why. Its times are not kept.
    """
    found: dict[Entry, list[Round]] = {contender.entry: [] for contender in contenders}
    ended: Figures = {}
    for number in range(rounds + 1):
        first = number % max(len(contenders), 1)
        for contender in [*contenders[first:], *contenders[:first]]:
            if contender.name in ended:
                continue
            time.sleep(REST_S)
            try:
                done = contender.round(rows)
            except EndedError as error:
                ended[contender.name] = f"failed: {error}"
                found.pop(contender.entry)
                continue
            if number:
                found[contender.entry].append(done)
    return found, ended


def run_case(
    case: Case, taking_part: Sequence[Entry], folder: Path, batches: Sequence[int], rounds: int
) -> Figures:
    """All figures of one case; ``batches`` from the smallest on, so that peaks of memory are theirs."""
    figures: Figures = {"batches": {}, "details": {}, "load_s": {}, "skipped": {}}
    with ExitStack() as processes:
        here = []
        for entry in taking_part:
            contender = processes.enter_context(Apart(entry, case, folder))
            if contender.ready.missing:
                figures["skipped"][entry.name] = contender.ready.missing
                continue
            here.append(contender)
            figures["load_s"][entry.name] = round(contender.ready.load_s, 2)
            if contender.ready.detail:
                figures["details"][entry.name] = contender.ready.detail
        for rows in batches:
            found, ended = measure(here, rows, rounds)
            figures["skipped"] |= ended
            here = [contender for contender in here if contender.name not in ended]
            figures["batches"][str(rows)] = batch_figures(found, rows)
    return figures


@click.command(help=__doc__)
@click.option("--cases", default="demo-en,tiny,base", show_default=True, help="Names, with commas.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--batch", default="1", show_default=True, help="Windows at once, with commas: 1,2,4,8.")
@click.option("--tokens", type=click.IntRange(1, MOST_TOKENS), default=NEW_TOKENS, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option("--only", default="", help="Contenders whose name holds one of these, with commas.")
@file_options
def command(
    cases: str, rounds: int, batch: str, tokens: int, threads: int, only: str, **files: Path | None
) -> None:
    batches, taking_part = counts(batch), chosen(threads, names(only))
    load_before = load_average()
    figures: Figures = {"rounds": rounds, "new_tokens": tokens, "window_s": 30, "cases": {}}
    for name in names(cases):
        with tempfile.TemporaryDirectory() as folder:
            try:
                case = prepared(name, tokens, taking_part, Path(folder))
            except (CaptiondError, EndedError) as error:
                raise click.ClickException(str(error)) from error
            figures["cases"][name] = run_case(case, taking_part, Path(folder), batches, rounds)
    publish("engine", figures, sheets_of(figures), charts_of(figures), Files(**files), load_before)


if __name__ == "__main__":
    command()
