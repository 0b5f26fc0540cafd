"""A long final as phrases: what is read at once as a subtitle, or on one line.

Takes: a final with its words' times. Gives: shorter finals that have all of its text, cut where a sentence
ends or the speaker pauses. A final without words, or whose words are not its text, stays whole. Knows no
subtitle format.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from captiond import wire
from captiond.files.subtitles import CUE_LETTERS, LINE_LETTERS, printable

LONGEST_MS = 7_000  # of a subtitle: Netflix's Timed Text Style Guide, as are two lines of 42 letters
SHORTEST_MS = 1_000  # of a subtitle, where there is a choice
PAUSE_MS = 300  # between words; shorter ones are of a kind
LINE_PAUSE_MS = 500  # at a sentence's end: a new line of plain text
LONG_PAUSE_MS = 1_500  # anywhere: likewise
LINGER_MS = 500  # a subtitle stands on so long after its last word
SENTENCE_ENDS, CLAUSE_ENDS = ".?!…。？！", ",;:、，；："
CLOSING = "\"'”’)]»"
# What a cut costs after a sentence, a pause or clause, any other word; and each phrase, so that they are few.
AT_SENTENCE, AT_PAUSE, AT_WORD, EACH = 0.0, 1.0, 3.0, 1.0
INSIDE_SENTENCE = 1.2  # each end of a sentence within a phrase
INSIDE_PAUSE = 2.0  # each second of pauses within a phrase
TOO_SHORT = 2.0
MOST_WORDS = 40  # in a phrase

Words = Sequence[wire.Word]


def phrases(final: wire.Final) -> list[wire.Final]:
    """``final`` as subtitles: 7 s and two lines at most, but for a single word that is longer.

    Cut at the least cost over the whole final (dynamic programming, as Knuth and Plass cut paragraphs).
    """
    pieces = _pieces(final)
    if pieces is None:
        return [final]
    words = final.words or ()
    best: list[tuple[float, int]] = [
        (0.0, 0)
    ]  # of the first words: the cost, and where the last phrase begins
    for end in range(1, len(words) + 1):
        cut = 0.0 if end == len(words) else _cut_cost(words[end - 1], words[end])
        ways = (
            (best[start][0] + cut + _phrase_cost(words[start:end], pieces[start:end]), start)
            for start in range(max(0, end - MOST_WORDS), end)
        )
        best.append(min(ways))
    ends = [len(words)]
    while best[ends[0]][1] > 0:
        ends.insert(0, best[ends[0]][1])
    return _cut(final, pieces, ends)


def lines(final: wire.Final) -> list[wire.Final]:
    """``final`` cut where somebody paused, after a sentence or for long: lines of plain text."""
    pieces = _pieces(final)
    if pieces is None:
        return [final]
    words = final.words or ()
    ends = [
        at
        for at, (one, other) in enumerate(pairwise(words), start=1)
        if other.start_ms - one.end_ms >= (LINE_PAUSE_MS if _ends(one.text, SENTENCE_ENDS) else LONG_PAUSE_MS)
    ]
    return _cut(final, pieces, [*ends, len(words)])


def _pieces(final: wire.Final) -> list[str] | None:
    """``final.text`` cut before each word; None where its words are not its text."""
    if not final.words:
        return None
    starts, at = [], 0
    for word in final.words:
        found = final.text.find(word.text, at)
        if found < 0 or final.text[at:found].strip():
            return None
        starts.append(found)
        at = found + len(word.text)
    if final.text[at:].strip():
        return None
    bounds = [0, *starts[1:], len(final.text)]
    return [final.text[a:b] for a, b in pairwise(bounds)]


def _cut(final: wire.Final, pieces: Sequence[str], ends: Sequence[int]) -> list[wire.Final]:
    """Phrases that end before these words. Times are whole: each begins with its first word."""
    words = final.words or ()
    starts = [0, *ends[:-1]]
    made = []
    for number, (first, end) in enumerate(zip(starts, ends, strict=True)):
        begins = words[first].start_ms if number else final.start_ms
        stops = (
            final.end_ms if end == len(words) else min(words[end].start_ms, words[end - 1].end_ms + LINGER_MS)
        )
        text = "".join(pieces[first:end]).strip()
        made.append(replace(final, text=text, start_ms=begins, end_ms=stops, words=tuple(words[first:end])))
    return made


def _cut_cost(before: wire.Word, after: wire.Word) -> float:
    if _ends(before.text, SENTENCE_ENDS):
        return AT_SENTENCE
    paused = after.start_ms - before.end_ms >= PAUSE_MS
    return AT_PAUSE if paused or _ends(before.text, CLAUSE_ENDS) else AT_WORD


def _phrase_cost(words: Words, pieces: Sequence[str]) -> float:
    lasts_ms = words[-1].end_ms - words[0].start_ms
    if len(words) > 1 and (lasts_ms > LONGEST_MS or not _fits(printable("".join(pieces)).strip())):
        return float("inf")
    pauses_ms = sum(max(0, b.start_ms - a.end_ms - PAUSE_MS) for a, b in pairwise(words))
    sentences = sum(_ends(word.text, SENTENCE_ENDS) for word in words[:-1])
    short = TOO_SHORT if lasts_ms < SHORTEST_MS else 0.0
    return EACH + short + INSIDE_SENTENCE * sentences + INSIDE_PAUSE * pauses_ms / 1000


def _fits(text: str) -> bool:
    """Two lines hold ``text``."""
    if len(text) > CUE_LETTERS:
        return False
    return len(text) <= LINE_LETTERS or len(text) - 1 - text.rfind(" ", 0, LINE_LETTERS + 1) <= LINE_LETTERS


def _ends(text: str, marks: str) -> bool:
    last = text.rstrip().rstrip(CLOSING)[-1:]
    return bool(last) and last in marks
