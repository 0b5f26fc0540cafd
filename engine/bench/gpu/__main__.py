"""The engine on a GPU: right, how fast, how many streams, how much memory, and what bounds it.

Run: ``make bench-gpu``, or ``python -m engine.bench.gpu`` with engine, daemon, clients and the checkout on
PYTHONPATH. Needs the project's dependencies and a GPU; torch with openai-whisper or transformers for the
comparison, and says so where it lacks them. Prints tables and one JSON line. What no longer fits in
``--budget`` seconds is skipped and named; a part that fails loses none of the others.

Compiling takes longer than measuring: ``--compile-only`` fills the store of graphs, in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from captiond_engine.errors import DeviceError
from captiond_engine.types import Precision
from captiond_engine.whisper.graphs import PLAIN_TYPES
from captiond_engine.whisper.loading import choose_device
from max.driver import Device
from rich.console import Console
from rich.table import Table

from engine.bench.gpu import bounds, capacity, compiling, parity, times
from engine.bench.gpu.cases import SIZES, TURBO
from engine.bench.gpu.running import Lab, Skipped

Part = tuple[str, float, Callable[[], Any]]  # name, seconds it needs at least, what it does
COMPILING_SHARE = 0.5  # of the budget at most


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=540, help="seconds for all of it (%(default)s)")
    parser.add_argument(
        "--compile-only", action="store_true", help="fill the store of graphs, measure nothing"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=list(PLAIN_TYPES), default=["bfloat16", "float32"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 16], help="windows at once in the times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["parity", "times", "capacity", "memory", "bounds"])
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"], help="cpu: to try this script")
    parser.add_argument("--json", type=Path, help="also write the JSON here, after each part")
    parser.add_argument("--one", nargs=3, metavar=("SIZE", "KIND", "PRECISION"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> int:
    options, began = options_of(), time.monotonic()
    if options.one:
        size, kind, asked = options.one
        precision = next(one for one in get_args(Precision) if one == asked)
        compiling.compile_one(size, kind, precision, options.device)
        return 0
    console = Console(width=140)
    try:
        device = choose_device(options.device)
    except DeviceError as error:
        print(json.dumps({"error": str(error), "ran": []}))
        return 1

    def left_s() -> float:
        return float(options.budget) - (time.monotonic() - began)

    report: dict[str, Any] = {"facts": facts(device), "budget_s": options.budget}
    asked = compiling.wanted(options.sizes, options.precisions)
    share = 1.0 if options.compile_only else COMPILING_SHARE
    report["compiled"] = compiling.compile_all(
        asked, options.device, began + share * options.budget, lambda line: console.print("compiled", line)
    )
    if not options.compile_only:
        for name, needs_s, run in parts(options, Lab(device, left_s)):
            report[name] = guarded(run, needs_s, left_s)
            show(console, name, report[name])
            if options.json:
                options.json.write_text(json.dumps(report), encoding="utf-8")
    report["took_s"] = round(time.monotonic() - began, 1)
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report), encoding="utf-8")
    sys.stdout.flush()
    return 0


def guarded(run: Callable[[], Any], needs_s: float, left_s: Callable[[], float]) -> Any:
    """What a part found, or why it found nothing. Whatever goes wrong in it stays in it."""
    if left_s() < needs_s:
        return {"skipped": f"{left_s():.0f} s are left of the budget"}
    began = time.monotonic()
    try:
        found = run()
    except Skipped as why:
        return {"skipped": str(why)}
    except Exception as trouble:
        return {"failed": f"{type(trouble).__name__}: {trouble}"[:600]}
    return {**found, "part_s": round(time.monotonic() - began, 1)}


def parts(options: argparse.Namespace, lab: Lab) -> list[Part]:
    """What is measured, in order of worth."""
    precisions: list[Precision] = options.precisions  # argparse has checked them
    main: Precision = "bfloat16" if "bfloat16" in precisions else precisions[0]
    largest = next(size for size in (TURBO, "small", "base", "tiny", "demo-en") if size in options.sizes)
    found: list[Part] = []
    asked = options.parts
    for precision in precisions:
        if "parity" in asked and "demo-en" in options.sizes:
            found.append((f"parity demo-en {precision}", 10, lambda p=precision: parity.bundled(lab, p)))  # type: ignore[misc]
        if "parity" in asked and "tiny" in options.sizes:
            found.append((f"parity tiny {precision}", 10, lambda p=precision: parity.random_weights(lab, p)))  # type: ignore[misc]
    if "times" in asked:
        for size in [largest, *(size for size in options.sizes if size != largest)]:
            for rows in options.rows if size == largest else options.rows[:1]:
                found.append(
                    (
                        f"times {size} {main} x{rows}",
                        25,
                        lambda s=size, r=rows: times.of_size(lab, s, main, r, options.rounds),  # type: ignore[misc]
                    )
                )
    if "bounds" in asked:
        for rows in options.rows:
            found.append(
                (
                    f"bounds {largest} x{rows}",
                    10,
                    lambda r=rows: bounds.of_size(lab, largest, main, r, options.rounds),  # type: ignore[misc]
                )
            )
    if "memory" in asked:
        found.append((f"memory {largest}", 5, lambda: bounds.memory(lab, largest, main)))
    if "capacity" in asked:
        for steps in (True, False):
            for most in (32, 8, 64, 1) if steps else (32,):
                found.append(
                    (
                        f"capacity {largest} batch {most} {'steps' if steps else 'loop'}",
                        30,
                        lambda m=most, s=steps: capacity.most_streams(  # type: ignore[misc]
                            lab, largest, main, m, steps=s, seconds=6.0, until_s=15.0
                        ),
                    )
                )
    return found


def show(console: Console, name: str, found: dict[str, Any]) -> None:
    """One part as a table."""
    table = Table(title=name, title_justify="left", show_header=False)
    for key, value in found.items():
        table.add_row(key, json.dumps(value) if isinstance(value, (dict, list)) else str(value))
    console.print(table)


def facts(device: Device) -> dict[str, Any]:
    """The machine and what is installed."""
    packages = {}
    for package in ("max", "torch", "openai-whisper", "transformers", "numpy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "missing"
    return {
        "device": compiling.is_ready(device),
        "name": str(getattr(device, "model_name", "")) if not device.is_host else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **packages,
    }


if __name__ == "__main__":
    sys.exit(main())
