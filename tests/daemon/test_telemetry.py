"""The log: a stranger can neither forge a line nor flood it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from captiond.config import LogConfig
from captiond.telemetry import (
    FloodGate,
    JournalFormatter,
    JsonFormatter,
    SafeFormatter,
    formatter,
    is_journal,
    set_up_logging,
    tell,
)

from tests.daemon.house import FINAL, audio_of, configured, house
from tests.sim.scripted import say


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


def fields(line: str) -> dict[str, object]:
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_json_is_one_object_a_line_with_the_fields_that_were_given() -> None:
    told = record("stream %s closed", "a\x1b[2J\n{forged}\u2028")
    told.stream, told.code, told.since = "a\nb", "internal", 3
    line = JsonFormatter().format(told)
    assert line.isprintable()
    entry = fields(line)
    assert datetime.fromisoformat(str(entry.pop("ts"))).tzinfo is not None
    assert entry == {
        "level": "info",
        "logger": "captiond.test",
        "message": "stream a\\x1b[2J\\n{forged}\\u2028 closed",
        "stream": "a\\nb",
        "code": "internal",
        "since": 3,
    }


def test_a_fields_name_cannot_replace_what_every_line_has() -> None:
    told = record("hello")
    told.level, told.ts = "forged", "forged"
    entry = fields(JsonFormatter().format(told))
    assert (entry["level"], entry["ts"] == "forged") == ("info", False)


def test_a_traceback_stays_inside_its_object_or_its_marked_lines() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        failed = logging.LogRecord("captiond", logging.ERROR, "f", 1, "it failed", (), sys.exc_info())
    assert "ValueError" in str(fields(JsonFormatter().format(failed))["exception"])
    lines = JournalFormatter("%(message)s").format(failed).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize(
    ("asked", "journal", "expected"),
    [
        ("auto", False, SafeFormatter),
        ("auto", True, JsonFormatter),
        ("json", False, JsonFormatter),
        ("text", True, JournalFormatter),
        ("text", False, SafeFormatter),
    ],
)
def test_machines_are_told_in_json_and_people_in_lines(asked: str, journal: bool, expected: type) -> None:
    config = msgspec.convert({"format": asked}, LogConfig)
    assert type(formatter(config, journal=journal)) is expected


def test_the_journal_is_known_by_the_number_of_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "other").open("w") as other:
        there = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
        assert is_journal(out)
        assert not is_journal(other)
        assert not is_journal(io.StringIO())


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """Everything of level debug, as a daemon under systemd writes it."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with (tmp_path / "log").open("w") as out:
        set_up_logging(LogConfig(level="debug", format="json"), out)
        yield lambda: (tmp_path / "log").read_text().splitlines()
    logging.captureWarnings(False)
    root.handlers[:], root.level = before, level


async def test_neither_what_is_said_nor_a_token_is_ever_logged(
    logged: Callable[[], list[str]], tmp_path: Path
) -> None:
    token, wrong = "0123456789-the-token", "0123456789-no-token"
    (tmp_path / "tokens").write_text(token)
    config = configured(server={"tokens_file": str(tmp_path / "tokens")})
    script = say("pistachio umbrella")
    async with house(script, config=config) as home:
        shown = {"Authorization": f"Bearer {token}"}
        async with home.speaker("stream=a&prompt=zeppelin", additional_headers=shown) as speaker:
            await speaker.speak(audio_of(script))
            await speaker.say(type="configure", prompt="zeppelin")
            await speaker.say(type="pistachio")
            assert (await speaker.until(FINAL))["text"] == "pistachio umbrella"
            resume = speaker.all("hello")[0]["resume"]
        await home.get(f"/v1/streams?token={wrong}", Authorization=f"Bearer {wrong}")
    lines = logged()
    assert {fields(line).get("stream") for line in lines} >= {"a"}
    for secret in (token, wrong, resume, "pistachio", "umbrella", "zeppelin"):
        assert secret not in "\n".join(lines)


def test_what_the_starter_is_told_keeps_to_the_logs_format(
    logged: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    tell("captions page: http://here/", address="http://here/")
    assert fields(logged()[0])["address"] == "http://here/"
    assert capsys.readouterr().err == ""
    logging.getLogger().handlers.clear()
    tell("captions page: http://here/")
    assert capsys.readouterr().err == "captions page: http://here/\n"
