"""The JSON of protocol version 1: the events that the daemon sends.

Takes: engine events in samples. Gives: the exact shapes of the wire, in whole milliseconds. Knows no
socket, no stream and no history; ``seq`` and ``stream`` are filled in by the hub.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from captiond_engine import types as heard
from captiond_engine.types import ms_from_samples
from msgspec import UNSET, Struct, UnsetType

VERSION = 1

CLOSE_DONE = 1000
CLOSE_SHUTDOWN = 1001
CLOSE_WRONG_KIND = 1003
CLOSE_POLICY = 1008
CLOSE_INTERNAL = 1011
CLOSE_OVERLOADED = 1013


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """One message to a client.

    ``reach``: the values of ``events=`` under which a client gets it. ``answer``: it answers the speaker,
    and nobody else is told; the others see its number skipped.
    """

    answer: ClassVar[bool] = False
    reach: ClassVar[frozenset[str]] = frozenset({"all"})
    v: int = VERSION
    stream: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET


class _FinalEvent(Event, frozen=True, kw_only=True):
    reach: ClassVar[frozenset[str]] = frozenset({"all", "final"})


class _AlwaysEvent(Event, frozen=True, kw_only=True):
    reach: ClassVar[frozenset[str]] = frozenset({"all", "final", "none"})


class Timings(Struct, frozen=True, kw_only=True):
    captured_to_heard_ms: int | None
    queued_ms: int | None
    encode_ms: int | None
    decode_ms: int | None
    endpoint_to_final_ms: int | UnsetType = UNSET
    tokens: int


class Word(Struct, frozen=True, kw_only=True):
    text: str
    start_ms: int
    end_ms: int
    probability: float


class Hello(_AlwaysEvent, frozen=True, kw_only=True, tag="hello"):
    server: str
    epoch: str
    model: str
    resume: str | UnsetType = UNSET
    heard_until_ms: int | UnsetType = UNSET
    gap: bool | UnsetType = UNSET


class StreamOpened(_FinalEvent, frozen=True, kw_only=True, tag="stream.opened"):
    source: str


class StreamClosed(_AlwaysEvent, frozen=True, kw_only=True, tag="stream.closed"):
    reason: str
    error: str | UnsetType = UNSET


class SpeechStarted(Event, frozen=True, kw_only=True, tag="speech.started"):
    segment: int
    at_ms: int


class SpeechEnded(Event, frozen=True, kw_only=True, tag="speech.ended"):
    segment: int
    at_ms: int
    reason: str


class Partial(Event, frozen=True, kw_only=True, tag="transcript.partial"):
    segment: int
    revision: int
    committed: str
    tentative: str
    start_ms: int
    heard_until_ms: int
    timings: Timings | UnsetType = UNSET


class Final(_FinalEvent, frozen=True, kw_only=True, tag="transcript.final"):
    segment: int
    text: str
    start_ms: int
    end_ms: int
    language: str | None
    words: tuple[Word, ...] | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET


class Suppressed(Event, frozen=True, kw_only=True, tag="transcript.suppressed"):
    segment: int
    reason: str
    text: str | UnsetType = UNSET


class AudioLost(_FinalEvent, frozen=True, kw_only=True, tag="audio.lost"):
    start_ms: int
    end_ms: int
    reason: str


class Lag(Event, frozen=True, kw_only=True, tag="lag"):
    behind_ms: int
    level: Literal["warn", "ok"]


class Flushed(_AlwaysEvent, frozen=True, kw_only=True, tag="flushed"):
    answer: ClassVar[bool] = True
    heard_until_ms: int


class Configured(_AlwaysEvent, frozen=True, kw_only=True, tag="configured"):
    answer: ClassVar[bool] = True
    language: str | UnsetType = UNSET


class Error(_AlwaysEvent, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    fatal: bool


def encode(event: Event) -> bytes:
    """UTF-8 JSON, ``type`` first."""
    return msgspec.json.encode(event)


def from_engine(event: heard.StreamEvent, *, first_segment: int = 0, suppressed_text: bool = False) -> Event:
    """One event of a stream as the wire says it. ``first_segment`` is added to segment numbers."""
    match event:
        case heard.SpeechStarted(segment=segment, at=at):
            return SpeechStarted(segment=first_segment + segment, at_ms=ms_from_samples(at))
        case heard.SpeechEnded(segment=segment, at=at, reason=reason):
            return SpeechEnded(segment=first_segment + segment, at_ms=ms_from_samples(at), reason=str(reason))
        case heard.Transcript():
            return _transcript(event, first_segment)
        case heard.Suppressed(segment=segment, reason=why, text=text):
            shown: str | UnsetType = text.strip() if suppressed_text and text else UNSET
            return Suppressed(segment=first_segment + segment, reason=str(why), text=shown)
        case heard.AudioLost(start=start, end=end, reason=lost):
            return AudioLost(start_ms=ms_from_samples(start), end_ms=ms_from_samples(end), reason=lost)
        case heard.Flushed(heard_until=heard_until):
            return Flushed(heard_until_ms=ms_from_samples(heard_until))


def _transcript(told: heard.Transcript, first_segment: int) -> Event:
    segment, start_ms = first_segment + told.segment, ms_from_samples(told.start)
    # Whisper's words carry their leading space; a line begins without one.
    committed = told.committed.lstrip()
    if not told.final:
        return Partial(
            segment=segment,
            revision=told.revision,
            committed=committed,
            tentative=told.tentative if committed else told.tentative.lstrip(),
            start_ms=start_ms,
            heard_until_ms=ms_from_samples(told.heard_until),
            timings=_timings(told.timings),
        )
    return Final(
        segment=segment,
        text=committed,
        start_ms=start_ms,
        end_ms=ms_from_samples(told.heard_until),
        language=told.language,
        words=tuple(
            Word(
                text=word.text.strip(),
                start_ms=ms_from_samples(word.start),
                end_ms=ms_from_samples(word.end),
                probability=round(word.probability, 3),
            )
            for word in told.words
        ),
        timings=_timings(told.timings),
    )


def _timings(timings: heard.Timings | None) -> Timings | UnsetType:
    if timings is None:
        return UNSET
    endpoint = timings.endpoint_to_final_ms
    return Timings(
        captured_to_heard_ms=_whole(timings.captured_to_heard_ms),
        queued_ms=_whole(timings.queued_ms),
        encode_ms=_whole(timings.encode_ms),
        decode_ms=_whole(timings.decode_ms),
        endpoint_to_final_ms=UNSET if endpoint is None else round(endpoint),
        tokens=timings.tokens,
    )


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)
