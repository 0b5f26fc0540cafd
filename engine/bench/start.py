"""From a cold process to a model that is ready: ``python -m engine.bench.start [--model NAME] [--runs N]``.

Each run is a process of its own that loads the model as the daemon does. Gives seconds since the process
began and resident memory at each step, medians over the runs, as one JSON line and as a table. The first run
is not counted: it may compile, and reads the files into memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with MAX
from captiond_engine.progress import ProgressEvent


def load(model: str, precision: str) -> None:
    """The child: a line for each step, what it is called, seconds and MiB at its end."""
    me, steps = psutil.Process(), list[tuple[str, float, float]]()

    def ended(step: str) -> None:
        steps.append((step, time.time() - me.create_time(), me.memory_info().rss / 2**20))

    waiting = "interpreter"

    def progress(event: ProgressEvent) -> None:
        nonlocal waiting
        if event.stage != waiting:
            ended(waiting)
            waiting = event.stage

    from captiond_engine.engine import Engine, import_max

    import_max()
    ended("imports")
    waiting = "weights"
    engine = Engine.load(model, device="cpu", precision=precision, progress=progress)  # type: ignore[arg-type]
    ended(waiting)
    print(json.dumps(steps), flush=True)
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo-en", help="as captiond's --model")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        load(asked.model, asked.precision)
        return
    command = [sys.executable, "-m", "engine.bench.start", "--child", "--model", asked.model]
    command += ["--precision", asked.precision]
    runs = []
    for _ in range(asked.runs + 1):
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    counted = runs[1:]
    names = [step for step, _, _ in counted[0]]
    seconds = [statistics.median(run[n][1] for run in counted) for n in range(len(names))]
    resident = [statistics.median(run[n][2] for run in counted) for n in range(len(names))]
    print(f"{'until the end of':18} {'seconds':>8} {'MiB':>6}", file=sys.stderr)
    for name, at_s, mib in zip(names, seconds, resident, strict=True):
        print(f"{name:18} {at_s:8.2f} {mib:6.0f}", file=sys.stderr)
    model = Path(asked.model).name
    figures = {"bench": "start", "model": model, "precision": asked.precision, "runs": asked.runs}
    figures |= {"ready_s": round(seconds[-1], 3), "resident_mib": round(resident[-1])}
    figures["steps"] = {n: [round(s, 3), round(m)] for n, s, m in zip(names, seconds, resident, strict=True)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
