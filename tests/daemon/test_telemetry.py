"""The log: a stranger can neither forge a line nor flood it."""

from __future__ import annotations

import logging

import pytest
from captiond.telemetry import FloodGate, SafeFormatter

from tests.daemon.house import house


def record(message: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("captiond.test", logging.INFO, "file", 1, message, values, None)


def test_a_strangers_text_moves_no_cursor_and_makes_no_second_line() -> None:
    line = SafeFormatter("%(message)s").format(record("name %s", "a\x1b[2J\nERROR forged\r\u2028\u202eb"))
    assert line.isprintable()
    assert "\\x1b[2J\\nERROR forged\\r\\u2028\\u202eb" in line


def test_a_kind_of_line_is_told_so_often_a_minute_then_counted() -> None:
    now = [0.0]
    gate = FloodGate(limit=3, clock=lambda: now[0])
    passed = [gate.filter(record("noise from %s", number)) for number in range(1_000)]
    assert sum(passed) == 3
    assert gate.filter(record("something else"))
    now[0] = 61.0
    after = record("noise from %s", "x")
    assert gate.filter(after)
    assert "997 more" in after.getMessage()


def test_many_kinds_take_bounded_memory() -> None:
    gate = FloodGate()
    for number in range(5_000):
        gate.filter(record(f"kind {number}"))
    assert len(gate._kinds) < 1_000


async def test_rubbish_from_outside_is_not_logged_word_for_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="captiond"):
        async with house() as home, home.speaker("stream=a") as speaker:
            for _ in range(50):
                await speaker.socket.send("\x1b[31mforged")
            await speaker.until("error", 50)
            await home.get("/\x1b[31m%0aforged")
    assert "forged" not in caplog.text
    assert len(caplog.records) < 10
