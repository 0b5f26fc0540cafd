"""Where within a segment somebody spoke: a voice detector that remembers what it heard.

Takes: the windows of a stream, for another detector. Gives: that detector's probabilities, and afterwards the
stretches of voice in any interval that was not forgotten. Knows no segment and no word.
"""

from __future__ import annotations

from collections import deque

from captiond_engine.types import Float32Array, samples_from_ms
from captiond_engine.vad.detector import VoiceDetector

LEAST_PAUSE = samples_from_ms(
    150
)  # what is shorter lies within a word: the closure of a plosive and the like

Stretch = tuple[int, int]  # samples, half open


class RememberingDetector:
    """``VoiceDetector`` that passes everything on to ``detector``; windows are counted from sample 0."""

    def __init__(self, detector: VoiceDetector, least_probability: float) -> None:
        self._detector = detector
        self._least_probability = least_probability
        self._at = 0
        self._voiced: deque[Stretch] = deque()

    @property
    def window(self) -> int:
        return self._detector.window

    def probability(self, window: Float32Array) -> float:
        found = self._detector.probability(window)
        start, self._at = self._at, self._at + len(window)
        if found >= self._least_probability:
            if self._voiced and start - self._voiced[-1][1] < LEAST_PAUSE:
                start = self._voiced.pop()[0]
            self._voiced.append((start, self._at))
        return found

    def reset(self) -> None:
        self._detector.reset()

    def forget(self, before: int) -> None:
        """Nothing of [0, ``before``) will be asked for."""
        while self._voiced and self._voiced[0][1] <= before:
            self._voiced.popleft()

    def stretches(self, start: int, end: int) -> list[Stretch]:
        """The voice in [start, end), in order, with pauses of 150 ms and more between."""
        cut = ((max(a, start), min(b, end)) for a, b in self._voiced)
        return [(a, b) for a, b in cut if a < b]
