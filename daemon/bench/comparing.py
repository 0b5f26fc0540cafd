"""Two live runs side by side. Takes their figures; prints to a rich console."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from daemon.bench.report import LATENCIES, Figures

Row = tuple[str, float | None, float | None, int]  # what, of the one, of the other, digits


def print_comparison(console: Console, one: Figures, other: Figures, names: tuple[str, str]) -> None:
    """A table for each group that both have; the groups of one alone are named."""
    for group in dict.fromkeys([*one["figures"], *other["figures"]]):
        both = [run["figures"].get(group) for run in (one, other)]
        if None in both:
            console.print(f"{group}: only in {names[0] if both[1] is None else names[1]}")
            continue
        table = Table(group, *names, "difference", title_justify="left")
        for what, left, right, digits in rows_of(both[0], both[1]):
            known = left is not None and right is not None
            difference = f"{(right or 0) - (left or 0):+.{digits}f}" if known else "–"
            table.add_row(what, *(_number(value, digits) for value in (left, right)), difference)
        console.print(table)


def rows_of(one: Figures, other: Figures) -> Iterator[Row]:
    """What is compared of one group."""
    if "wer" not in one:
        for key, label in (("strict_finals", "finals"), ("strict_finals_per_hour", "finals an hour")):
            yield label, one[key], other[key], 1
        return
    for key, label in LATENCIES.items():
        for percentile in ("p50", "p90"):
            left, right = (run["latency_ms"].get(key, {}).get(percentile) for run in (one, other))
            yield f"{label.strip()} {percentile}, ms", left, right, 0
    for key in ("upwr_tentative", "upwr_committed"):
        shares = [run["flicker"][key] for run in (one, other)]
        left, right = (None if share is None else 100 * share for share in shares)
        yield f"flicker {key.removeprefix('upwr_')}, %", left, right, 1
    for key in ("streaming", "offline", "delta"):
        yield f"WER {key}, %", one["wer"]["all"][key], other["wer"]["all"][key], 1
    for key in ("segments", "cut_early", "sentences_torn", "suppressed"):
        yield f"segments: {key}", one["segments"].get(key), other["segments"].get(key), 0


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
