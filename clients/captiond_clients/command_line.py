"""What the client commands share: options, the event printer of each format, errors to exit codes.

Events for programs go to standard output, everything for people to standard error.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Literal, Protocol

import click
from rich.console import Console

from captiond_clients.connection import DEFAULT_URL
from captiond_clients.errors import ClientError
from captiond_clients.events import Event, Final, Hello
from captiond_clients.printable import printable
from captiond_clients.subtitles import SubtitleText
from captiond_clients.terminal import CaptionsView

Format = Literal["text", "json", "srt", "vtt"]
Show = Callable[[Event], None]

url_option = click.option(
    "--url", default=DEFAULT_URL, envvar="CAPTIOND_URL", show_default=True, help="Address of the daemon."
)
token_option = click.option(
    "--token", envvar="CAPTIOND_TOKEN", help="Access token; better given as CAPTIOND_TOKEN than here."
)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def run(main: Coroutine[object, object, None]) -> None:
    """Runs ``main``; a ClientError is told to people and becomes the exit status."""
    try:
        try:
            asyncio.run(_until_terminated(main))
        except* BrokenPipeError as group:  # bare, or out of a group of tasks
            raise BrokenPipeError from group
    except ClientError as error:
        stderr().print(f"captiond: {error} [{error.code}]", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # who reads our output has gone: nobody to tell, nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


async def _until_terminated(main: Coroutine[object, object, None]) -> None:
    """SIGTERM ends like Ctrl-C: everything that was opened is closed first."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError, ValueError):  # no signals on this platform or thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await main


def tell_trouble(error: ClientError) -> None:
    """A lost connection, while it is being restored."""
    stderr().print(f"captiond: {error} Trying again.", style="yellow", markup=False, soft_wrap=True)


class Printer(Protocol):
    """Shows events to a program or to people, and tells people how the connection is."""

    def show(self, event: Event) -> None: ...

    def trouble(self, error: ClientError) -> None: ...

    def connected(self, place: str) -> None:
        """For sources that say no hello."""

    def refresh(self) -> None:
        """Time has passed."""


class LinePrinter:
    """Text for programs to standard output; people are told on standard error."""

    def __init__(self, text_of: Callable[[Event], str], place: str) -> None:
        self._text_of = text_of
        self._place = place

    def show(self, event: Event) -> None:
        if isinstance(event, Hello) and self._place:
            self.connected(f"{self._place}, model {printable(str(event.model))}")
        if text := self._text_of(event):
            sys.stdout.write(text)
            sys.stdout.flush()

    def trouble(self, error: ClientError) -> None:
        tell_trouble(error)

    def connected(self, place: str) -> None:
        stderr().print(f"connected to {place}", style="dim", markup=False, soft_wrap=True)

    def refresh(self) -> None:
        pass


def json_line(event: Event) -> str:
    """The event as it came; nothing for what the client itself made up."""
    return f"{event.wire}\n" if event.wire else ""


class StreamSubtitles:
    """Subtitles of one stream: the first that speaks. Another stream's times would not fit between them.

    Where the stream begins anew, its time goes on after what was said before.
    """

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self._subtitles = SubtitleText(form)
        self._stream: str | None = None
        self._others: set[str | None] = set()
        self._until_ms = 0  # the end of the last final, in the stream's own time

    @property
    def head(self) -> str:
        return self._subtitles.head()

    def text_of(self, event: Event) -> str:
        if not isinstance(event, Final):
            return ""
        self._stream = self._stream or event.stream
        if event.stream == self._stream:
            if event.start_ms < self._until_ms:
                self._subtitles.offset_ms += self._until_ms
            self._until_ms = event.end_ms
            return self._subtitles.cue_text(event)
        if event.stream not in self._others:
            self._others.add(event.stream)
            name = printable(str(event.stream))
            stderr().print(f"captiond: stream {name} is left out; name it with --stream.", markup=False)
        return ""


def printer(form: Format, *, name_streams: bool, place: str = "") -> AbstractContextManager[Printer]:
    """What shows events in ``form``, for the length of a ``with``. ``place``: where they come from."""
    if form == "json":
        return nullcontext(LinePrinter(json_line, place))
    if form in ("srt", "vtt"):
        subtitles = StreamSubtitles("srt" if form == "srt" else "vtt")
        sys.stdout.write(subtitles.head)
        sys.stdout.flush()
        return nullcontext(LinePrinter(subtitles.text_of, place))
    # Only a terminal is drawn on, whatever the environment says of colours.
    console = Console(highlight=False, force_interactive=sys.stdout.isatty())
    return CaptionsView(console, stderr(), name_streams=name_streams, place=place)
