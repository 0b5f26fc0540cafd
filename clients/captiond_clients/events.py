"""The daemon's events as typed frozen values: one JSON text message in, one Event out.

Times are integer milliseconds since the stream opened. Fields that we do not know are ignored, types that
we do not know become OtherEvent; ``wire`` always holds the message exactly as it came. Knows no socket.
"""

from __future__ import annotations

import msgspec

from captiond_clients.errors import ProtocolError


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every event carries. ``seq`` counts per stream; a hole means that partial states were skipped."""

    type: str
    stream: str | None = None
    seq: int = 0
    wire: str = ""


class Hello(Event, frozen=True, kw_only=True):
    """Always first on a connection. ``epoch`` changes whenever numbering starts over."""

    epoch: str | int
    server: object = None
    model: object = None
    resume: str | None = None
    heard_until_ms: int | None = None
    gap: bool = False


class StreamOpened(Event, frozen=True, kw_only=True):
    source: object = None


class StreamClosed(Event, frozen=True, kw_only=True):
    reason: str = ""
    error: object = None


class SpeechStarted(Event, frozen=True, kw_only=True):
    segment: int
    at_ms: int


class SpeechEnded(Event, frozen=True, kw_only=True):
    segment: int
    at_ms: int
    reason: str


class Partial(Event, frozen=True, kw_only=True):
    """The state of an open segment: show ``committed + tentative``; only ``committed`` is certain to stay."""

    segment: int
    revision: int
    committed: str
    tentative: str
    start_ms: int
    heard_until_ms: int
    timings: dict[str, float | int | None] | None = None


class FinalWord(msgspec.Struct, frozen=True):
    text: str
    start_ms: int
    end_ms: int
    probability: float | None = None


class Final(Event, frozen=True, kw_only=True):
    """A fact: exactly one a segment that had speech, never changed after."""

    segment: int
    text: str
    start_ms: int
    end_ms: int
    language: str | None = None
    words: tuple[FinalWord, ...] | None = None
    timings: dict[str, float | int | None] | None = None


class Suppressed(Event, frozen=True, kw_only=True):
    segment: int
    reason: str
    text: str | None = None


class AudioLost(Event, frozen=True, kw_only=True):
    """Audio that nobody will caption. ``wire`` is empty where the client itself had to drop it."""

    start_ms: int
    end_ms: int
    reason: str


class Lag(Event, frozen=True, kw_only=True):
    behind_ms: int
    level: str


class Flushed(Event, frozen=True, kw_only=True):
    heard_until_ms: int


class ErrorEvent(Event, frozen=True, kw_only=True):
    code: str
    message: str
    fatal: bool = False


class OtherEvent(Event, frozen=True, kw_only=True):
    """An event of a type that this client does not know; its fields are in ``wire``."""


_TYPES: dict[str, type[Event]] = {
    "hello": Hello,
    "stream.opened": StreamOpened,
    "stream.closed": StreamClosed,
    "speech.started": SpeechStarted,
    "speech.ended": SpeechEnded,
    "transcript.partial": Partial,
    "transcript.final": Final,
    "transcript.suppressed": Suppressed,
    "audio.lost": AudioLost,
    "lag": Lag,
    "flushed": Flushed,
    "error": ErrorEvent,
}


def parse(message: str) -> Event:
    """One text message of the daemon; ProtocolError when it is not an event of version 1."""
    try:
        fields = msgspec.json.decode(message, type=dict[str, object])
        kind = _TYPES.get(str(fields.get("type")), OtherEvent)
        return msgspec.convert({**fields, "wire": message}, kind)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"The daemon sent what is no event: {error}.") from error
