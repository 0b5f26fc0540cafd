"""One segment on its way from its first sample to its final.

Takes: the ring's audio, and the decodings of passes over its beginning. Gives: windows for passes, and
the transcripts that people are told, with what was committed never taken back. Knows no detector, no
scheduler and no clock; which pass is due when is ``stream``'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from captiond_engine.audio.mel import LogMel
from captiond_engine.audio.ring import AudioRing
from captiond_engine.decoding.align import Detokenizer, in_order, join
from captiond_engine.decoding.commit import open_policy
from captiond_engine.decoding.ending import surely_ended
from captiond_engine.decoding.guards import is_unsure, refusal, without_loop, without_unvoiced
from captiond_engine.decoding.placing import out_of_pauses
from captiond_engine.decoding.showing import Composure, Steadiness
from captiond_engine.speech_model import ModelTraits
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import (
    HOP_SAMPLES,
    AudioLost,
    Decoding,
    Hypothesis,
    PromptSpec,
    Suppressed,
    SuppressReason,
    Timings,
    Transcript,
    Window,
    Word,
    samples_from_ms,
)

SHORTEST_PAUSE = samples_from_ms(200)  # shorter ones lie within words


@dataclass(frozen=True, slots=True)
class Heard:
    """What one finished pass over [segment start, ``end``) gave. ``held_back``: a text that is not told, and
    ``reason`` why."""

    end: int
    words: tuple[Word, ...]
    language: str | None
    timings: Timings
    held_back: str = ""
    reason: SuppressReason = SuppressReason.NO_SPEECH


class Pass(NamedTuple):
    """One pass over [segment start, ``end``)."""

    segment: LiveSegment
    end: int
    kind: Literal["partial", "final"]

    @property
    def urgency(self) -> int:
        """0: of an ended segment; 1: of a pause; 2: a partial."""
        if self.segment.end is not None:
            return 0
        return 1 if self.kind == "final" else 2


class LiveSegment:
    """``end`` is None while the segment is open; ``outcome`` once it has its final or is suppressed."""

    def __init__(
        self,
        number: int,
        start: int,
        onset: int,
        *,
        traits: ModelTraits,
        detokenizer: Detokenizer,
        settings: StreamSettings,
        prompt: PromptSpec,
        commit_limit: int,
        composure: Composure | None = None,
        continued: bool = False,
    ) -> None:
        self.number = number
        self.start = start
        self.continued = continued
        self.end: int | None = None
        self.speech_end = onset
        self.voiced = 0  # samples
        self._pauses: list[tuple[int, int]] = []
        self.covered = start  # end of the newest finished pass
        self.asked_partial = start  # end of the newest pass asked for
        self.partial_took = 0  # samples of time that the newest finished one took
        self.asked_final: int | None = None  # end of the newest final asked for
        self.failures = 0
        self.settled: Heard | None = None  # the final, if the segment ends where this pass did
        self.is_said = False  # it surely ends a sentence
        self.outcome: Transcript | Suppressed | None = None
        self._onset = onset
        self._traits = traits
        self._detokenizer = detokenizer
        self._policy = open_policy(settings.commit, settings.commit_hold)
        self._steadiness = Steadiness(settings.show_probability, composure)
        self._prompt = prompt
        self._decoding = settings.decoding
        self._commit_limit = commit_limit  # audio beyond it may yet fall to the next segment
        self._mel = LogMel(traits.mels)
        self._revision = 0
        self._words: tuple[Word, ...] = ()
        self._committed: tuple[Word, ...] = ()
        self._shown = ("", "")

    def follow(self, speech_end: int, voiced: int) -> None:
        """The last voice heard in it ended at ``speech_end``, and ``voiced`` samples of it are voice."""
        resumed = speech_end - (voiced - self.voiced)
        if resumed - self.speech_end >= SHORTEST_PAUSE:
            self._pauses.append((self.speech_end, resumed))
        self.speech_end, self.voiced = speech_end, voiced

    @property
    def committed_text(self) -> str:
        return _text(self._committed)

    @property
    def needs_from(self) -> int | None:
        """First sample that the ring must still hold for this segment; None: it has all it needs."""
        heard = self.start + self._mel.samples
        if self.outcome is not None or heard == self.end:
            return None
        return self.start if self.end is not None and heard > self.end else heard

    def partial_end(self, seen: int, step: int, longest: int) -> int | None:
        """Where a partial ends that is due after hearing ``seen``; None: none is.

        On a grid of ``step``; where the last one took longer, at ``seen``, once it or ``longest`` is new.
        """
        if self.partial_took > step:
            return seen if seen - self.asked_partial >= min(self.partial_took, longest) else None
        end = self.start + (seen - self.start) // step * step
        return end if end > self.asked_partial else None

    def hear(self, ring: AudioRing, end: int) -> None:
        """Take the audio up to ``end`` out of the ring. Raises LookupError if it is not there."""
        if self.start + self._mel.samples > end:  # cut back where a long segment was divided
            self._mel = LogMel(self._traits.mels)
        if self.start + self._mel.samples < end:
            self._mel.extend(ring.read(self.start + self._mel.samples, end))

    def window(self, ring: AudioRing, end: int, kind: Literal["partial", "final"]) -> Window:
        """The audio of a pass over [start, ``end``), with what the decoder is told before it."""
        force = kind == "partial"
        prefix = tuple(token for word in self._committed for token in word.tokens) if force else ()
        prompt = self._prompt._replace(prefix=prefix)
        self.hear(ring, end)
        options = None if force or self._decoding.is_plain else self._decoding
        return Window(self.number, self.start, end, self._mel.window(self._hops(end, kind)), prompt, options)

    def read(
        self, window: Window, decoding: Decoding, queued_ms: float | None, *, last: bool = True
    ) -> Heard:
        """What a finished pass gave. What it says otherwise than was committed stays as it was told.

        ``last``: it may be the final.
        """
        prefix = self._committed if window.prompt.prefix else ()
        until = max(self._onset, min(window.end, self.speech_end))
        words = tuple(self._detokenizer.words(decoding, self._onset, until, prefix, origin=window.start))
        held_back, reason = "", self._refusal(decoding, words, last=last)
        if reason is not None:
            held_back, words = _text(words).rstrip(), ()
        else:
            words = tuple(without_unvoiced(without_loop(words, decoding), self._onset, until))
        if not _continues(_text(words), self.committed_text):
            words = tuple(in_order(join(self._committed, words), self._onset, until))
        words = out_of_pauses(words, self._pauses)
        timings = Timings(
            queued_ms=queued_ms,
            encode_ms=decoding.encode_ms,
            decode_ms=decoding.decode_ms,
            tokens=len(decoding.tokens),
        )
        language = decoding.language or self._prompt.language
        return Heard(window.end, words, language, timings, held_back, reason or SuppressReason.NO_SPEECH)

    def _refusal(self, decoding: Decoding, words: Sequence[Word], *, last: bool) -> SuppressReason | None:
        """Why what a pass said is not told, if so. Neither silence nor doubt unsays what was committed."""
        thresholds = self._decoding.thresholds
        reason = refusal(decoding, words, self.voiced, thresholds)
        if reason is None and last and not self._committed and is_unsure(decoding, words, thresholds):
            return SuppressReason.LOW_CONFIDENCE
        silent = reason is SuppressReason.NO_SPEECH
        return None if silent and self._committed else reason

    def settle(self, heard: Heard) -> None:
        """A pass of a pause: the final, if nobody speaks again."""
        self.settled = heard
        self.is_said = surely_ended(heard.words)

    @property
    def settled_at(self) -> int | None:
        """End of the pass of a pause, if there was one."""
        return None if self.settled is None else self.settled.end

    def tell(self, heard: Heard, *, show: bool = True) -> Transcript | None:
        """The new state to show after a pass; None where nothing changed or nothing is to be shown."""
        self.covered = max(self.covered, heard.end)
        if not show:
            return None
        self._words = heard.words
        known = _count_covering(heard.words, self.committed_text)
        hypothesis = Hypothesis(self.number, self._revision + 1, heard.words, heard.end, last=False)
        agreed = self._policy.update(hypothesis, known)
        if heard.end > self._commit_limit:
            agreed = known
        agreed = self._within_prefix_limit(heard.words, agreed)
        if agreed > known:
            last = self._detokenizer.without_final_marks(heard.words[agreed - 1])
            self._committed = (*heard.words[: agreed - 1], last)
        shown = self.committed_text, self._tentative(heard.words, max(known, agreed))
        if shown == self._shown:
            return None
        self._shown = shown
        self._revision += 1
        return Transcript(
            self.number,
            self._revision,
            *shown,
            start=self.start,
            heard_until=heard.end,
            final=False,
            language=heard.language,
            words=heard.words,
            timings=heard.timings,
        )

    def _tentative(self, words: Sequence[Word], committed: int) -> str:
        """What is shown behind what is committed. A sentence that ends where the audio does may yet go on."""
        shown = list(self._steadiness.update(words, committed))
        if shown and len(shown) > committed:
            shown[-1] = self._detokenizer.without_final_marks(shown[-1])
        return _text(shown)[len(self.committed_text) :].rstrip()

    def finish(self, heard: Heard) -> None:
        """The final is there: ``outcome`` is it, or a suppression where it has no words."""
        assert self.end is not None
        self.covered = self.end
        text = _text(heard.words).rstrip()
        self._steadiness.end(heard.words)
        if not text:
            self.outcome = Suppressed(self.number, heard.reason, heard.held_back)
            return
        self._revision += 1
        self.outcome = Transcript(
            self.number,
            self._revision,
            committed=text,
            tentative="",
            start=self.start,
            heard_until=self.end,
            final=True,
            language=heard.language,
            words=tuple(in_order(heard.words, self._onset, max(self._onset, self.speech_end))),
            timings=heard.timings,
        )

    def give_up(self, reason: str) -> list[AudioLost]:
        """No final will come. What was last shown becomes the final; the rest is reported lost.

        Where nothing was shown, all of it is lost and the segment is suppressed for low confidence.
        """
        assert self.end is not None
        lost_from = self.covered if self._words else self.start
        if self._words:
            self.finish(Heard(self.covered, self._words, self._prompt.language, Timings()))
        else:
            self.suppress(SuppressReason.LOW_CONFIDENCE)
        return [AudioLost(lost_from, self.end, reason)] if lost_from < self.end else []

    def suppress(self, reason: SuppressReason) -> None:
        self._steadiness.end(())
        self.outcome = Suppressed(self.number, reason)

    def _hops(self, end: int, kind: Literal["partial", "final"]) -> int:
        choice = self._traits.window_partial if kind == "partial" else self._traits.window_final
        return self._traits.window_length(end - self.start, choice) // HOP_SAMPLES

    def _within_prefix_limit(self, words: Sequence[Word], count: int) -> int:
        """As many of the first ``count`` words as the decoder can be made to repeat."""
        tokens = 0
        for i, word in enumerate(words[:count]):
            tokens += len(word.tokens)
            if tokens > self._traits.max_prefix_tokens:
                return i
        return count


def _text(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words).lstrip()


def _continues(text: str, committed: str) -> bool:
    """``text`` begins with ``committed``, and not merely with the first letters of a longer word."""
    rest = text[len(committed) :]
    return text.startswith(committed) and not (committed and rest and rest[0].isalnum())


def _count_covering(words: Sequence[Word], committed: str) -> int:
    """The least number of first words whose text holds all of ``committed``."""
    count = 0
    while len(_text(words[:count])) < len(committed):
        count += 1
    return count
