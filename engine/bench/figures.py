"""What rounds amount to: medians with their spread, ratios, memory, tokens that are the same. Pure.

Takes rounds by contender, gives plain dictionaries for the JSON line. All times are milliseconds of one row;
a ratio above 1 is slower than the one it is compared with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.bench.apart import Round
from engine.bench.contenders import Entry

Figures = dict[str, Any]

STEPS: dict[str, Callable[[Round], float]] = {
    "mel": lambda done: done.mel_s,
    "encode": lambda done: done.encode_s,
    "decode": lambda done: done.decode_s,
    "whole": lambda done: done.whole_s,
    "cpu": lambda done: done.cpu_s,
}
COMPARED = ("encode", "decode", "whole")


def spread(values: Sequence[float]) -> dict[str, float]:
    """``min``, ``median`` and ``max``, to a hundredth."""
    return {
        "min": round(min(values), 2),
        "median": round(statistics.median(values), 2),
        "max": round(max(values), 2),
    }


def batch_figures(rounds: Mapping[Entry, Sequence[Round]], rows: int) -> dict[str, Figures]:
    """By contender's name, all of one case at one batch size.

    ``to_int8``, ``to_float32``: median ÷ the least median, of each step by itself, of the peers in int8, and
    of faster-whisper in float32 at whichever number of threads is better. Left out where nobody of these
    took part. ``same_tokens`` of ``tokens``: as the reference says, which is openai-whisper where it took
    part, else the first.
    """
    said = {entry: done[-1].tokens for entry, done in rounds.items()}
    reference = next((said[entry] for entry in rounds if entry.kind == "openai-whisper"), None)
    found: dict[str, Figures] = {}
    for entry, done in rounds.items():
        figures: Figures = {
            f"{step}_ms": spread([1000 * seconds(one) / rows for one in done])
            for step, seconds in STEPS.items()
        }
        figures["peak_mib"], figures["resident_mib"] = done[-1].peak_mib, done[-1].resident_mib
        expected = reference or next(iter(said.values()))
        pairs = zip(expected, said[entry], strict=True)
        figures["same_tokens"] = sum(a == b for row in pairs for a, b in zip(*row, strict=True))
        figures["tokens"] = sum(map(len, expected))
        figures["same_every_round"] = all(one.tokens == done[0].tokens for one in done)
        found[entry.name] = figures
    _add_ratios(found, "to_int8", [e.name for e in rounds if e.precision == "int8" and e.kind != "captiond"])
    exact = [e.name for e in rounds if (e.kind, e.precision) == ("faster-whisper", "float32")]
    _add_ratios(found, "to_float32", exact)
    return found


def _add_ratios(found: dict[str, Figures], name: str, peers: Sequence[str]) -> None:
    if not peers:
        return
    best = {step: min(found[peer][f"{step}_ms"]["median"] for peer in peers) for step in COMPARED}
    for figures in found.values():
        figures[name] = {step: round(figures[f"{step}_ms"]["median"] / best[step], 3) for step in COMPARED}


def line_through(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least squares: ``slope``, ``intercept``, and ``r2`` = 1 - residual ÷ total sum of squares."""
    slope, intercept = (float(value) for value in np.polyfit(x, y, 1))
    values = np.asarray(y, np.float64)
    residual = float(((values - (slope * np.asarray(x, np.float64) + intercept)) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    r2 = 1 - residual / total if total else 1.0
    return {"slope": round(slope, 5), "intercept": round(intercept, 3), "r2": round(r2, 5)}
