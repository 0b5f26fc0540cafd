"""How one stream listens: the lengths and choices that a stream is opened with. Knows no stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from captiond_engine.decoding.options import PLAIN_ONCE, FallbackOptions
from captiond_engine.speech_model import ModelTraits
from captiond_engine.types import samples_from_ms
from captiond_engine.vad.segmenter import SegmenterSettings

RING_SLACK = samples_from_ms(2_000)


class Keep(Enum):
    """The default of ``Stream.configure``: leave as it is."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How one stream listens. All lengths in samples; the segmenter's are explained there.

    ``language``: ISO code, "auto", or None for the model's only one. ``hints``: spelling hints.
    ``partial_step``: a partial pass is due each time the segment crosses a multiple of it; where passes take
    longer, each time as much is new, or ``longest_step``, which who pushes must not wait for.
    ``commit``: the policy by which words are committed; ``commit_hold``: samples before the end of what was
    heard in which it commits none, if it asks for them. ``show_probability``: see ``decoding.showing``.
    ``early_silence``: what ends a segment whose text surely ends a sentence; 0: as any other.
    ``min_speech``: a segment with less voice is suppressed, undecoded. ``ring``: audio that is held;
    speech which is not decoded before it is overwritten is lost, and reported. ``decoding``: how finals are
    decoded; partials are greedy, and share its task and its idea of silence.
    """

    language: str | None = None
    hints: str = ""
    partials: bool = True
    partial_step: int = samples_from_ms(250)
    longest_step: int = samples_from_ms(10_000)
    commit: str = "local-agreement"
    commit_hold: int = samples_from_ms(400)
    show_probability: float = 0.8
    silence: int = samples_from_ms(500)
    early_silence: int = 0
    pre_roll: int = samples_from_ms(300)
    post_roll: int = samples_from_ms(200)
    min_speech: int = samples_from_ms(150)
    max_segment: int = samples_from_ms(25_000)
    cut_search: int = samples_from_ms(4_000)
    vad: str = "webrtc"
    vad_aggressiveness: int = 2
    ring: int = samples_from_ms(35_000)
    decoding: FallbackOptions = PLAIN_ONCE

    def __post_init__(self) -> None:
        if self.partial_step < 1:
            raise ValueError("partial_step must be at least one sample")
        if self.ring < self.max_segment + RING_SLACK:
            raise ValueError(f"ring ({self.ring}) must hold max_segment ({self.max_segment}) and 2 s more")

    def segmenter(self, traits: ModelTraits) -> SegmenterSettings:
        """The part that cuts segments; none is longer than the model's window."""
        longest = min(self.max_segment, traits.max_segment, traits.max_window)
        return SegmenterSettings(
            silence=self.silence,
            pre_roll=self.pre_roll,
            post_roll=min(self.post_roll, self.silence),
            max_segment=longest,
            cut_search=min(self.cut_search, longest // 2),
        )
