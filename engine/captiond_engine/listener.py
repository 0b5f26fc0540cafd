"""The ear of a stream: holds the newest audio, and finds where segments begin and end in it.

Takes: float32 PCM in order. Gives: boundaries of segments. Cuts the audio into the detector's windows on
a grid of its own, so that nothing depends on frames. Knows no model and no words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from captiond_engine.audio.ring import AudioRing
from captiond_engine.types import EndReason, Float32Array
from captiond_engine.vad.detector import VoiceDetector
from captiond_engine.vad.segmenter import Began, Ended, Segmenter, SegmenterSettings


class Listener:
    """``ring`` holds the audio; ``seen`` is the end of the last window that the detector had."""

    def __init__(self, detector: VoiceDetector, settings: SegmenterSettings, capacity: int) -> None:
        self.ring = AudioRing(capacity)
        self.seen = 0
        self._detector = detector
        self._segmenter = Segmenter(settings)

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

    def pieces(self, pcm: Float32Array) -> Iterator[Float32Array]:
        """``pcm`` cut where the detector's windows end; give each to ``hear`` before the next is taken."""
        at = 0
        while at < len(pcm):
            until = at + self.seen + self._detector.window - self.heard_until
            yield pcm[at:until]
            at = until

    def hear(self, piece: Float32Array) -> list[Began | Ended]:
        """Keep ``piece``, overwriting the oldest audio; the boundaries that its window brings."""
        self.ring.append(piece)
        start, end = self.seen, self.seen + self._detector.window
        if self.heard_until < end:
            return []
        self.seen = end
        window = self.ring.read(start, end)
        energy = float(np.dot(window, window)) / len(window)
        return self._segmenter.update(self._detector.probability(window), energy, start, end)

    def end_early(self, silence: int) -> list[Began | Ended]:
        """The open segment ends if it has been silent for ``silence`` samples already."""
        return self._segmenter.end_early(silence)

    def interrupt(self, reason: EndReason) -> list[Began | Ended]:
        """The open segment, if any, ends with what was heard."""
        return self._segmenter.interrupt(self.heard_until, reason)

    def restart(self, at: int) -> None:
        """The timeline goes on at ``at`` after a gap. No segment may be open."""
        self._segmenter.restart(at)
        self.ring.restart(at)
        self._detector.reset()
        self.seen = at
