"""A strict reader of SubRip and WebVTT, written from their descriptions and not from what captiond writes.

SubRip as players read it (a number, a line of times with commas, text, an empty line); WebVTT after W3C's
"WebVTT: The Web Video Text Tracks Format". Whatever is not well formed is a ValueError.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

SRT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")
VTT_TIMES = re.compile(SRT_TIMES.pattern.replace(",(", r"\.("))


class ReadCue(NamedTuple):
    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def read_srt(text: str) -> list[ReadCue]:
    cues = []
    for number, block in enumerate(_blocks(text), start=1):
        if block[0] != str(number):
            raise ValueError(f"cue {number} is numbered {block[0]!r}")
        cues.append(_cue(block[1:], SRT_TIMES))
    return cues


def read_vtt(text: str) -> list[ReadCue]:
    head, _, rest = text.partition("\n")
    if head != "WEBVTT" or not rest.startswith("\n"):
        raise ValueError("no WEBVTT signature and empty line")
    cues = [_cue(block, VTT_TIMES) for block in _blocks(rest[1:])]
    for cue in cues:
        if any(re.search(r"[<>]|&(?!amp;|lt;|gt;)", line) for line in cue.lines):
            raise ValueError(f"text that would be read as a tag: {cue.lines}")
    return [ReadCue(cue.start_ms, cue.end_ms, tuple(map(html.unescape, cue.lines))) for cue in cues]


def _blocks(text: str) -> list[list[str]]:
    if text and not text.endswith("\n\n"):
        raise ValueError("the last cue is not finished")
    # Every line end that some reader knows; str.splitlines knows them all.
    return [block.splitlines() for block in text.split("\n\n")[:-1]]


def _cue(block: list[str], times: re.Pattern[str]) -> ReadCue:
    found = times.fullmatch(block[0])
    if not found:
        raise ValueError(f"no line of times: {block[0]!r}")
    hours, minutes, seconds, ms, *until = map(int, found.groups())
    start_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
    end_ms = ((until[0] * 60 + until[1]) * 60 + until[2]) * 1000 + until[3]
    if end_ms <= start_ms:
        raise ValueError("a cue must end after its start")
    if (
        len(block) < 2
        or not all(line.strip() for line in block[1:])
        or any("-->" in line for line in block[1:])
    ):
        raise ValueError(f"text that ends the cue or begins another: {block[1:]}")
    return ReadCue(start_ms, end_ms, tuple(block[1:]))
