"""Fewer wakeups of a thread that MAX starts with the first run of a graph.

Takes: that first run. Gives: the same, in a thread whose timers may be late. With version 26.7 the started
thread looks for news each 0.2 ms for as long as the process lives, which costs an idle daemon 5 to 10 % of a
core of a small machine. It inherits the timer slack (prctl(2), PR_SET_TIMERSLACK) of the thread that starts
it, and with 50 ms of it wakes 20 times a second. Runs on a processor were not seen to take longer; a GPU is
left alone, as there its events may be what is looked for. Does nothing where there is no such call.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PR_SET_TIMERSLACK = 29  # linux/prctl.h
SLACK_NS = 50_000_000
OWN = 0  # gives a thread the slack back that it began with


@contextmanager
def rare_wakeups() -> Iterator[None]:
    """Threads started in here, by this thread, wake rarely; this thread is as before afterwards."""
    changed = _set_timer_slack(SLACK_NS)
    try:
        yield
    finally:
        if changed:
            _set_timer_slack(OWN)


def _set_timer_slack(nanoseconds: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    zero = ctypes.c_ulong(0)
    return bool(prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(nanoseconds), zero, zero, zero) == 0)
