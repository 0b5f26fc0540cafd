"""How a fact looks in each format: a fact in, the bytes that are appended out.

jsonl: the event as on the wire, with the stream's epoch and the wall clock's time. srt, vtt and txt hold
finals with text only. Whole lines and whole cues, so that a file that ends after any of them is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from captiond import wire
from captiond.config import FileFormat
from captiond.files.facts import Fact
from captiond.files.names import iso_time
from captiond.files.subtitles import cue_text, cues, printable


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a fact comes: after ``cues`` cues; time 0 of the file is ``zero_ms`` of the stream."""

    cues: int = 0
    zero_ms: int = 0


@dataclass(frozen=True, slots=True)
class Lines:
    """What to append, and how many cues it holds."""

    data: bytes
    cues: int = 0


def head(form: FileFormat) -> bytes:
    """What a file of this format begins with."""
    return b"WEBVTT\n\n" if form == "vtt" else b""


def lines(fact: Fact, form: FileFormat, place: Place, *, words: bool = False) -> Lines:
    """``fact`` in ``form``; nothing where the format has no place for it."""
    if form == "jsonl":
        return Lines(_json_line(fact, words=words))
    if not isinstance(fact.event, wire.Final):
        return Lines(b"")
    if form == "txt":
        text = " ".join(printable(fact.event.text).split())
        return Lines(f"{text}\n".encode() if text else b"")
    return _cues(fact.event, form, place)


def _cues(final: wire.Final, form: Literal["srt", "vtt"], place: Place) -> Lines:
    found = cues(final)
    texts = [
        cue_text(cue, form, place.cues + number, place.zero_ms) for number, cue in enumerate(found, start=1)
    ]
    return Lines("".join(texts).encode(), len(found))


def _json_line(fact: Fact, *, words: bool) -> bytes:
    event = fact.event
    if isinstance(event, wire.Final):
        event = replace(event, timings=UNSET, words=event.words if words else UNSET)
    fields = msgspec.to_builtins(event)
    return msgspec.json.encode(fields | {"epoch": fact.opening.epoch, "at": iso_time(fact.at)}) + b"\n"
