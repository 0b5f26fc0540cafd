"""The ear of a stream: holds the newest audio, and finds where segments begin and end in it.

Takes: float32 PCM in order. Gives: boundaries of segments. Cuts the audio into the detector's windows on
a grid of its own, so that nothing depends on frames. What it holds it need not have listened to yet: whoever
asks for a window may wait with it. Knows no model and no words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from captiond_engine.audio.ring import AudioRing
from captiond_engine.types import EndReason, Float32Array
from captiond_engine.vad.detector import VoiceDetector
from captiond_engine.vad.segmenter import Began, Ended, Segmenter, SegmenterSettings


class Step(NamedTuple):
    """What listening to one window brought; or coming to where the audio was cut off: why, and at ``at``."""

    boundaries: list[Began | Ended]
    at: int
    cut: EndReason | None = None


class Listener:
    """``ring`` holds the audio; ``seen`` is the end of the last window that the detector had."""

    def __init__(self, detector: VoiceDetector, settings: SegmenterSettings, capacity: int) -> None:
        self.ring = AudioRing(capacity)
        self.seen = 0
        self._detector = detector
        self._segmenter = Segmenter(settings)
        self._cuts: deque[tuple[int, EndReason]] = deque()

    @property
    def heard_until(self) -> int:
        return self.ring.end

    @property
    def voiced(self) -> int:
        """Voiced samples of the open segment."""
        return self._segmenter.voiced

    @property
    def speech_end(self) -> int:
        """End of the last voiced window of the open segment."""
        return self._segmenter.speech_end

    @property
    def quiet_end(self) -> int | None:
        """Where the open segment ends if nobody speaks again; None while that is not fully heard."""
        return self._segmenter.quiet_end

    @property
    def silence(self) -> int:
        """Samples since the last voiced window of the open segment; 0 where none is open."""
        return self.seen - self._segmenter.speech_end if self._segmenter.is_open else 0

    @property
    def unseen(self) -> int:
        """Samples that are held and were not listened to yet: less than a window, unless somebody waits."""
        return self.heard_until - self.seen

    def pieces(self, pcm: Float32Array) -> Iterator[Float32Array]:
        """``pcm`` cut where the detector's windows end; ``keep`` each before the next is taken."""
        at = 0
        while at < len(pcm):
            until = at + self._detector.window - self.unseen % self._detector.window
            yield pcm[at:until]
            at = until

    def keep(self, piece: Float32Array) -> None:
        """Hold ``piece``, overwriting the oldest audio."""
        self.ring.append(piece)

    def cut(self, reason: EndReason) -> None:
        """What was heard up to here is cut off here, once ``step`` has come to it."""
        self._cuts.append((self.heard_until, reason))

    @property
    def cuts(self) -> int:
        """How many cuts ``step`` has not come to."""
        return len(self._cuts)

    def step(self) -> Step | None:
        """Listen to the next window, or end the segment where the audio was cut off; None: all is heard."""
        end = self.seen + self._detector.window
        if self._cuts and self._cuts[0][0] < end:
            at, reason = self._cuts.popleft()
            return Step(self._segmenter.interrupt(at, reason), at, reason)
        if self.heard_until < end:
            return None
        window = self.ring.read(self.seen, end)
        energy = float(np.dot(window, window)) / len(window)
        start, self.seen = self.seen, end
        probability = self._detector.probability(window)
        return Step(self._segmenter.update(probability, energy, start, end), end)

    def end_early(self, silence: int) -> list[Began | Ended]:
        """The open segment ends if it has been silent for ``silence`` samples already."""
        return self._segmenter.end_early(silence)

    def restart(self, at: int) -> None:
        """The timeline goes on at ``at`` after a gap. No segment may be open."""
        self._segmenter.restart(at)
        self.ring.restart(at)
        self._detector.reset()
        self.seen = at
