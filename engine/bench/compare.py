"""Encode and decode time of captiond, openai-whisper and faster-whisper on the same weights, in turn.

Run: ``make bench`` (extra ``bench``), or ``python -m engine.bench.compare --cases demo-en,tiny,base``.
Whole against whole: 30 s windows encoded, then 50 tokens decoded greedily. Each contender has a process of
its own and they take turns. Medians; ratios to faster-whisper's engine in int8 at its better number of
threads. Tokens are compared, so that it shows who is fast by saying something else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.bench.apart import Apart, case_of, entries
from engine.bench.contenders import converted

REST_S = 0.35  # MAX's threads spin for a while after each call; nobody is measured meanwhile


@dataclass(slots=True)
class Times:
    """Seconds of each round."""

    encode: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def medians_ms(self) -> tuple[float, float, float]:
        whole = [e + d for e, d in zip(self.encode, self.decode, strict=True)]
        encode, decode, both = (
            1000 * statistics.median(values) for values in (self.encode, self.decode, whole)
        )
        return encode, decode, both


def measure(contenders: list[Apart], rounds: int) -> dict[str, Times]:
    """All contenders in turn, ``rounds`` times, after one round that is not counted."""
    found = {contender.name: Times() for contender in contenders}
    for counted in range(rounds + 1):
        for contender in contenders:
            time.sleep(REST_S)
            done, times = contender.round(), found[contender.name]
            times.tokens = done.tokens
            if counted:
                times.encode.append(done.encode_s)
                times.decode.append(done.decode_s)
    return found


def report(case: str, rows: int, found: dict[str, Times], console: Console) -> dict[str, Any]:
    """Print one case's table; its figures for the JSON line. Times are those of a row."""
    table = Table(
        title=f"{case}: 30 s windows, 50 tokens, batch {rows} (median ms a row; ratio to the best int8 peer)"
    )
    for heading in ("", "encode", "decode", "whole", "encode ×", "decode ×", "whole ×", "same tokens"):
        table.add_column(heading, justify="left" if not heading else "right")
    our_tokens = next(iter(found.values())).tokens
    peers = [times.medians_ms() for name, times in found.items() if name.startswith("ctranslate2 (int8")]
    best = [min(values) for values in zip(*peers, strict=True)]  # each at its best number of threads
    figures: dict[str, Any] = {}
    for name, times in found.items():
        medians = times.medians_ms()
        ratios = [mine / peer for mine, peer in zip(medians, best, strict=True)]
        same = sum(a == b for a, b in zip(our_tokens, times.tokens, strict=False))
        figures_ms = [f"{m / rows:.1f}" for m in medians]
        table.add_row(name, *figures_ms, *(f"{r:.2f}" for r in ratios), f"{same} of {len(our_tokens)}")
        keys = ("encode", "decode", "whole")
        figures[name] = {f"{key}_ms": round(m / rows, 2) for key, m in zip(keys, medians, strict=True)}
        figures[name] |= {f"ratio_{key}": round(r, 3) for key, r in zip(keys, ratios, strict=True)}
        figures[name]["same_tokens"] = same
    console.print(table)
    return figures


def about() -> dict[str, Any]:
    """Where these figures come from."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    packages = ("max", "openai-whisper", "torch", "faster-whisper", "ctranslate2")
    models = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "commit": git.stdout.strip(),
        "machine": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="demo-en,tiny,base")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    console = Console(width=140)
    figures = {}
    for name in arguments.cases.split(","):
        taking_part = entries(arguments.threads, arguments.batch)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
            model = converted(case_of(name), Path(folder))
            contenders = [
                processes.enter_context(Apart(entry, name, model, arguments.batch)) for entry in taking_part
            ]
            found = measure(contenders, arguments.rounds)
        figures[name] = report(name, arguments.batch, found, console)
    load = [round(one, 2) for one in os.getloadavg()]
    about_run = {"rounds": arguments.rounds, "batch": arguments.batch, "load": load}
    print(json.dumps({"bench": "engine", **about(), **about_run, "cases": figures}))


if __name__ == "__main__":
    main()
