"""From voice probabilities of fixed windows to speech segments: a pure state machine.

Takes: one probability and one energy for each window of the stream, in order, and where the audio was
cut off (flush, end, gap). Gives: where segments begin and end. Every decision is a function of the
windows alone, so segments do not depend on how audio arrived. Knows no detector, no model, no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from captiond_engine.types import EndReason, samples_from_ms


@dataclass(frozen=True, slots=True)
class SegmenterSettings:
    """Lengths in samples, counts in windows.

    Hysteresis: a segment opens when ``onset_windows`` of the last ``memory_windows`` reach
    ``onset_probability``; a window of ``hold_probability`` prolongs it when ``hold_windows`` of the last
    ``memory_windows`` reach that, and is then called voiced.
    ``silence``: quiet after which a segment ends. ``pre_roll``/``post_roll``: kept before and after the
    voiced part. ``cut_search``: the stretch before ``max_segment`` in which a cut is looked for.
    """

    onset_probability: float = 0.6
    hold_probability: float = 0.4
    onset_windows: int = 3
    hold_windows: int = 2
    memory_windows: int = 5
    silence: int = samples_from_ms(500)
    pre_roll: int = samples_from_ms(300)
    post_roll: int = samples_from_ms(200)
    max_segment: int = samples_from_ms(25_000)
    cut_search: int = samples_from_ms(4_000)

    def __post_init__(self) -> None:
        if not 1 <= self.hold_windows <= self.onset_windows <= self.memory_windows:
            raise ValueError("hold_windows <= onset_windows <= memory_windows must hold, all at least 1")
        if not 0 < self.hold_probability <= self.onset_probability:
            raise ValueError("hold_probability must lie between 0 and onset_probability")
        if not 0 < self.post_roll <= self.silence:
            raise ValueError(f"post_roll ({self.post_roll}) must lie within silence ({self.silence})")
        if not 0 < self.cut_search < self.max_segment:
            raise ValueError(f"cut_search ({self.cut_search}) must lie within max_segment")


class Began(NamedTuple):
    """A segment opened at ``at``; its first voiced window begins at ``onset``.

    ``continued``: speech went on from the segment before, which had grown too long.
    """

    at: int
    onset: int
    continued: bool = False


class Ended(NamedTuple):
    """The open segment ended at ``at``. ``voiced``: samples of it that were voiced, to ``speech_end``."""

    at: int
    reason: EndReason
    voiced: int
    speech_end: int


class _Window(NamedTuple):
    start: int
    end: int
    energy: float
    clear: bool  # enough to open a segment
    voiced: bool  # enough to prolong one


class Segmenter:
    """Feed it every window with ``update``; ask ``interrupt`` where audio is cut off."""

    def __init__(self, settings: SegmenterSettings, start: int = 0) -> None:
        self.settings = settings
        self._windows: deque[_Window] = deque()
        self._floor = start  # no segment begins before this sample
        self._start: int | None = None
        self._speech_end = start
        self._voiced = 0
        self._heard = start

    @property
    def is_open(self) -> bool:
        return self._start is not None

    @property
    def voiced(self) -> int:
        """Voiced samples of the open segment."""
        return self._voiced

    @property
    def speech_end(self) -> int:
        """End of the last voiced window of the open segment."""
        return self._speech_end

    @property
    def quiet_end(self) -> int | None:
        """Where the open segment ends if nobody speaks again; None while that is not fully heard."""
        end = self._speech_end + self.settings.post_roll
        return end if self._start is not None and self._heard >= end else None

    def update(self, probability: float, energy: float, start: int, end: int) -> list[Began | Ended]:
        """One window [start, end): its voice probability, and its mean square for finding cuts."""
        self._heard = end
        clear = probability >= self.settings.onset_probability
        self._windows.append(
            _Window(start, end, energy, clear, clear or probability >= self.settings.hold_probability)
        )
        while self._windows[0].end <= end - self.settings.cut_search and self._spare_window:
            self._windows.popleft()
        recent = [self._windows[-i] for i in range(1, min(len(self._windows), self._memory) + 1)]
        if self._start is None:
            if sum(window.clear for window in recent) < self.settings.onset_windows:
                return []
            return [self._open(min(window.start for window in recent if window.voiced))]
        if recent[0].voiced and sum(window.voiced for window in recent) >= self.settings.hold_windows:
            since = self._speech_end
            self._voiced += sum(w.end - w.start for w in recent if w.voiced and w.start >= since)
            self._speech_end = end
        if end - self._speech_end >= self.settings.silence and not recent[0].voiced:
            return [self._close(self._speech_end + self.settings.post_roll, EndReason.SILENCE)]
        if end - self._start >= self.settings.max_segment:
            return self._cut()
        return []

    def end_early(self, silence: int) -> list[Began | Ended]:
        """The open segment ends if it was silent for ``silence`` samples: whoever asks knows all is said."""
        if self._start is None or self._heard - self._speech_end < max(silence, self.settings.post_roll):
            return []
        return [self._close(self._speech_end + self.settings.post_roll, EndReason.SILENCE)]

    def interrupt(self, heard: int, reason: EndReason) -> list[Began | Ended]:
        """Audio is cut off at ``heard``: the open segment ends, with all of the tail that was speech."""
        self._heard = max(self._heard, heard)
        if self._start is None:
            return []
        return [self._close(min(heard, self._speech_end + self.settings.post_roll), reason)]

    def restart(self, at: int) -> None:
        """The timeline goes on at ``at`` after a gap; nothing of before counts."""
        if self._start is not None:
            raise ValueError("a segment is open; interrupt it before the timeline restarts")
        self._windows.clear()
        self._floor = self._heard = self._speech_end = at

    @property
    def _memory(self) -> int:
        return self.settings.memory_windows

    @property
    def _spare_window(self) -> bool:
        return len(self._windows) > self._memory

    def _open(self, onset: int) -> Began:
        self._start = max(self._floor, onset - self.settings.pre_roll)
        self._count_voiced(max(onset, self._start))
        return Began(self._start, max(onset, self._start))

    def _close(self, at: int, reason: EndReason) -> Ended:
        ended = Ended(at, reason, self._voiced, self._speech_end)
        self._floor = at
        self._start = None
        self._voiced = 0
        # Windows before the end must not open the next segment.
        for i, window in enumerate(self._windows):
            if window.start < at:
                self._windows[i] = window._replace(clear=False, voiced=False)
        return ended

    def _cut(self) -> list[Began | Ended]:
        """The segment is as long as it may be: end it where it is quietest, and go on from there."""
        assert self._start is not None
        if self._speech_end + self.settings.post_roll <= self._heard:
            return [self._close(self._speech_end + self.settings.post_roll, EndReason.MAX_LENGTH)]
        at = self._quietest(self._start + self.settings.max_segment - self.settings.cut_search)
        self._voiced -= sum(w.end - max(w.start, at) for w in self._windows if w.voiced and w.end > at)
        ended = Ended(at, EndReason.MAX_LENGTH, max(0, self._voiced), at)
        self._floor = self._start = at
        self._count_voiced(at)
        return [ended, Began(at, at, continued=True)]

    def _quietest(self, since: int) -> int:
        """The middle of the three neighbouring windows with the least energy; the latest such."""
        windows = list(self._windows)
        best, least = windows[-1].start, float("inf")
        for before, middle, after in zip(windows, windows[1:], windows[2:], strict=False):
            energy = before.energy + middle.energy + after.energy
            if before.start >= since and energy <= least:
                best, least = (middle.start + middle.end) // 2, energy
        return best

    def _count_voiced(self, since: int) -> None:
        spoken = [w for w in self._windows if w.voiced and w.end > since]
        self._voiced = sum(w.end - max(w.start, since) for w in spoken)
        self._speech_end = max((w.end for w in spoken), default=since)
