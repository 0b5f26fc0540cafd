"""How many paced streams one device carries: jobs of typical windows, through the engine's device thread.

Each stream speaks for four seconds and is silent for one: a partial is due each second of speech, a final at
its end. As the scheduler has it, a stream has one pass due at most, a newer partial takes the older one's
place, finals go first, and all that is due goes in one batch up to a limit. Times are the model's alone:
no sound, network or text is in them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from captiond_engine.engine import DeviceThread
from captiond_engine.types import Float32Array, Precision

from engine.bench.gpu.cases import mels
from engine.bench.gpu.running import Lab, Subject

TOKENS = 24  # of a sentence of four seconds, generously
SPEECH_S, PAUSE_S, PARTIAL_EVERY_S = 4.0, 1.0, 1.0
BOUND_MS = 300.0
BATCHES = (1, 8, 32, 64)


@dataclass
class Load:
    """One simulation: who is due since when, and what finals took."""

    finals: dict[int, float] = field(default_factory=dict)
    partials: dict[int, float] = field(default_factory=dict)
    final_ms: list[float] = field(default_factory=list)
    partial_ms: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def take(self, most: int) -> list[tuple[int, bool, float]]:
        """What goes next: (stream, final, due since), finals first, then whoever has waited longest."""
        found = [(stream, True, since) for stream, since in sorted(self.finals.items(), key=lambda i: i[1])]
        found += [
            (stream, False, since) for stream, since in sorted(self.partials.items(), key=lambda i: i[1])
        ]
        chosen = found[:most]
        for stream, final, _ in chosen:
            (self.finals if final else self.partials).pop(stream)
        return chosen


class Runner:
    """What the device thread runs: as many windows as there are jobs, encoded and decoded together."""

    def __init__(self, subject: Subject, sound: Float32Array, *, steps: bool) -> None:
        self._subject, self._sound = subject, sound
        self._decode = subject.step_by_step if steps else subject.loop

    def run(self, jobs: Sequence[Any]) -> list[Any]:
        self._decode(self._subject.encode(self._sound[: len(jobs)]), TOKENS)
        return []

    def probe(self, mel: Float32Array | None = None) -> None:
        self.run([None])


async def simulate(runner: Runner, streams: int, most: int, seconds: float) -> Load:
    """``streams`` at real-time pace for ``seconds``, batches of at most ``most``."""
    load, device, changed = Load(), DeviceThread(runner), asyncio.Event()
    rng, began = random.Random(streams), time.perf_counter()

    async def speak(stream: int) -> None:
        due = began + rng.uniform(0, SPEECH_S + PAUSE_S)
        while True:
            for second in range(int(SPEECH_S / PARTIAL_EVERY_S)):
                due += PARTIAL_EVERY_S
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                final = (second + 1) * PARTIAL_EVERY_S >= SPEECH_S
                if final:
                    load.partials.pop(stream, None)
                    load.finals.setdefault(stream, due)
                else:
                    load.partials[stream] = due
                changed.set()
            due += PAUSE_S

    async def drive() -> None:
        while True:
            await changed.wait()
            changed.clear()
            while chosen := load.take(most):
                await device.run([None] * len(chosen))  # type: ignore[list-item]
                now = time.perf_counter()
                load.batches.append(len(chosen))
                for _, final, since in chosen:
                    (load.final_ms if final else load.partial_ms).append((now - since) * 1000)

    tasks = [asyncio.create_task(speak(n), name=f"stream {n}") for n in range(streams)]
    tasks.append(asyncio.create_task(drive(), name="device"))
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    failed = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(device.close)
    if failed and failed[0] is not None:
        raise failed[0]
    waiting_ms = [(time.perf_counter() - since) * 1000 for since in load.finals.values()]
    load.final_ms += [late for late in waiting_ms if late > BOUND_MS]  # overdue ones count as they stand
    return load


def most_streams(
    lab: Lab, size: str, precision: Precision, most: int, *, steps: bool, seconds: float, until_s: float
) -> dict[str, Any]:
    """The largest number of streams tried whose 95th percentile of finals is within the bound.

    Doubles until it fails, then halves the gap. Stops when less than ``until_s`` of the budget is left.
    """
    subject = lab.subject(size, precision)
    runner = Runner(subject, mels(subject.case.config, most), steps=steps)
    rows = 1
    while rows <= most:  # memory, and recordings of each size of a batch, before the clock runs
        runner.run([None] * rows)
        rows *= 2
    tried: dict[int, dict[str, float]] = {}

    def holds(streams: int) -> bool:
        load = asyncio.run(simulate(runner, streams, most, seconds))
        if not load.final_ms:
            return False
        tried[streams] = {
            "final_p95_ms": round(float(np.percentile(load.final_ms, 95)), 1),
            "partial_p95_ms": round(float(np.percentile(load.partial_ms or [0.0], 95)), 1),
            "finals": len(load.final_ms),
            "mean_batch": round(float(np.mean(load.batches)), 1),
        }
        return tried[streams]["final_p95_ms"] <= BOUND_MS

    good, bad, streams = 0, 0, 8
    while lab.left_s() > until_s + 2 * seconds and (not bad or bad - good > max(1, good // 8)):
        if holds(streams):
            good = streams
        else:
            bad = streams
        streams = 2 * good if not bad else (good + bad) // 2
        if streams < 1 or streams in tried:
            break
    return {
        "batch": most,
        "streams": good,
        "not": bad or None,
        "by": "steps" if steps else "loop",
        "tried": tried,
    }
