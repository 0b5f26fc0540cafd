"""Captions in a terminal: finals above, the open segments below with tentative words dimmed.

Takes events; writes to a rich console. Where that is no terminal, each final is a plain line and partial
states are left out. Text from the wire is printed as text: control characters never reach the terminal.
"""

from __future__ import annotations

import unicodedata
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from captiond_clients.events import (
    AudioLost,
    ErrorEvent,
    Event,
    Final,
    Lag,
    Partial,
    SpeechStarted,
    StreamClosed,
    Suppressed,
)

OPEN_MARK = "… "
# Joiners and direction marks: scripts need them, and they move no cursor.
KEPT_FORMAT = "\u200c\u200d\u200e\u200f"


def printable(text: str) -> str:
    """``text`` in one line: controls and separators become spaces, other invisible letters go.

    So no caption moves the cursor or turns the line around.
    """
    return "".join(map(_printable_letter, text))


def _printable_letter(letter: str) -> str:
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Cs") and letter not in KEPT_FORMAT else letter


class CaptionsView:
    """Shows events. Used as a context manager, so that the terminal is left tidy."""

    def __init__(self, console: Console, notes: Console, *, name_streams: bool = False) -> None:
        self._console = console
        self._notes = notes
        self._name_streams = name_streams
        self._open: dict[tuple[str | None, int], Text] = {}
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> CaptionsView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """One event; those that concern nobody who reads captions are passed over."""
        match event:
            case SpeechStarted(stream=stream, segment=segment):
                self._open[stream, segment] = self._line(stream, OPEN_MARK, "", style="dim")
            case Partial(stream=stream, segment=segment):
                self._open[stream, segment] = self._line(stream, event.committed, event.tentative)
            case Final(stream=stream, segment=segment):
                self._open.pop((stream, segment), None)
                self._print(self._line(stream, event.text, ""))
            case Suppressed(stream=stream, segment=segment):
                self._open.pop((stream, segment), None)
            case StreamClosed(stream=stream):
                self._open = {key: line for key, line in self._open.items() if key[0] != stream}
            case AudioLost():
                lost_ms = event.end_ms - event.start_ms
                self.note(f"{lost_ms} ms of audio were lost ({printable(event.reason)}).")
            case Lag(level=level):
                self.note(f"{event.behind_ms} ms behind." if level != "ok" else "Caught up.")
            case ErrorEvent():
                self.note(f"{printable(event.message)} ({printable(event.code)})")
            case _:
                return
        self._refresh()

    def note(self, message: str) -> None:
        """Something for people that is no caption; goes to standard error."""
        self._notes.print(Text(message, style="yellow"), soft_wrap=True)

    def _line(self, stream: str | None, committed: str, tentative: str, *, style: str = "") -> Text:
        line = Text()
        if self._name_streams and stream:
            line.append(f"{printable(stream)}: ", style="cyan")
        line.append(printable(committed), style=style)
        line.append(printable(tentative), style="dim")
        return line

    def _print(self, line: Text) -> None:
        if self._live is not None:  # else what is now final would be drawn once more below itself
            self._live.update(Group(*self._open.values()), refresh=True)
        self._console.print(line, soft_wrap=self._live is None)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(Group(*self._open.values()), refresh=True)
