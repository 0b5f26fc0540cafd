"""``captiond speak``: an audio file, or raw audio from standard input, into a running daemon."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, cast

import click

from captiond_clients.audio_input import FILE_SHAPE, AudioFile, at_pace, cut_file, cut_stream
from captiond_clients.audio_outbox import SAMPLE_BYTES, AudioShape, Encoding
from captiond_clients.client import Speaker, speak
from captiond_clients.command_line import Format, Show, printer, run, token_option, url_option
from captiond_clients.errors import AudioError, ClientError
from captiond_clients.terminal import ticking


async def converse(speaker: Speaker, audio: AsyncIterator[bytes], show: Show) -> None:
    """Sends all of ``audio`` and shows the events until the stream is closed.

    Raises what ended the stream, or the AudioError that ended the audio (after the remaining finals).
    """
    failures: list[ClientError] = []

    async def send() -> None:
        try:
            async for piece in audio:
                await speaker.send(piece)
        except AudioError as error:
            failures.append(error)
        except ClientError:
            return  # the events end with the same error
        await speaker.end()

    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send(), name="sending audio")
        try:
            async for event in speaker:
                show(event)
        except ClientError as error:
            failures.append(error)
        finally:
            sending.cancel()
    if failures:
        raise failures[0]


def audio_of(source: str, shape: AudioShape, pace: Literal["realtime", "fast"]) -> AsyncIterator[bytes]:
    """The audio that ``source`` names. Raises AudioError at once when a file is none."""
    if source == "-":
        pieces = cut_stream(sys.stdin.buffer, shape)
    else:
        AudioFile(Path(source))
        pieces = cut_file(Path(source))
    return pieces if pace == "fast" else at_pace(pieces, shape)


async def tell(
    source: str,
    url: str,
    shape: AudioShape,
    *,
    stream: str | None,
    pace: Literal["realtime", "fast"],
    form: Format,
    language: str | None,
    prompt: str | None,
    token: str | None,
) -> None:
    """Speaks ``source`` into the daemon at ``url`` and shows what it hears."""
    audio = audio_of(source, shape, pace)
    with printer(form, name_streams=False, place=url) as printed, ticking(printed.refresh):
        connection = speak(
            url,
            stream=stream,
            encoding=shape.encoding,
            rate=shape.rate,
            channels=shape.channels,
            language=language,
            prompt=prompt,
            words=form != "text",
            timings=form == "json",
            token=token,
            on_trouble=printed.trouble,
        )
        async with connection as speaker:
            await converse(speaker, audio, printed.show)


@click.command("speak")
@click.argument("source", metavar="FILE|-")
@url_option
@click.option("--stream", help="Name of the stream; the daemon makes one up otherwise.")
@click.option("--pace", type=click.Choice(["realtime", "fast"]), default="realtime", show_default=True)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True
)
@click.option("--language", help="ISO code or auto; the daemon's setting otherwise.")
@click.option("--prompt", help="Names and words to be spelled like this.")
@click.option(
    "--encoding",
    type=click.Choice(list(SAMPLE_BYTES)),
    default="pcm_s16le",
    show_default=True,
    help="Of raw audio on standard input.",
)
@click.option(
    "--rate", type=click.IntRange(8_000, 192_000), default=16_000, show_default=True, help="Likewise."
)
@click.option("--channels", type=click.IntRange(1, 8), default=1, show_default=True, help="Likewise.")
@token_option
def command(
    source: str,
    url: str,
    stream: str | None,
    pace: Literal["realtime", "fast"],
    form: Format,
    language: str | None,
    prompt: str | None,
    encoding: str,
    rate: int,
    channels: int,
    token: str | None,
) -> None:
    """Speak an audio file, or raw audio from standard input (-), into a running daemon.

    Shows the captions as they come; with --format json each event is one line on standard output.
    """
    shape = AudioShape(cast(Encoding, encoding), rate, channels) if source == "-" else FILE_SHAPE
    run(
        tell(
            source,
            url,
            shape,
            stream=stream,
            pace=pace,
            form=form,
            language=language,
            prompt=prompt,
            token=token,
        )
    )
