"""What the configuration and a model's card together ask of a stream: milliseconds in, samples out."""

from __future__ import annotations

from dataclasses import replace

from captiond_engine.speech_model import ModelTraits
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import samples_from_ms

from captiond.config import Config
from captiond.decoding_config import fallback_options

PIECE_SLACK = samples_from_ms(1_000)
RING_SLACK_MS = 5_000  # beyond what is read ahead: an open segment's start must not be overwritten


def stream_settings(
    config: Config, traits: ModelTraits, language: str | None, hints: str, *, partials: bool = True
) -> StreamSettings:
    """Settings of one stream. A segment is never longer than the model hears at once."""
    segment = config.segment
    silence = samples_from_ms(segment.silence_ms)
    patience = samples_from_ms(segment.unfinished_silence_ms) or traits.unfinished_silence
    early = samples_from_ms(segment.early_silence_ms)
    if patience > silence:  # the segmenter waits for the longer; a text that ends a sentence need not
        silence, early = patience, early or silence
    max_segment = min(samples_from_ms(segment.max_segment_ms), traits.max_segment)
    step = samples_from_ms(segment.partial_step_ms)
    return StreamSettings(
        language=language,
        hints=hints,
        partials=partials,
        partial_step=step,
        longest_step=max(step, samples_from_ms(config.limits.read_ahead_ms // 2)),  # less than is read ahead
        commit=traits.commit if segment.commit == "auto" else segment.commit,
        commit_hold=samples_from_ms(segment.commit_hold_ms) or traits.commit_hold,
        show_probability=segment.show_probability,
        early_silence=early,
        silence=silence,
        pre_roll=samples_from_ms(segment.pre_roll_ms),
        post_roll=samples_from_ms(segment.post_roll_ms),
        min_speech=samples_from_ms(segment.min_speech_ms),
        max_segment=max_segment,
        vad=segment.vad,
        vad_aggressiveness=segment.vad_aggressiveness,
        decoding=fallback_options(config.decoding, traits.unsure),
        ring=samples_from_ms(config.limits.read_ahead_ms + RING_SLACK_MS) + max_segment,
    )


def recording_settings(
    config: Config, traits: ModelTraits, language: str | None, hints: str
) -> StreamSettings:
    """Settings of a recording, which is cut before any of it is decoded: no text tells how long to wait."""
    settings = stream_settings(config, traits, language, hints, partials=False)
    return replace(settings, silence=samples_from_ms(config.segment.silence_ms), early_silence=0)


def read_ahead(config: Config, settings: StreamSettings) -> int:
    """Samples of speech that may wait for a pass before reading stops.

    Never less than what must be heard before a pass falls due, or reading would stop for ever.
    """
    due = settings.partial_step + settings.min_speech if settings.partials else settings.max_segment
    return max(samples_from_ms(config.limits.read_ahead_ms), due + settings.post_roll + PIECE_SLACK)
