"""What a token costs over the length of the text: with the K/V cache, and without it.

With: one greedy decode of N tokens. Without: the text so far is the prompt, every token anew. The first grows
by the same time a token, so that N tokens take a straight line; without a cache a token costs the more, the
more was said. Both must say the same tokens. Prints a table (standard error) and one JSON line (standard
output).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from captiond_engine.decoding.rules import Suppression
from captiond_engine.errors import CaptiondError
from captiond_engine.whisper.model import Prompt, WhisperModel

from engine.bench.apart import EndedError, prepared
from engine.bench.cases import NEW_TOKENS, Case, windows
from engine.bench.contenders import PRECISIONS, Captiond, Entry
from engine.bench.figures import Figures, line_through
from engine.bench.plot import Chart, LineChart
from engine.bench.publish import Files, counts, file_options, load_average, names, publish
from engine.bench.sheets import Sheet, number

LENGTHS = "8,25,50,100,150,200,250,300,350,400"


@dataclass(frozen=True, slots=True)
class Decoder:
    """One encoded window and what may be said of it."""

    model: WhisperModel
    case: Case
    encoding: object
    rules: Suppression

    @classmethod
    def of(cls, contender: Captiond, case: Case) -> Decoder:
        encoding = contender.encode(contender.features(windows(1)))
        return cls(contender.model, case, encoding, Suppression.of(case.config.n_vocab, always=case.blocked))

    def tokens(self, before: Sequence[int], count: int) -> list[int]:
        """``count`` tokens that follow the prompt and ``before``."""
        answer = self.model.greedy(
            self.encoding,  # type: ignore[arg-type]  # what encode gave
            [Prompt((*self.case.prompt, *before))],
            max_new_tokens=count,
            suppression=self.rules,
        )
        return answer.tokens[0]


def measure(decoder: Decoder, lengths: Sequence[int], rounds: int) -> Figures:
    """Medians of ``rounds``; see ``figures_of``. A first pass is not counted."""
    said = decoder.tokens((), lengths[-1])
    if len(said) != lengths[-1]:
        raise click.ClickException(f"{len(said)} tokens; {lengths[-1]} were asked for")
    with_cache: dict[int, list[float]] = {length: [] for length in lengths}
    without: dict[int, list[float]] = {length: [] for length in (0, *lengths)}
    same = 0
    for number_of_round in range(rounds + 1):
        same = 0
        for length, times in without.items():
            one, seconds = timed(lambda length=length: decoder.tokens(said[:length], 1))  # type: ignore[misc]
            same += length == len(said) or one == [said[length]]
            if number_of_round:
                times.append(seconds)
        for length, times in with_cache.items():
            tokens, seconds = timed(lambda length=length: decoder.tokens((), length))  # type: ignore[misc]
            same += tokens == said[:length]
            if number_of_round:
                times.append(seconds)
    return figures_of(_medians_ms(with_cache), _medians_ms(without)) | {
        "same": same,
        "compared": len(with_cache) + len(without),
    }


def timed(call: Callable[[], list[int]]) -> tuple[list[int], float]:
    began = time.perf_counter()
    tokens = call()
    return tokens, time.perf_counter() - began


def _medians_ms(times: dict[int, list[float]]) -> dict[int, float]:
    return {length: 1000 * statistics.median(seconds) for length, seconds in times.items()}


def figures_of(with_cache: dict[int, float], without: dict[int, float]) -> Figures:
    """From milliseconds by length: of N tokens ``with_cache``, and of one token after N ``without``.

    ``token_ms`` with cache: between two lengths, a token, at the longer one. ``total_ms`` without: the sum
    over all shorter texts, by the trapezoid rule between the lengths that were measured. ``growth``: a token
    at the last length ÷ one at the second. R² alone tells little: that of a cube is 0.96 here.
    """
    lengths, totals = list(with_cache), list(with_cache.values())
    steps = np.diff([0, *lengths])
    tokens = (np.diff([0.0, *totals]) / steps).tolist()
    grid, one = list(without), list(without.values())
    areas = np.diff(grid) * (np.array(one[1:]) + np.array(one[:-1])) / 2
    sums = np.cumsum(areas).tolist()
    return {
        "lengths": lengths,
        "with_cache": {
            "total_ms": _rounded(totals),
            "token_ms": _rounded(tokens),
            "total_fit": line_through(lengths, totals),
            # The first piece holds the prompt, too.
            "token_fit": line_through(lengths[1:], tokens[1:]) if len(lengths) > 2 else None,
            "growth": round(tokens[-1] / tokens[1], 3),
        },
        "without_cache": {
            "token_ms": _rounded(one[1:]),
            "total_ms": _rounded(sums),
            "token_fit": line_through(grid, one),
            "growth": round(one[-1] / one[2], 3),
        },
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def sheet_of(name: str, figures: Figures) -> Sheet:
    with_cache, without = figures["with_cache"], figures["without_cache"]
    columns = (
        figures["lengths"],
        with_cache["total_ms"],
        with_cache["token_ms"],
        without["total_ms"],
        without["token_ms"],
    )
    rows = tuple(
        (str(length), number(total), number(token, 2), number(slow_total), number(slow, 2))
        for length, total, token, slow_total, slow in zip(*columns, strict=True)
    )
    total, slow, lengths = with_cache["total_fit"], without["token_fit"], figures["lengths"]
    notes = (
        f"With cache N tokens take {_equation(total)}.",
        f"Without, a token after N others takes {_equation(slow)}.",
        f"A token at {lengths[-1]} costs {with_cache['growth']:.2f} times one at {lengths[1]} with cache, "
        f"{without['growth']:.2f} times without.",
        f"Same tokens in {figures['same']} of {figures['compared']} comparisons.",
    )
    headings = ("tokens N", "with cache: N tokens", "a token", "without: N tokens", "a token")
    return Sheet(f"{name}: ms over the length of the text", headings, rows, notes)


def _equation(fit: Figures) -> str:
    return f"{fit['intercept']:.1f} + {fit['slope']:.4f} N ms, R² {fit['r2']:.4f}"


def chart_of(name: str, figures: Figures) -> Chart:
    return LineChart(
        f"{name}: what a token costs",
        "tokens said so far",
        "ms a token",
        tuple(map(float, figures["lengths"])),
        {
            "with K/V cache": tuple(figures["with_cache"]["token_ms"]),
            "without": tuple(figures["without_cache"]["token_ms"]),
        },
    )


@click.command(help=__doc__)
@click.option("--cases", default="demo-en,tiny", show_default=True, help="Names, with commas.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--lengths", default=LENGTHS, show_default=True, help="Tokens, with commas.")
@file_options
def command(cases: str, precision: str, rounds: int, lengths: str, **files: Path | None) -> None:
    load_before, entry = load_average(), Entry("captiond", precision)
    found: dict[str, Figures] = {}
    for name in names(cases):
        with tempfile.TemporaryDirectory() as folder:
            try:
                case = prepared(name, NEW_TOKENS, [entry], Path(folder))
                contender = Captiond(entry, case, Path(folder) / entry.file)
            except (CaptiondError, EndedError) as error:
                raise click.ClickException(str(error)) from error
        room = case.config.n_text_ctx - len(case.prompt)
        asked = [length for length in counts(lengths) if length <= room]
        if len(asked) < 2:
            raise click.BadParameter(f"--lengths {lengths}: two or more up to {room} were expected")
        found[name] = measure(Decoder.of(contender, case), asked, rounds)
    sheets = [sheet_of(name, figures) for name, figures in found.items()]
    charts = [chart_of(name, figures) for name, figures in found.items()]
    figures = {"precision": precision, "rounds": rounds, "cases": found}
    publish("kv", figures, sheets, charts, Files(**files), load_before)


if __name__ == "__main__":
    command()
