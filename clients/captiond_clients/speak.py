"""``captiond speak``: an audio file, standard input or a microphone into a running daemon."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal, cast

import click

from captiond_clients.audio_input import FILE_SHAPE, AudioFile, at_pace, cut_file
from captiond_clients.audio_outbox import SAMPLE_BYTES, AudioShape, Encoding
from captiond_clients.client import Speaker, speak
from captiond_clients.command_line import Format, Show, printer, run, stderr, token_option, url_option
from captiond_clients.errors import AudioError, ClientError
from captiond_clients.microphone import open_microphone
from captiond_clients.piped_audio import PipedAudio
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


Audio = tuple[AsyncIterator[bytes], AudioShape]


@asynccontextmanager
async def microphone_audio(device: str) -> AsyncIterator[Audio]:
    """What ``device`` hears until it is interrupted. Raises AudioError."""

    def tell_lost(lost_ms: int) -> None:
        stderr().print(f"captiond: {lost_ms / 1000:g} s were not sent: the daemon did not take them in time.")

    with open_microphone(device, tell_lost) as microphone:
        stderr().print(f"captiond: listening to {microphone.name}; Ctrl-C ends.", markup=False)
        yield microphone.pieces(), microphone.shape


@asynccontextmanager
async def file_audio(
    source: str, shape: AudioShape, pace: Literal["realtime", "fast"]
) -> AsyncIterator[Audio]:
    """The audio that ``source`` names; WAV on standard input says itself what it is.

    Raises AudioError at once when it is none.
    """
    if source == "-":
        piped = PipedAudio(sys.stdin.buffer, shape)
        await piped.open()
        pieces, shape = piped.pieces(), piped.shape
    else:
        AudioFile(Path(source))
        pieces = cut_file(Path(source))
    yield pieces if pace == "fast" else at_pace(pieces, shape), shape


async def tell(
    source: AbstractAsyncContextManager[Audio],
    url: str,
    *,
    stream: str | None,
    form: Format,
    language: str | None,
    prompt: str | None,
    token: str | None,
) -> None:
    """Speaks ``source`` into the daemon at ``url`` and shows what it hears."""
    async with source as (audio, shape):
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
@click.argument("source", metavar="FILE|-", required=False)
@click.option("--mic", is_flag=True, help="Speak a microphone of this machine instead of a file.")
@click.option("--device", default="", help="Which one: a part of its name, or its number (captiond devices).")
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
    source: str | None,
    mic: bool,
    device: str,
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
    """Speak an audio file, raw audio or WAV on standard input (-), or a microphone (--mic) into a daemon.

    Shows the captions as they come; with --format json each event is one line on standard output.
    """
    if (source is None) != (mic or bool(device)):
        raise click.UsageError("Say what to speak: a file, - for standard input, or --mic.")
    shape = AudioShape(cast(Encoding, encoding), rate, channels) if source == "-" else FILE_SHAPE
    run(
        tell(
            microphone_audio(device) if source is None else file_audio(source, shape, pace),
            url,
            stream=stream,
            form=form,
            language=language,
            prompt=prompt,
            token=token,
        )
    )
