"""The values that pass between captiond's parts. Frozen, slotted; they know NumPy and decoding options alone.

Time inside is an integer count of 16 kHz samples since the stream opened. Intervals are half open,
``[start, end)``. Milliseconds exist only in configuration and on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captiond_engine.decoding.options import DecodingOptions, FallbackOptions

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160  # one mel column, 10 ms (openai-whisper audio.py: HOP_LENGTH)
POSITION_SAMPLES = 320  # one encoder column: the second convolution has stride 2

Float32Array = NDArray[np.float32]

# Of a model's weights. What is not float32 is read faster and rounds; a GPU has float32 and bfloat16.
Precision = Literal["float32", "bfloat16", "int8"]


def samples_from_ms(milliseconds: float) -> int:
    """Milliseconds to 16 kHz samples, rounded to the nearest."""
    return round(milliseconds * SAMPLE_RATE_HZ / 1000)


def ms_from_samples(samples: int) -> int:
    """16 kHz samples to whole milliseconds, rounded down, so that order is kept."""
    return samples * 1000 // SAMPLE_RATE_HZ


class EndReason(StrEnum):
    """Why a speech segment ended; the wire's ``speech.ended.reason``."""

    SILENCE = "silence"
    MAX_LENGTH = "max_length"
    FLUSH = "flush"
    END = "end"
    GAP = "gap"


class SuppressReason(StrEnum):
    """Why a segment gave no caption; the wire's ``transcript.suppressed.reason``."""

    NO_SPEECH = "no_speech"
    REPETITION = "repetition"
    LOW_CONFIDENCE = "low_confidence"
    TOO_SHORT = "too_short"


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """Captured audio: ``pcm`` is float32 [samples] in [-1, 1]; ``start`` its first sample's index."""

    stream: str
    start: int
    pcm: Float32Array
    captured_ns: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.pcm)


@dataclass(frozen=True, slots=True)
class SpeechSegment:
    """Speech between silences. ``end`` and ``reason`` are None while it is open."""

    stream: str
    id: int
    start: int
    end: int | None = None
    reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its leading space, its place in samples, and the tokens that spell it.

    ``heeded``: the latest sample that the decoder heeded most while it said one of them; None: not known.
    """

    text: str
    start: int
    end: int
    probability: float
    tokens: tuple[int, ...] = ()
    heeded: int | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the model believes of a segment after hearing it up to ``heard_until``."""

    segment: int
    revision: int
    words: tuple[Word, ...]
    heard_until: int
    last: bool


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one result went, in milliseconds; None where it does not apply."""

    captured_to_heard_ms: float | None = None
    queued_ms: float | None = None
    encode_ms: float | None = None
    decode_ms: float | None = None
    endpoint_to_final_ms: float | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What people are told. ``committed`` grows only at its end; a final has no ``tentative``."""

    segment: int
    revision: int
    committed: str
    tentative: str
    start: int
    heard_until: int
    final: bool
    language: str | None = None
    words: tuple[Word, ...] = ()
    timings: Timings | None = None


# --- what a stream tells the world; the daemon adds the stream's name and ``seq`` ---------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    segment: int
    at: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    segment: int
    at: int
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Suppressed:
    """No caption for a segment. ``text``: what the model said and was held back; for those who ask only."""

    segment: int
    reason: SuppressReason
    text: str = ""


@dataclass(frozen=True, slots=True)
class AudioLost:
    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Flushed:
    """Everything heard up to ``heard_until`` when a flush was asked for has had its final."""

    heard_until: int


StreamEvent = SpeechStarted | SpeechEnded | Transcript | Suppressed | AudioLost | Flushed


# --- work for the device --------------------------------------------------------------------------


class PromptSpec(NamedTuple):
    """What the decoder is told before it speaks; the model turns it into tokens."""

    language: str | None = None  # ISO code, "auto", or None for the model's only language
    prefix: tuple[int, ...] = ()  # committed tokens that the hypothesis must continue
    hints: str = ""  # spelling hints, as the wire's ``prompt``
    task: Literal["transcribe", "translate"] = "transcribe"  # translate: into English


@dataclass(frozen=True, slots=True)
class Window:
    """Audio of one segment for one pass: ``mel`` is float32 [mels, hops], covering [start, end).

    ``mel`` may reach past ``end`` with the silence that pads a window. ``options``: how it is decoded, under
    the prompt's language, prefix, hints and task; None: greedily, without timestamps.
    """

    segment: int
    start: int
    end: int
    mel: Float32Array
    prompt: PromptSpec = field(default_factory=PromptSpec)
    options: DecodingOptions | FallbackOptions | None = None

    @property
    def positions(self) -> int:
        """Encoder positions that are sound; the others are padding."""
        return max(1, -(-(self.end - self.start) // POSITION_SAMPLES))


@dataclass(frozen=True, slots=True)
class Job:
    """One pass asked of the device. A result whose ``generation`` is old is dropped."""

    slot: int
    generation: int
    kind: Literal["partial", "final"]
    deadline: int  # stream time at which the newest sample in it was heard
    payload: Window


@dataclass(frozen=True, slots=True)
class Decoding:
    """The decoder's answer to one row: text tokens without prompt, prefix or end-of-text.

    ``log_probabilities`` has one natural logarithm per token; ``sum_log_probability`` includes
    the end-of-text token, as openai-whisper's ``sum_logprobs`` does. ``timed_tokens``: where timestamps were
    asked for, all tokens with these between them, as they were said; else empty. ``failure``: no temperature
    gave a text that passes, and why, or it is silence; ``held_back``: it failed and is not to be told.
    ``starts``: where each token of the forced prefix and of ``tokens`` begins, and where the last one ends;
    ``heeded``: what each of them was heard in. Samples of the window; empty where the model does not tell.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    sum_log_probability: float = 0.0
    no_speech_probability: float = 0.0
    language: str | None = None
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    truncated: bool = field(default=False)  # the token limit came before end-of-text
    timed_tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    compression_ratio: float | None = None  # of the text, by zlib; None where nobody asked
    language_probabilities: Mapping[str, float] | None = None  # where the language was detected
    failure: SuppressReason | None = None
    held_back: bool = False
    starts: tuple[int, ...] = ()
    heeded: tuple[int, ...] = ()
