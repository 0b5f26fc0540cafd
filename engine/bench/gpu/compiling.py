"""Compiles the graphs that will be measured, several at once, each in a process of its own.

MAX compiles one graph at a time in a process. A process that is out of time is ended; what it would have made
is then missing, and whoever needs it says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from captiond_engine.progress import silent
from captiond_engine.types import Precision
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import GraphCompiler, facts_of, machine_of, plain, sketch
from captiond_engine.whisper.loading import choose_device
from max._mlir_context import ensure_default_mlir_context
from max.driver import Device

from engine.bench.gpu.cases import TURBO, case_of

Wanted = tuple[str, str, Precision]  # size, kind, precision


def wanted(sizes: Sequence[str], precisions: Sequence[Precision]) -> list[Wanted]:
    """What the parts need, in the order in which it is worth having; the longest compiles first within it."""
    main = "bfloat16" if "bfloat16" in precisions else precisions[0]
    kinds = ("encode", "step", "decode", "listen")
    found: list[Wanted] = []
    for size in (TURBO, "demo-en", "small", "tiny", "base"):
        if size in sizes:
            found += [(size, kind, main) for kind in kinds]
    for size in ("demo-en", "tiny"):  # exactness is shown at these
        if size in sizes and "float32" in precisions and main != "float32":
            found += [(size, kind, "float32") for kind in kinds]
    return found


@cache
def key_of(size: str, kind: str, precision: Precision, device: Device) -> str:
    """What the graph is stored under; its text is made for that, which takes seconds for the largest."""
    case, named = case_of(size, filled=False), plain(kind, precision)
    with ensure_default_mlir_context():
        text, _ = sketch(named, case.config, case.tensors, device)
    return facts_of(named, case.config, text, machine_of(device)).key


def compile_one(size: str, kind: str, precision: Precision, device: str) -> None:
    """Compile and store one graph; used in a process of its own."""
    case = case_of(size, filled=False)
    compiler = GraphCompiler(choose_device(device), GraphStore(), silent, shipped=None)
    with ensure_default_mlir_context():
        compiler.make(plain(kind, precision), case.config, case.tensors)


def compile_all(
    asked: Sequence[Wanted], device: str, until: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Compile what is not stored yet, until ``until`` on the monotonic clock. Seconds of each graph, or why
    there is none."""
    driver, store = choose_device(device), GraphStore()
    took: dict[str, Any] = {}
    waiting = []
    for one in asked:
        if store.load(key_of(*one, driver)) is None:
            waiting.append(one)
        else:
            took[_name(one)] = "stored"
    running: dict[Wanted, tuple[subprocess.Popen[bytes], float]] = {}
    at_once = max(1, min(6, (os.cpu_count() or 1) // 3))
    while (waiting or running) and time.monotonic() < until:
        while waiting and len(running) < at_once:
            one = waiting.pop(0)
            command = [sys.executable, "-m", "engine.bench.gpu", "--device", device, "--one", *one]
            running[one] = subprocess.Popen(command, stdout=subprocess.DEVNULL), time.monotonic()
        for one, (process, began) in list(running.items()):
            if (code := process.poll()) is not None:
                del running[one]
                seconds = round(time.monotonic() - began)
                took[_name(one)] = seconds if code == 0 else f"failed with {code} after {seconds} s"
                tell(f"{_name(one)}: {took[_name(one)]}")
        time.sleep(0.2)
    for one, (process, _) in running.items():
        process.kill()
        process.wait()
        took[_name(one)] = "out of time"
    took |= {_name(one): "not begun" for one in waiting}
    return took


def _name(one: Wanted) -> str:
    return " ".join(one)


def is_ready(device: Device) -> str:
    """The device's name as graphs are stored under."""
    return device.label if device.is_host else f"{device.label} {device.architecture_name}"
