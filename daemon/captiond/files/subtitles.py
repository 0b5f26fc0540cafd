"""Finals as subtitles: one final in, the text of its cues out, SubRip or WebVTT.

A cue holds at most two lines; a longer final is cut between words, at the words' own times where it has
them. The client package has the same rules for its own events, as neither may import the other; a test
holds the two equal. Knows no file.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Literal

from captiond import wire

LINE_LETTERS = 42  # what broadcasters' guides allow a line
CUE_LETTERS = 2 * LINE_LETTERS - 8  # leaves room for a line that breaks before a long word
ARROW = re.compile("-{2,}>")
# Joiners and direction marks: scripts need them, and they move no cursor.
KEPT_FORMAT = "\u200c\u200d\u200e\u200f"


@dataclass(frozen=True, slots=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str


def printable(text: str) -> str:
    """``text`` in one line: controls and separators become spaces, other invisible letters go."""
    return "".join(map(_printable_letter, text))


def _printable_letter(letter: str) -> str:
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Cs") and letter not in KEPT_FORMAT else letter


def cues(final: wire.Final) -> list[Cue]:
    """``final`` as cues in order, none of them empty or without length."""
    parts = _wrap(printable(final.text), CUE_LETTERS)
    if not parts:
        return []
    starts = _part_starts(final, parts)
    ends = [*starts[1:], final.end_ms]
    return [
        Cue(start, max(end, start + 1), part) for start, end, part in zip(starts, ends, parts, strict=True)
    ]


def _wrap(text: str, letters: int) -> list[str]:
    return [part for part in textwrap.wrap(text, letters, break_on_hyphens=False) if part.strip()]


def _part_starts(final: wire.Final, parts: list[str]) -> list[int]:
    """When each part begins: at its first word's time, else by its share of the letters; all differ."""
    counts = [len(part.split()) for part in parts]
    if final.words and len(final.words) == sum(counts):
        first_words = [sum(counts[:index]) for index in range(len(parts))]
        wanted = [final.words[index].start_ms for index in first_words]
    else:
        letters = sum(map(len, parts))
        length_ms = final.end_ms - final.start_ms
        before = [sum(map(len, parts[:index])) for index in range(len(parts))]
        wanted = [final.start_ms + length_ms * share // letters for share in before]
    starts = [final.start_ms]
    for start in wanted[1:]:
        starts.append(max(start, starts[-1] + 1))
    return starts


def clock(milliseconds: int, point: str) -> str:
    """``hh:mm:ss`` with ``point`` before the milliseconds."""
    seconds, ms = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{point}{ms:03d}"


def cue_text(cue: Cue, form: Literal["srt", "vtt"], number: int, zero_ms: int) -> str:
    """One cue of a file whose time 0 is ``zero_ms`` of the stream. ``number``: from 1, for SRT."""
    text = "\n".join(_wrap(cue.text, LINE_LETTERS))
    start_ms, end_ms = cue.start_ms - zero_ms, cue.end_ms - zero_ms
    if form == "vtt":
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{clock(start_ms, '.')} --> {clock(end_ms, '.')}\n{text}\n\n"
    text = ARROW.sub("->", text)  # would read as a line of times
    return f"{number}\n{clock(start_ms, ',')} --> {clock(end_ms, ',')}\n{text}\n\n"
