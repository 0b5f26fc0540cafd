"""The one line that says how things stand: connection, who speaks, how far behind, when it is tried again.

Takes events, troubles and the time; gives a line of text for people. Knows no terminal and no socket.
"""

from __future__ import annotations

import math

from rich.text import Text

from captiond_clients.errors import ClientError
from captiond_clients.events import Event, Hello, Lag, Partial, SpeechStarted, StreamClosed, StreamOpened
from captiond_clients.printable import printable

NAMES_SHOWN = 4


class StatusLine:
    """How it stands. ``place``: where we are connected to, as people know it."""

    def __init__(self, place: str = "") -> None:
        self._place = place.removeprefix("http://")
        self._state = ""  # where we are connected to, once we are
        self._why = "connecting to " + self._place if self._place else ""
        self._next_try_at: float | None = None
        self._streams: dict[str, int] = {}  # the open ones, and by how many ms each is behind

    def take(self, event: Event) -> None:
        """What ``event`` says of it."""
        if isinstance(event, Hello):
            self.connected(printable(str(event.model)) if event.model else "")
        elif event.stream is None:
            return
        elif isinstance(event, StreamClosed):
            self._streams.pop(event.stream, None)
        elif isinstance(event, Lag):
            self._streams[event.stream] = 0 if event.level == "ok" else event.behind_ms
        elif isinstance(event, StreamOpened):
            self._streams[event.stream] = 0
        elif isinstance(event, SpeechStarted | Partial):  # a final may be history
            self._streams.setdefault(event.stream, 0)

    def connected(self, model: str = "") -> None:
        """The daemon answers; what was known of its streams is told anew."""
        self._state = f"{model} at {self._place}" if model and self._place else model or self._place
        self._why, self._next_try_at = "", None
        self._streams.clear()

    def lost(self, error: ClientError, now: float) -> None:
        """The connection is gone, and is tried again ``error.retry_in_s`` after ``now``."""
        self._why = printable(error.message)
        self._next_try_at = now + (error.retry_in_s or 0.0)

    def line(self, now: float) -> Text:
        """As it stands at ``now``; the most important comes first, as the end may be cut."""
        parts: list[Text] = []
        if self._why:
            if self._next_try_at is not None:
                left_s = math.ceil(self._next_try_at - now)
                again = f"reconnecting in {left_s} s" if left_s > 0 else "reconnecting …"
                parts.append(Text(again, style="bold yellow"))
            parts.append(Text(self._why, style="yellow"))
        else:
            behind_ms = max(self._streams.values(), default=0)
            if behind_ms:
                parts.append(Text(f"{behind_ms / 1000:.1f} s behind", style="bold yellow"))
            parts += [Text(self._who(), style="dim"), Text(self._state, style="dim")]
        mark = ("○ ", "yellow") if self._why else ("● ", "green")
        dot = Text.assemble((" · ", "dim"))
        line = Text.assemble(mark, dot.join(part for part in parts if part))
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def _who(self) -> str:
        names = sorted(map(printable, self._streams))
        if not names:
            return "nobody speaks"
        more = len(names) - NAMES_SHOWN
        return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
