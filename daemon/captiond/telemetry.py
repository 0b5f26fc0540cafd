"""The log: one line or one JSON object an event to standard error, safe to look at, never a flood.

Takes: ordinary ``logging`` records; what is given as ``extra`` (a stream's name, an error's code) becomes a
field. Gives: lines in which no stranger's text can move the cursor or fake a second line, at most so many of
one kind a minute. Nothing that is said into a stream is ever a message.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from captiond.config import LogConfig

LINES_A_MINUTE = 30
WINDOW_S = 60.0
KINDS = 512  # how many kinds of lines are counted apart
# syslog's priorities, as sd-daemon(3) reads them at the beginning of a line.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def printable(text: str) -> str:
    """``text`` with everything escaped that a terminal or a reader of lines would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class SafeFormatter(logging.Formatter):
    """Escapes everything unprintable in a message; a traceback of our own keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        record.message = printable(record.message)
        return super().formatMessage(record)


class JournalFormatter(SafeFormatter):
    """Plain text for the journal, which has a clock of its own: each line with its priority in front."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts`` (RFC 3339), ``level``, ``logger``, ``message``, and extras."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {
            "ts": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in OWN_FIELDS and isinstance(value, str | int | float):
                entry.setdefault(name, printable(value) if isinstance(value, str) else value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


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


def set_up_logging(config: LogConfig, out: TextIO | None = None) -> None:
    """The root logger to ``out``, by default standard error, in the format that is asked for."""
    out = out or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter(config, journal=is_journal(out)))
    handler.addFilter(FloodGate())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # A stranger's broken handshake is no news, and at debug level they would print headers with tokens in
    # them; their own faults still show.
    logging.getLogger("websockets").setLevel(logging.ERROR)


def formatter(config: LogConfig, *, journal: bool) -> logging.Formatter:
    """How a record becomes a line. ``journal``: systemd's journal reads it."""
    if config.format == "json" or (config.format == "auto" and journal):
        return JsonFormatter()
    if journal:
        return JournalFormatter("%(message)s")
    return SafeFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def is_journal(out: TextIO) -> bool:
    """Whether ``out`` leads to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        there = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def tell(text: str, **fields: str | float | None) -> None:
    """A line for whoever started the daemon: plain on a terminal, an entry of a log that machines read."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if any(isinstance(each, JsonFormatter | JournalFormatter) for each in formatters):
        logging.getLogger("captiond").info("%s", text, extra=fields)
    else:
        print(text, file=sys.stderr, flush=True)
