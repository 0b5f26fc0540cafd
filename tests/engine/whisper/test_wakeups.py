"""An idle model lets the processor sleep."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading

import pytest
from captiond_engine.whisper.wakeups import SLACK_NS, rare_wakeups

PR_GET_TIMERSLACK = 30

IDLE = """
import pathlib, time
from captiond_engine.engine import Engine

def switches():
    counts = {}
    for task in pathlib.Path("/proc/self/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counts[task.name] = int(line.split()[1])
    return counts

engine = Engine.load("demo-en", device="cpu", download=False)
time.sleep(1)
before = switches()
time.sleep(2)
after = switches()
print(max(after[task] - before.get(task, 0) for task in after))
engine.close()
"""


def slack() -> int:
    return int(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_only_threads_that_are_started_inside_wake_rarely() -> None:
    found: list[int] = []

    def run_one() -> None:
        thread = threading.Thread(target=lambda: found.append(slack()))
        thread.start()
        thread.join()

    own = slack()
    with rare_wakeups():
        run_one()
    run_one()
    assert found == [SLACK_NS, own]
    assert slack() == own


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_no_thread_of_a_model_that_nobody_asks_wakes_often() -> None:
    done = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400  # in two seconds; 10 000 without rare_wakeups
