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
from typing import Literal

import click
from rich.console import Console

from captiond_clients.connection import DEFAULT_URL
from captiond_clients.errors import ClientError
from captiond_clients.events import Event, Final, Hello
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
        asyncio.run(_until_terminated(main))
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


def json_line(event: Event) -> None:
    if event.wire:
        sys.stdout.write(event.wire + "\n")
        sys.stdout.flush()


class SubtitlePrinter:
    """Subtitles of one stream: the first that speaks. Another stream's times would not fit between them."""

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self._subtitles = SubtitleText(form)
        self._stream: str | None = None
        self._others: set[str | None] = set()
        self._write(self._subtitles.head())

    def show(self, event: Event) -> None:
        if not isinstance(event, Final):
            return
        self._stream = self._stream or event.stream
        if event.stream == self._stream:
            self._write(self._subtitles.cue_text(event))
        elif event.stream not in self._others:
            self._others.add(event.stream)
            stderr().print(
                f"captiond: stream {event.stream} is left out; name it with --stream.", markup=False
            )

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def printer(form: Format, *, name_streams: bool) -> AbstractContextManager[Show]:
    """What shows events in ``form``, for the length of a ``with``."""
    if form == "json":
        return nullcontext(json_line)
    if form in ("srt", "vtt"):
        return nullcontext(SubtitlePrinter("srt" if form == "srt" else "vtt").show)
    return _TextPrinter(name_streams)


class _TextPrinter(AbstractContextManager[Show]):
    def __init__(self, name_streams: bool) -> None:
        self._view = CaptionsView(Console(highlight=False), stderr(), name_streams=name_streams)

    def __enter__(self) -> Show:
        self._view.__enter__()
        return self._view.show

    def __exit__(self, *error: object) -> None:
        self._view.__exit__(None, None, None)


def greet(event: Event, url: str) -> None:
    """Says to people where they are connected."""
    if isinstance(event, Hello):
        stderr().print(f"connected to {url}, model {event.model}", style="dim", markup=False)
