"""Captions in a terminal: finals above, below them what is being said with tentative words dimmed, and at
the bottom one line that says how things stand.

Takes events and troubles; writes to a rich console. Only finals and lost audio stay in the scrollback. Where
there is no terminal, each final is a plain line and nothing else is shown. Text from the wire is printed as
text: control characters never reach the terminal.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from captiond_clients.errors import ClientError
from captiond_clients.events import (
    AudioLost,
    ErrorEvent,
    Event,
    Final,
    Hello,
    Lag,
    Partial,
    SpeechStarted,
    StreamClosed,
    Suppressed,
)
from captiond_clients.live_region import LiveRegion
from captiond_clients.printable import printable
from captiond_clients.status_line import StatusLine

OPEN_MARK = "… "
TICK_S = 0.5


class CaptionsView:
    """Shows events. Used as a context manager, so that the terminal is left tidy.

    ``console`` gets the captions, ``notes`` what is for people only. ``place``: where they come from.
    """

    def __init__(
        self,
        console: Console,
        notes: Console,
        *,
        name_streams: bool = False,
        place: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._notes = notes
        self._name_streams = name_streams
        self._place = place
        self._clock = clock
        self._status = StatusLine(place)
        self._open: dict[tuple[str | None, int], Text] = {}
        self._region = LiveRegion(console) if console.is_interactive else None

    def __enter__(self) -> Self:
        if self._region is not None:
            self._region.__enter__()
            self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._region is not None:
            self._region.__exit__(kind, error, trace)

    def show(self, event: Event) -> None:
        """One event; those that concern nobody who reads captions are passed over."""
        self._status.take(event)
        match event:
            case Hello():
                self._greet(event)
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
            case Lag(level=level) if self._region is None:
                self.note(f"{event.behind_ms} ms behind." if level != "ok" else "Caught up.")
            case ErrorEvent():
                self.note(f"{printable(event.message)} ({printable(event.code)})")
            case _:
                pass
        self.refresh()

    def connected(self, place: str) -> None:
        """For sources that say no hello."""
        self._status.connected(place)
        self._open.clear()
        if self._region is None:
            self._notes.print(f"connected to {place}", style="dim", markup=False, soft_wrap=True)
        self.refresh()

    def trouble(self, error: ClientError) -> None:
        """The connection was lost and is being restored."""
        self._status.lost(error, self._clock())
        self._open.clear()  # it is told again, or was settled meanwhile
        if self._region is None:
            self.note(f"captiond: {printable(str(error))} Trying again.")
        self.refresh()

    def note(self, message: str) -> None:
        """Something for people that is no caption; goes to standard error."""
        line = Text(message, style="yellow")
        if self._region is not None:
            self._region.print_above(line, self.lines(), to=self._notes)
        else:
            self._notes.print(line, soft_wrap=True)

    def refresh(self) -> None:
        """Draw what is not final; called when time has passed or the window has another size."""
        if self._region is not None:
            self._region.draw(self.lines())

    def lines(self) -> list[Text]:
        """What stands below the finals now."""
        return [*self._open.values(), self._status.line(self._clock())]

    def _greet(self, hello: Hello) -> None:
        self._open.clear()
        if self._region is None and self._place:
            model = printable(str(hello.model))
            self._notes.print(f"connected to {self._place}, model {model}", style="dim", markup=False)

    def _line(self, stream: str | None, committed: str, tentative: str, *, style: str = "") -> Text:
        line = Text()
        if self._name_streams and stream:
            line.append(f"{printable(stream)}: ", style="cyan")
        line.append(printable(committed), style=style)
        line.append(printable(tentative), style="dim")
        return line

    def _print(self, line: Text) -> None:
        if self._region is not None:
            self._region.print_above(line, self.lines())
        else:
            self._console.print(line, soft_wrap=True)


@contextmanager
def ticking(refresh: Callable[[], None]) -> Iterator[None]:
    """Meanwhile the running loop calls ``refresh`` now and then, and when the window's size changes."""
    loop = asyncio.get_running_loop()
    next_tick: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal next_tick
        refresh()
        next_tick = loop.call_later(TICK_S, tick)

    tick()
    with suppress(NotImplementedError, ValueError, RuntimeError):  # no signals in this thread
        loop.add_signal_handler(signal.SIGWINCH, refresh)
    try:
        yield
    finally:
        if next_tick is not None:
            next_tick.cancel()
        loop.remove_signal_handler(signal.SIGWINCH)
