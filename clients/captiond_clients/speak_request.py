"""What a speaker asks of a daemon, as the addresses that say so. Knows no socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captiond_clients.audio_outbox import AudioShape
from captiond_clients.connection import websocket_url
from captiond_clients.events import AudioLost, Event, Final, Hello, StreamOpened


@dataclass(frozen=True, slots=True)
class SpeakRequest:
    """The query of ``/v1/speak`` and how long to wait for a daemon that went away."""

    url: str
    stream: str | None
    shape: AudioShape
    language: str | None
    prompt: str | None
    words: bool
    timings: bool
    events: Literal["all", "final", "none"]
    token: str | None
    patience_s: float

    def wants(self, event: Event) -> bool:
        """Whether the caller is to see it: what answers a caller who wants no captions is no caption."""
        return self.events != "none" or not isinstance(event, StreamOpened | Final | AudioLost)

    @property
    def _asked(self) -> Literal["all", "final"]:
        """Finals say what need not be sent again; so they are asked for where the caller wants none."""
        return "all" if self.events == "all" else "final"

    def address(self, **more: str | int | None) -> str:
        """Where to speak; ``more`` goes into the query as well."""
        query: dict[str, str | int | None] = {
            "stream": self.stream,
            "encoding": self.shape.encoding,
            "rate": self.shape.rate,
            "channels": self.shape.channels,
            "language": self.language,
            "prompt": self.prompt,
            "words": int(self.words),
            "timings": int(self.timings),
            "events": self._asked,
        }
        return websocket_url(self.url, "/v1/speak", query | more)

    def listening_address(self, stream: str | None, hello: Hello, since: int) -> str:
        """Where to hear what was told of ``stream`` after ``since``, in the epoch of ``hello``."""
        query: dict[str, str | int | None] = {
            "stream": stream,
            "events": self._asked,
            "words": int(self.words),
            "timings": int(self.timings),
            "history": 0,
            "epoch": str(hello.epoch),
            "since": since,
        }
        return websocket_url(self.url, "/v1/captions", query)
