"""Words to where they were said, by the pauses between them; for where the decoder tells no times.

Takes: the words of one window in order, and the stretches of voice that were heard in it. Gives: the same
words with times. Each pause falls between two words: where the letters before it take their share of the
voice, and better where a sentence or a clause ends. Within a stretch words are spread by their length. Knows
no audio and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from captiond_engine.decoding.align import spread
from captiond_engine.decoding.ending import SENTENCE_ENDS
from captiond_engine.types import Word, samples_from_ms

CLAUSE_ENDS = ",;:、，；："
CLOSING = "\"'”’)]»"
FURTHEST = 10  # words between where the letters alone put a pause and where it is looked for
LONG_PAUSE = samples_from_ms(600)  # tells of a sentence's end as surely as any longer one
SLACK = samples_from_ms(250)  # how far a stretch may be off the length of its letters at the cost of 1
AT_CLAUSE, AT_WORD = 1.0, 2.5  # costs of a long pause that is not at a sentence's end


def place(words: Sequence[Word], stretches: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    """``words`` over ``stretches`` of samples, half open, in order, at least one; else ValueError."""
    if not stretches:
        raise ValueError("words cannot be placed where there is no voice")
    placed: list[Word] = []
    first = 0
    for (start, end), last in zip(stretches, [*_pauses(words, stretches), len(words)], strict=True):
        placed += spread(words[first:last], start, end)
        first = last
    return tuple(placed)


def snap(words: Sequence[Word], stretches: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    """``words`` that were timed already, drawn back from the silence between ``stretches``."""
    return out_of_pauses(words, [(end, start) for (_, end), (start, _) in pairwise(stretches)])


def out_of_pauses(words: Sequence[Word], pauses: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    """``words`` that were timed already, none reaching into ``pauses``: half open, in samples, in order.

    A word that begins in a pause and goes on after it begins where the pause ends, and one that ends in a
    pause ends where the pause begins; a word wholly within a pause stays.
    """
    placed = []
    for word in words:
        start, end = word.start, word.end
        for begin, until in pauses:
            if begin <= start < until < end:
                start = until
            if start < begin < end <= until:
                end = begin
        placed.append(replace(word, start=start, end=end))
    return tuple(placed)


def _pauses(words: Sequence[Word], stretches: Sequence[tuple[int, int]]) -> list[int]:
    """How many words come before each pause: the way of least cost, by dynamic programming."""
    letters = [0, *accumulate(max(1, len(word.text.strip())) for word in words)]
    voice = [0, *accumulate(end - start for start, end in stretches)]
    pace = voice[-1] / max(1, letters[-1])
    ends = [_cost_after(word.text) for word in words]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for number, ((_, end), (start, _)) in enumerate(pairwise(stretches), start=1):
        length, weight = voice[number] - voice[number - 1], min(1.0, (start - end) / LONG_PAUSE)
        found: dict[int, tuple[float, tuple[int, ...]]] = {}
        for count in _near(letters, voice[number] / pace if pace else 0.0):
            cost = weight * ends[count - 1] if 0 < count < len(words) else 0.0
            found[count] = min(
                (
                    before_cost + cost + _misfit((letters[count] - letters[before]) * pace, length),
                    (*path, count),
                )
                for before, (before_cost, path) in best.items()
                if before <= count
            )
        best = found
    last = voice[-1] - voice[-2]
    ways = (
        (cost + _misfit((letters[-1] - letters[before]) * pace, last), path)
        for before, (cost, path) in best.items()
    )
    return list(min(ways)[1])


def _near(letters: Sequence[int], wanted: float) -> range:
    """Counts of words near the one whose letters are ``wanted``."""
    nearest = min(range(len(letters)), key=lambda count: abs(letters[count] - wanted))
    return range(max(0, nearest - FURTHEST), min(len(letters) - 1, nearest + FURTHEST) + 1)


def _misfit(spoken: float, heard: float) -> float:
    """What it costs that words which take ``spoken`` samples at the usual pace were said in ``heard``."""
    return ((spoken - heard) / (SLACK + heard / 4)) ** 2


def _cost_after(text: str) -> float:
    """What a long pause costs after this word."""
    mark = text.rstrip().rstrip(CLOSING)[-1:]
    if mark and mark in SENTENCE_ENDS:
        return 0.0
    return AT_CLAUSE if mark and mark in CLAUSE_ENDS else AT_WORD
