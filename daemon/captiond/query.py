"""The query of a websocket's address: text in, checked values out.

An unknown parameter is ignored; a known one with a wrong value is a ``ClientError`` that names it.
Knows no socket and no stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast, get_args
from urllib.parse import parse_qsl

from captiond_engine.audio.pcm import LEAST_RATE_HZ, MOST_CHANNELS, MOST_RATE_HZ, Encoding

from captiond.config import STREAM_NAME
from captiond.containers import media
from captiond.messages import ClientError, quote

T = TypeVar("T")
EventChoice = Literal["all", "final", "none"]

ENCODINGS: tuple[str, ...] = (*get_args(Encoding), *media.STREAMED)
MAX_HISTORY = 1_000
DEFAULT_HISTORY = 20


@dataclass(frozen=True, slots=True)
class View:
    """What one client wants to see of the events."""

    events: EventChoice = "all"
    words: bool = False
    timings: bool = False


@dataclass(frozen=True, slots=True)
class SpeakQuery:
    stream: str | None
    encoding: str
    rate_hz: int
    channels: int
    language: str | None
    prompt: str
    view: View
    resume: str | None
    epoch: str | None
    since: int | None


@dataclass(frozen=True, slots=True)
class CaptionsQuery:
    stream: str
    view: View
    history: int
    epoch: str | None
    since: int | None


class Parameters:
    """The parameters of one address. Raises ClientError for one that is given twice."""

    def __init__(self, target: str) -> None:
        self._values: dict[str, str] = {}
        try:
            pairs = parse_qsl(
                target.partition("?")[2], keep_blank_values=True, errors="strict", max_num_fields=64
            )
        except (ValueError, UnicodeDecodeError):
            raise ClientError("invalid_query", "The query of the address cannot be read.") from None
        for name, value in pairs:
            if name in self._values:
                raise ClientError("invalid_query", f"{quote(name)} is given twice.")
            self._values[name] = value

    def read(self, name: str, default: T, parse: Callable[[str], T | None], expected: str) -> T:
        """The value of ``name``. ``parse`` gives None for a value that is not ``expected``."""
        if name not in self._values:
            return default
        value = parse(self._values[name])
        if value is None:
            raise ClientError("invalid_query", f"{name} must be {expected}, not {quote(self._values[name])}.")
        return value

    def text(self, name: str) -> str | None:
        return self._values.get(name) or None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        return self.read(
            name, default, lambda text: _whole(text, low, high), f"a number from {low} to {high}"
        )

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``, the first by default."""
        return self.read(
            name, choices[0], lambda text: text if text in choices else None, f"one of {', '.join(choices)}"
        )

    def flag(self, name: str) -> bool:
        return self.choice(name, ("0", "1")) == "1"

    def view(self, choices: tuple[str, ...]) -> View:
        events = cast(EventChoice, self.choice("events", choices))
        return View(events, words=self.flag("words"), timings=self.flag("timings"))

    def since(self) -> int | None:
        value = self.number("since", -1, 0, 2**53)
        return None if value < 0 else value


def parse_speak(target: str) -> SpeakQuery:
    """The query of ``/v1/speak``."""
    given = Parameters(target)
    stream = given.read("stream", "", _name, "1 to 64 letters, digits, dots, dashes or underscores")
    return SpeakQuery(
        stream=stream or None,
        encoding=given.choice("encoding", ENCODINGS),
        rate_hz=given.number("rate", 16_000, LEAST_RATE_HZ, MOST_RATE_HZ),
        channels=given.number("channels", 1, 1, MOST_CHANNELS),
        language=given.text("language"),
        prompt=given.text("prompt") or "",
        view=given.view(("all", "final", "none")),
        resume=given.text("resume"),
        epoch=given.text("epoch"),
        since=given.since(),
    )


def parse_captions(target: str) -> CaptionsQuery:
    """The query of ``/v1/captions``."""
    given = Parameters(target)
    return CaptionsQuery(
        stream=given.read(
            "stream", "*", lambda text: "*" if text == "*" else _name(text), "a stream's name or *"
        ),
        view=given.view(("all", "final")),
        history=given.number("history", DEFAULT_HISTORY, 0, MAX_HISTORY),
        epoch=given.text("epoch"),
        since=given.since(),
    )


def _name(text: str) -> str | None:
    return text if STREAM_NAME.fullmatch(text) else None


def _whole(text: str, low: int, high: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    value = int(text)
    return value if low <= value <= high else None
