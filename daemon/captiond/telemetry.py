"""The log: one line an event to standard error, safe to look at, never a flood.

Takes: ordinary ``logging`` records. Gives: lines in which no stranger's text can move the cursor or fake
a second line, at most so many of one kind a minute. Metrics will live here as well.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

LINES_A_MINUTE = 30
WINDOW_S = 60.0
KINDS = 512  # how many kinds of lines are counted apart


class SafeFormatter(logging.Formatter):
    """Escapes everything unprintable in a message; a traceback of our own keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        record.message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in record.message)
        return super().formatMessage(record)


class FloodGate(logging.Filter):
    """Lets ``limit`` lines of one kind (logger and template) through a minute, then counts silently."""

    def __init__(self, limit: int = LINES_A_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limit = limit
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.name, str(record.msg)), self._clock()
        began, count = self._kinds.pop(kind, (now, 0))
        if now - began >= WINDOW_S:
            if count > self._limit:
                record.msg = f"{record.msg} (and {count - self._limit} more like it in the last minute)"
            began, count = now, 0
        self._kinds[kind] = (began, count + 1)
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]
        return count < self._limit


def set_up_logging(level: str) -> None:
    """The root logger to standard error."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(SafeFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    out.addFilter(FloodGate())
    logging.basicConfig(level=level.upper(), handlers=[out], force=True)
    # A stranger's broken handshake is no news; their own faults still show.
    logging.getLogger("websockets").setLevel(logging.ERROR)
