"""Finals as subtitles: one final in, the text of its cues out, SubRip or WebVTT.

A cue holds at most two lines; a longer final is cut between words, at the words' own times where it has
them. Times count from the opening of the stream. The daemon's files follow the same rules (a test holds them
equal). Knows no file and no socket.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

from captiond_clients.events import Final
from captiond_clients.printable import printable

LINE_LETTERS = 42  # what broadcasters' guides allow a line
CUE_LETTERS = 2 * LINE_LETTERS - 8  # leaves room for a line that breaks before a long word
ARROW = re.compile("-{2,}>")


@dataclass(frozen=True, slots=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str


def cues(final: Final) -> list[Cue]:
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


def _part_starts(final: Final, parts: list[str]) -> list[int]:
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


class SubtitleText:
    """Numbers the cues of one file. ``head()`` comes first, then ``cue_text`` of each final.

    ``offset_ms`` is added to all times: where a recording begins that follows another in the same file.
    """

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self.offset_ms = 0
        self._form = form
        self._count = 0

    def head(self) -> str:
        return "WEBVTT\n\n" if self._form == "vtt" else ""

    def cue_text(self, final: Final) -> str:
        return "".join(map(self._one, cues(final)))

    def _one(self, cue: Cue) -> str:
        self._count += 1
        text = "\n".join(_wrap(cue.text, LINE_LETTERS))
        start_ms, end_ms = cue.start_ms + self.offset_ms, cue.end_ms + self.offset_ms
        if self._form == "vtt":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return f"{clock(start_ms, '.')} --> {clock(end_ms, '.')}\n{text}\n\n"
        text = ARROW.sub("->", text)  # would read as a line of times
        return f"{self._count}\n{clock(start_ms, ',')} --> {clock(end_ms, ',')}\n{text}\n\n"
