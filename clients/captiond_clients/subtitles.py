"""Finals as subtitles: one final in, the text of its cues out, SubRip or WebVTT.

A cue holds at most two lines; a longer final is cut between words, at the words' own times where it has
them. Times count from the opening of the stream. Knows no file and no socket.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

from captiond_clients.events import Final
from captiond_clients.terminal import printable

LINE_LETTERS = 42  # what broadcasters' guides allow a line
CUE_LETTERS = 2 * LINE_LETTERS - 8  # leaves room for a line that breaks before a long word


@dataclass(frozen=True, slots=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str


def cues(final: Final) -> list[Cue]:
    """``final`` as cues in order, which do not overlap. Empty text gives none."""
    parts = textwrap.wrap(printable(final.text), CUE_LETTERS)
    if len(parts) < 2:
        return [Cue(final.start_ms, final.end_ms, part) for part in parts]
    starts = _part_starts(final, parts)
    ends = [*starts[1:], final.end_ms]
    return [Cue(start, end, part) for start, end, part in zip(starts, ends, parts, strict=True)]


def _part_starts(final: Final, parts: list[str]) -> list[int]:
    """When each part begins: at its first word's time, else by its share of the letters."""
    counts = [len(part.split()) for part in parts]
    if final.words is not None and len(final.words) == sum(counts):
        first_words = [sum(counts[:index]) for index in range(len(parts))]
        starts = [final.words[index].start_ms for index in first_words]
        return [final.start_ms, *starts[1:]]
    letters = sum(map(len, parts))
    length_ms = final.end_ms - final.start_ms
    before = [sum(map(len, parts[:index])) for index in range(len(parts))]
    return [final.start_ms + length_ms * share // letters for share in before]


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
        text = "\n".join(textwrap.wrap(cue.text, LINE_LETTERS))
        start_ms, end_ms = cue.start_ms + self.offset_ms, cue.end_ms + self.offset_ms
        if self._form == "vtt":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return f"{clock(start_ms, '.')} --> {clock(end_ms, '.')}\n{text}\n\n"
        text = text.replace("-->", "->")  # would read as a line of times
        return f"{self._count}\n{clock(start_ms, ',')} --> {clock(end_ms, ',')}\n{text}\n\n"
