"""Facts to write, a writer to a folder, and what stands there then. Takes and gives plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from captiond import wire
from captiond.config import FilesConfig
from captiond.files.facts import Fact, Opening
from captiond.files.writer import FileWriter

NOON = 1_795_003_200.0  # 2026-11-18T12:00:00Z
DAY_S = 86_400.0
FORMATS = ("jsonl", "srt", "vtt", "txt")


def writer_to(folder: Path, *, clock: float = NOON, **settings: Any) -> FileWriter:
    settings.setdefault("formats", FORMATS)
    return FileWriter(msgspec.convert({"folder": str(folder), **settings}, FilesConfig), lambda: clock)


def opening(stream: str = "hall", at: float = NOON) -> Opening:
    return Opening(stream, "e1", at)


def fact(opened: Opening, text: str, start_ms: int = 500, at: float | None = None) -> Fact:
    final = wire.Final(segment=1, text=text, start_ms=start_ms, end_ms=start_ms + 400, language="en")
    return Fact(opened, final, opened.opened_at + start_ms / 1000 if at is None else at)


def write(writer: FileWriter, *facts: Fact) -> None:
    outcome = writer.write(facts, {each.opening for each in facts})
    assert outcome.error is None
    assert outcome.written == len(facts)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def said(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]
