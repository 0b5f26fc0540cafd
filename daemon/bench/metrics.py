"""Latency, stability and word error rate of live captions, as the project defines them. Pure.

Takes clips' true utterances and the timelines that clients saw; gives numbers. Each definition stands in the
docstring of its function. Times are seconds inside, milliseconds in what is reported. Knows no socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import jiwer
import numpy as np

from daemon.bench.clips import Utterance
from daemon.bench.timeline import Segment

SMALLEST_OVERLAP_S = 0.1  # a segment's pre-roll may touch the utterance before it
PERCENTILES = (50, 90, 99)
QUANTILES = tuple(range(0, 100, 2))


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of ``n`` values, by linear interpolation; None where there is no value."""

    n: int
    p50: float | None
    p90: float | None
    p99: float | None


def summarise(seconds: Sequence[float]) -> Summary:
    """Seconds in, whole tenths of milliseconds out."""
    if not seconds:
        return Summary(0, None, None, None)
    return Summary(len(seconds), *(round(float(np.percentile(seconds, p)) * 1000, 1) for p in PERCENTILES))


def quantiles(seconds: Sequence[float]) -> list[float]:
    """Milliseconds at every second percentile, for drawing; empty where there is no value."""
    return [round(float(np.percentile(seconds, p)) * 1000, 1) for p in QUANTILES] if seconds else []


def plain_words(text: str) -> list[str]:
    """Words as people hear them: lower case, no punctuation."""
    return re.findall(r"[\w']+", text.lower())


# --- which segment belongs to which utterance --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """One segment and the utterances that it overlaps, in order.

    ``opens``: it is the first segment of its first utterance, and begins with it.
    ``closes``: it is the last segment of its last utterance.
    """

    segment: Segment
    utterances: tuple[Utterance, ...]
    opens: bool
    closes: bool


def overlap_s(segment: Segment, utterance: Utterance) -> float:
    end = segment.start if segment.end is None else segment.end
    return min(end, utterance.end) - max(segment.start, utterance.start)


def match_segments(segments: Sequence[Segment], utterances: Sequence[Utterance]) -> list[Match]:
    """Segments with what they heard. One that overlaps no utterance has none."""
    heard = [[u for u in utterances if overlap_s(s, u) >= SMALLEST_OVERLAP_S] for s in segments]
    matches = []
    for index, (segment, own) in enumerate(zip(segments, heard, strict=True)):
        before = [u for other in heard[:index] for u in other]
        after = [u for other in heard[index + 1 :] for u in other]
        opens = bool(own) and own[0] not in before
        closes = bool(own) and own[-1] not in after
        matches.append(Match(segment, tuple(own), opens, closes))
    return matches


# --- latency -----------------------------------------------------------------------------------------


def first_partials(matches: Iterable[Match]) -> list[float]:
    """Receipt of the first non-empty partial − start of the first word, of segments that had a partial.

    Utterances that begin in the middle of a segment have no first partial of their own.
    """
    latencies = []
    for match in matches:
        shown = [d.at for d in match.segment.displays if d.text.strip()]
        if match.opens and shown:
            latencies.append(shown[0] - match.utterances[0].start)
    return latencies


def finalizations(matches: Iterable[Match]) -> list[float]:
    """Receipt of the final − true end of speech."""
    return [
        m.segment.final_at - m.utterances[-1].end
        for m in matches
        if m.closes and m.segment.final_at is not None
    ]


def compute_finalizations(segments: Iterable[Segment]) -> list[float]:
    """Receipt of the final − receipt of the endpoint decision (``speech.ended``); not below zero."""
    return [
        max(0.0, s.final_at - s.ended_at)
        for s in segments
        if s.final_at is not None and s.ended_at is not None
    ]


def endpoint_delays(matches: Iterable[Match]) -> list[float]:
    """Receipt of the endpoint decision − true end of speech, of segments that silence ended."""
    return [
        m.segment.ended_at - m.utterances[-1].end
        for m in matches
        if m.closes and m.segment.ended_at is not None and m.segment.end_reason == "silence"
    ]


def cut_early(matches: Iterable[Match]) -> int:
    """Segments that silence was said to have ended before the true end of the utterance they lie in."""
    return sum(
        1
        for m in matches
        if m.utterances
        and m.segment.end_reason == "silence"
        and m.segment.ended_at is not None
        and m.segment.ended_at < m.utterances[-1].end
    )


@dataclass(frozen=True, slots=True)
class WordTimes:
    """A word of a final: when it was first shown to stay, and when it was first committed."""

    word: str
    shown_at: float
    committed_at: float


def word_times(segment: Segment) -> list[WordTimes]:
    """The final's words, each with the first event that shows it to stay and the first that has it committed.

    To stay: in an unbroken run of events up to the final. Committed: in ``committed``, or the final itself.
    """
    if segment.final_at is None or segment.final_text is None:
        return []
    final = plain_words(segment.final_text)
    shown = [segment.final_at] * len(final)
    committed = [segment.final_at] * len(final)
    staying = set(range(len(final)))
    for display in reversed(segment.displays):
        staying &= _matching(plain_words(display.text), final)
        for index in staying:
            shown[index] = display.at
        for index in range(min(len(plain_words(display.committed)), len(final))):
            committed[index] = display.at
    return [WordTimes(*row) for row in zip(final, shown, committed, strict=True)]


def _matching(shown: list[str], final: list[str]) -> set[int]:
    """Indices of ``final``'s words that ``shown`` has, in order."""
    blocks = SequenceMatcher(None, shown, final, autojunk=False).get_matching_blocks()
    return {index for block in blocks for index in range(block.b, block.b + block.size)}


def word_latencies(
    segments: Sequence[Segment], utterances: Sequence[Utterance]
) -> tuple[list[float], list[float]]:
    """(tentative, committed): receipt − end of the word, of the finals' words that the reference has too.

    Which word is which: the alignment of least edits between finals and reference, equal words only.
    """
    said = [row for segment in segments for row in word_times(segment)]
    reference: list[tuple[str, float]] = []
    for utterance in utterances:
        for text, end in zip(utterance.text.split(), utterance.word_ends, strict=True):
            reference.extend((word, end) for word in plain_words(text))
    if not said or not reference:
        return [], []
    alignment = jiwer.process_words(
        " ".join(word for word, _ in reference), " ".join(row.word for row in said)
    ).alignments[0]
    shown: list[float] = []
    committed: list[float] = []
    for part in alignment:
        if part.type != "equal":
            continue
        for offset in range(part.ref_end_idx - part.ref_start_idx):
            end = reference[part.ref_start_idx + offset][1]
            row = said[part.hyp_start_idx + offset]
            shown.append(row.shown_at - end)
            committed.append(row.committed_at - end)
    return shown, committed


def lagging(match: Match) -> float | None:
    """LAAL of one segment, seconds: length-adaptive average lagging, computation-aware (Papi et al., 2022).

    How far, on average, committed words came behind a speaker who says the same words evenly: the mean of
    d(i) - (i - 1) * duration / max(words said, words of the reference), over the words up to the first that
    came when the speech had ended. None where the segment is not one whole stretch with a final.
    """
    if not (match.opens and match.closes) or not match.utterances:
        return None
    start, end = match.utterances[0].start, match.utterances[-1].end
    received = [row.committed_at - start for row in word_times(match.segment)]
    reference = [word for u in match.utterances for word in plain_words(u.text)]
    if not received or not reference:
        return None
    pace = (end - start) / max(len(received), len(reference))
    behind = next((i for i, at in enumerate(received, 1) if at >= end - start), len(received))
    return sum(at - i * pace for i, at in enumerate(received[:behind])) / behind


# --- stability ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Flicker:
    """Words shown and later changed or gone. UPWR = changed ÷ words of the finals (Shangguan 2020)."""

    tentative: int = 0
    tentative_exact: int = 0  # a change of capitals or punctuation counts too
    committed: int = 0
    final_words: int = 0

    def add(self, other: Flicker) -> None:
        self.tentative += other.tentative
        self.tentative_exact += other.tentative_exact
        self.committed += other.committed
        self.final_words += other.final_words


def flicker(segment: Segment) -> Flicker:
    """Each word is counted each time it changes; a suppressed segment takes all its words away."""
    counted = Flicker(final_words=len(plain_words(segment.final_text or "")))
    following = [display.text for display in segment.displays[1:]]
    if segment.final_text is not None or segment.suppressed is not None:
        following.append(segment.final_text or "")
    for display, text in zip(segment.displays, following, strict=False):
        solid = len(plain_words(display.committed))
        for index in _changed(plain_words(display.text), plain_words(text)):
            if index >= solid:
                counted.tentative += 1
        solid_exact = len(display.committed.split())
        exact = _changed(display.text.split(), text.split())
        counted.tentative_exact += sum(1 for index in exact if index >= solid_exact)
        if not text.startswith(display.committed):
            kept = len(_common_prefix(display.committed.split(), text.split()))
            counted.committed += solid_exact - kept
    return counted


def _changed(before: list[str], after: list[str]) -> list[int]:
    """Indices of ``before``'s words that ``after`` lacks at their place."""
    steps = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [i for tag, start, end, _, _ in steps if tag in {"replace", "delete"} for i in range(start, end)]


def _common_prefix(left: list[str], right: list[str]) -> list[str]:
    same = []
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        same.append(a)
    return same


# --- word error rate ---------------------------------------------------------------------------------


@dataclass(slots=True)
class WordErrors:
    """Pooled counts; ``rate`` is (S + D + I) / N in per cent, None where there are no words."""

    substituted: int = 0
    deleted: int = 0
    inserted: int = 0
    words: int = 0
    clips: int = field(default=0)

    def add(self, reference: str, hypothesis: str) -> None:
        """Both already normalised. An empty reference only adds insertions."""
        self.clips += 1
        if not reference.strip():
            self.inserted += len(hypothesis.split())
            return
        found = jiwer.process_words(reference, hypothesis)
        self.substituted += found.substitutions
        self.deleted += found.deletions
        self.inserted += found.insertions
        self.words += found.hits + found.substitutions + found.deletions

    @property
    def rate(self) -> float | None:
        errors = self.substituted + self.deleted + self.inserted
        return round(100 * errors / self.words, 2) if self.words else None
