"""From samples to what is decoded at once: speech between silences, neighbours packed into one window.

Takes: float32 PCM in order. Gives: passages, each with its audio, in order. Boundaries are the live stream's
own (``Listener``), so nothing depends on how the audio was cut into blocks. Of the audio no more is held than
may yet become part of a passage. Knows no model and no words.

Neighbours share a window because Whisper was trained on 30 s of connected speech, and because a window costs
the same however much speech is in it: "cut and merge" of WhisperX (Bain et al., 2023, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from captiond_engine.listener import Listener
from captiond_engine.stream_settings import RING_SLACK
from captiond_engine.types import EndReason, Float32Array, samples_from_ms
from captiond_engine.vad.detector import VoiceDetector
from captiond_engine.vad.segmenter import Began, Ended, SegmenterSettings
from captiond_engine.vad.voiced import RememberingDetector, Stretch

QUIET = samples_from_ms(90)  # where a passage may be cut in two, as long as the segmenter's three windows


class Speech(NamedTuple):
    """Speech in [start, end), or several such with silence between. ``onset``, ``speech_end``: its voice.

    ``short``: too little voice to be decoded by itself.
    """

    start: int
    onset: int
    speech_end: int
    end: int
    reason: EndReason
    short: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """What is decoded at once: its audio, float32 [samples], and where in it voice was heard.

    Nothing of speech that is ``short`` is decoded, and no audio is kept of it.
    """

    speech: Speech
    pcm: Float32Array
    stretches: tuple[Stretch, ...]

    def halves(self) -> tuple[Passage, Passage]:
        """Cut in two: in the longest pause of the middle half, else where that is quietest."""
        speech, quarter = self.speech, len(self.pcm) // 4
        first, last = speech.start + quarter, speech.end - quarter
        pauses = [
            (after - before, (before + after) // 2)
            for (_, before), (after, _) in zip(self.stretches, self.stretches[1:], strict=False)
            if first <= (before + after) // 2 <= last
        ]
        at = max(pauses)[1] if pauses else speech.start + _quietest(self.pcm, quarter, 3 * quarter)
        cut = Speech(speech.start, speech.onset, min(speech.speech_end, at), at, EndReason.MAX_LENGTH)
        rest = Speech(at, max(speech.onset, at), max(speech.speech_end, at), speech.end, speech.reason)
        split = at - speech.start
        return (
            Passage(cut, self.pcm[:split].copy(), _within(self.stretches, cut)),
            Passage(rest, self.pcm[split:].copy(), _within(self.stretches, rest)),
        )


class Packer:
    """Hears blocks; each call gives the passages that are complete.

    ``longest``: samples from the first to the last of what shares a window; 0: every segment is a passage.
    ``min_speech``: voice in samples below which a segment is short.
    """

    def __init__(
        self, detector: VoiceDetector, settings: SegmenterSettings, *, longest: int, min_speech: int
    ) -> None:
        self._longest = longest
        self._min_speech = min_speech
        self._silence = settings.silence
        # How far before what was seen last a segment may yet begin.
        self._reach = settings.pre_roll + settings.memory_windows * detector.window
        self._voice = RememberingDetector(detector, settings.hold_probability)
        capacity = max(longest, settings.max_segment) + settings.silence + RING_SLACK
        self._listener = Listener(self._voice, settings, capacity)
        self._began: Began | None = None
        self._group: list[Speech] = []  # the first is not short; may share a window with what comes next
        self._given = 0  # the end of the newest passage
        self._closed = False

    def hear(self, pcm: Float32Array) -> list[Passage]:
        """The next block."""
        complete: list[Passage] = []
        for piece in self._listener.pieces(pcm):
            self._listener.keep(piece)
            if (step := self._listener.step()) is not None:
                complete += self._follow(step.boundaries)
            # All speech that ends from now on ends too late for the group?
            if self._group and self._listener.seen - self._silence >= self._group[0].start + self._longest:
                complete += self._close_group()
        return self._give(complete)

    def close(self) -> list[Passage]:
        """No more audio will come."""
        self._listener.cut(EndReason.END)
        last = self._listener.step()
        complete = self._follow(last.boundaries if last is not None else []) + self._close_group()
        self._closed = True
        return self._give(complete)

    @property
    def heard_until(self) -> int:
        return self._listener.heard_until

    @property
    def open_since(self) -> int:
        """What was heard before this is silent, or part of a passage that was given."""
        if self._group:
            return self._group[0].start
        if self._began is not None:
            return self._began.at
        return self.heard_until if self._closed else max(self._given, self._listener.seen - self._reach)

    @property
    def held(self) -> int:
        """Samples that are kept."""
        return self._listener.ring.end - self._listener.ring.oldest

    def _give(self, complete: list[Passage]) -> list[Passage]:
        if complete:
            self._given = complete[-1].speech.end
        self._voice.forget(self.open_since)
        return complete

    def _follow(self, boundaries: list[Began | Ended]) -> list[Passage]:
        complete: list[Passage] = []
        for boundary in boundaries:
            if isinstance(boundary, Began):
                self._began = boundary
            else:
                complete += self._end(boundary)
        return complete

    def _end(self, ended: Ended) -> list[Passage]:
        began, self._began = self._began, None
        assert began is not None
        short = ended.voiced < self._min_speech and not began.continued
        speech = Speech(began.at, began.onset, ended.speech_end, ended.at, ended.reason, short)
        if short and not self._group:
            return [_short(speech)]
        complete: list[Passage] = []
        if self._group and not short and speech.end - self._group[0].start > self._longest:
            complete = self._close_group()
        self._group.append(speech)
        return complete

    def _close_group(self) -> list[Passage]:
        """One passage of the group. Short speech goes along where it lies between other speech."""
        group, self._group = self._group, []
        tail: list[Passage] = []
        while group and group[-1].short:
            tail.insert(0, _short(group.pop()))
        if not group:
            return tail
        first, last = group[0], group[-1]
        whole = Speech(first.start, first.onset, last.speech_end, last.end, last.reason)
        pcm = self._listener.ring.read(whole.start, whole.end)
        return [Passage(whole, pcm, _within(self._voice.stretches(whole.start, whole.end), whole)), *tail]


def _short(speech: Speech) -> Passage:
    return Passage(speech, np.zeros(0, np.float32), ())


def _within(stretches: Iterable[Stretch], speech: Speech) -> tuple[Stretch, ...]:
    """What of ``stretches`` lies in the voiced part of ``speech``; all of that part where nothing does."""
    cut = ((max(a, speech.onset), min(b, speech.speech_end)) for a, b in stretches)
    whole = (speech.onset, max(speech.onset, speech.speech_end))
    return tuple((a, b) for a, b in cut if a < b) or (whole,)


def _quietest(pcm: Float32Array, first: int, last: int) -> int:
    """The middle of the ``QUIET`` samples with the least energy in [first, last)."""
    energy = np.cumsum(np.square(pcm[first:last], dtype=np.float64))
    if len(energy) <= QUIET:
        return (first + last) // 2
    return first + int(np.argmin(energy[QUIET:] - energy[:-QUIET])) + QUIET // 2
