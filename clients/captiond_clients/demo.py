"""``captiond demo``: the whole path once, with the bundled model and the bundled sample.

Starts a daemon of its own on a free port, speaks the sample into it as a person would, shows what is heard
while it is heard, and ends with the reference, the errors and the times beside it. Nothing is left running.
"""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec
from rich.console import Console

from captiond_clients.audio_input import FILE_SHAPE, at_pace, cut_file
from captiond_clients.client import speak
from captiond_clients.command_line import run, tell_trouble
from captiond_clients.demo_daemon import DemoDaemon, demo_daemon
from captiond_clients.demo_report import Heard, Spoken, report
from captiond_clients.errors import ClientError
from captiond_clients.events import Event
from captiond_clients.speak import converse
from captiond_clients.terminal import CaptionsView

MISSING_EXTRA = "The word error rate needs jiwer and whisper-normalizer: pip install 'captiond[demo]'."


class Sample(msgspec.Struct, frozen=True):
    """demo.json: the recording's name, its length and what is said in it when."""

    audio: str
    seconds: float
    segments: tuple[Spoken, ...]


def load_sample() -> tuple[Sample, Path]:
    """The bundled sample and where its recording lies."""
    folder = Path(str(resources.files("captiond_clients"))) / "samples"
    sample = msgspec.json.decode((folder / "demo.json").read_bytes(), type=Sample)
    return sample, folder / sample.audio


async def show_sample(url: str, recording: Path, console: Console, *, fast: bool) -> list[Heard]:
    """Speaks the recording; gives every event with the seconds since the recording's first moment."""
    heard: list[Heard] = []
    loop = asyncio.get_running_loop()
    async with speak(url, stream="demo", timings=True, on_trouble=tell_trouble) as speaker:
        start = loop.time()
        pieces = cut_file(recording)
        audio = pieces if fast else at_pace(pieces, FILE_SHAPE, start)
        with CaptionsView(console, console) as view:

            def show(event: Event) -> None:
                heard.append(Heard(loop.time() - start, event))
                view.show(event)

            await converse(speaker, audio, show)
    return heard


async def demo(*, fast: bool, keep: bool, settings: tuple[str, ...], as_json: bool) -> None:
    console = Console(stderr=as_json, highlight=False)
    if find_spec("jiwer") is None or find_spec("whisper_normalizer") is None:
        raise ClientError("extra_missing", MISSING_EXTRA)
    sample, recording = load_sample()
    console.print("Starting a daemon with the bundled model demo-en …", style="bold")
    async with demo_daemon(settings) as daemon:
        url = await daemon.address()
        console.print(f"Captions page: {url}  (open it now and read along)", style="bold", soft_wrap=True)
        await daemon.ready()
        length = "as fast as it goes" if fast else f"at the pace of speech ({sample.seconds:.0f} s)"
        console.print(f"\nSpeaking {len(sample.segments)} sentences {length}:\n", style="bold")
        heard = await show_sample(url, recording, console, fast=fast)
        result = report(sample.segments, heard, console, paced=not fast)
        if as_json:
            click.echo(json.dumps(result))
        if keep:
            console.print(f"\nThe daemon still runs at {url}; Ctrl-C ends it.", soft_wrap=True)
            await _until_interrupted(daemon)


async def _until_interrupted(daemon: DemoDaemon) -> None:
    """Ctrl-C is how a kept daemon is meant to end, so it is no failure."""
    try:
        await daemon.gone()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the daemon running at the end, until Ctrl-C.")
@click.option("--fast", is_flag=True, help="Speak as fast as it goes; latencies mean nothing then.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON line.")
@click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="Set one key of the daemon."
)
def command(keep: bool, fast: bool, as_json: bool, settings: tuple[str, ...]) -> None:
    """Show live captions of a bundled recording, from start to word error rate."""
    run(demo(fast=fast, keep=keep, settings=settings, as_json=as_json))
