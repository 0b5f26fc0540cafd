"""The command line: what to do and with which configuration.

Takes arguments, gives an exit code (0 done, 2 usage, 69 unreachable, 78 configuration or model). Text for
people goes to standard error; standard output holds results only. Heavy imports wait for their command.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from captiond_engine.errors import EXIT_USAGE, AudioError, DeviceError

from captiond import __version__, config_file
from captiond.config import Config

if TYPE_CHECKING:
    from captiond_clients.subtitles import SubtitleText
    from captiond_engine.engine import Engine

T = TypeVar("T")

# A module of each, whose ``command`` is imported when it is asked for. Programs that talk to a daemon live in
# a package that the daemon does not need.
COMMANDS = {
    "speak": "captiond_clients.speak",
    "listen": "captiond_clients.listen",
    "demo": "captiond_clients.demo",
    "devices": "captiond.devices",
    "doctor": "captiond.doctor",
    "install-service": "captiond.install",
    "serve": "captiond.serve",
}


class LazyGroup(click.Group):
    """A group most of whose commands are imported when they are asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted((*super().list_commands(context), *COMMANDS))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return super().get_command(context, name)
        command = importlib.import_module(COMMANDS[name]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[name]}.command is no command")
        return command


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file; without it every key has its default.",
)
model_option = click.option("--model", help="Model name, hub name, folder or .pt file (model.name).")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="Set one key, as often as needed."
)


def load(config_path: Path | None, model: str | None, settings: tuple[str, ...]) -> Config:
    """What a command's options say together. Raises ConfigError."""
    # Quoted, so that a model named "1" stays a name.
    chosen = (f"model.name={config_file.toml_value(model)}",) if model else ()
    return config_file.load(config_path, (*settings, *chosen))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="captiond")
def main() -> None:
    """Live speech to captions on a machine you own."""


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format", "shape", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True
)
@config_option
@model_option
@set_option
def transcribe(
    files: tuple[Path, ...],
    shape: str,
    config_path: Path | None,
    model: str | None,
    settings: tuple[str, ...],
) -> None:
    """Turn audio files into text. A file that cannot be read is told and the others go on.

    Subtitles of several files are one document, as if they were played one after another.
    """
    from captiond_clients.subtitles import SubtitleText

    from captiond.audio import length_ms
    from captiond.loading import load_engine
    from captiond.progress import StartDisplay

    config = load(config_path, model, settings)
    lengths_ms = {path: _or_tell(length_ms, path) for path in files}
    if all(length is None for length in lengths_ms.values()):
        sys.exit(EXIT_USAGE)
    with StartDisplay() as display:
        engine = load_engine(config, display)
    subtitles = SubtitleText("vtt" if shape == "vtt" else "srt")
    all_read = True

    def write(path: Path) -> bool:
        return asyncio.run(_write(path, shape, subtitles, config, engine))

    try:
        if shape == "vtt":
            print(subtitles.head(), end="")
        for path in files:
            length = lengths_ms[path]
            written = length is not None and _or_tell(write, path)
            all_read = all_read and bool(written)
            subtitles.offset_ms += length or 0
    finally:
        engine.close()
    if not all_read:
        sys.exit(EXIT_USAGE)


def _or_tell(work: Callable[[Path], T], path: Path) -> T | None:
    """What ``work(path)`` gives; None where that raises AudioError, which is told on standard error."""
    try:
        return work(path)
    except AudioError as error:
        print(f"captiond: {error}", file=sys.stderr)
        return None


async def _write(path: Path, shape: str, subtitles: SubtitleText, config: Config, engine: Engine) -> bool:
    """Print what ``path`` says. Raises AudioError, and DeviceError where some of it was lost."""
    from captiond_clients.events import AudioLost, Final, StreamClosed, parse

    from captiond.transcribe import transcribe as events_of

    lost = ""
    async with aclosing(events_of(path, config, engine)) as events:
        async for message in events:
            text = message.decode()
            event = parse(text)
            if shape == "json":
                print(text, flush=True)
            elif isinstance(event, Final):
                print(
                    event.text + "\n" if shape == "text" else subtitles.cue_text(event),
                    end="",
                    flush=True,
                )
            if isinstance(event, AudioLost):
                lost += f" {event.start_ms / 1000:.1f} to {event.end_ms / 1000:.1f} s ({event.reason})."
            elif isinstance(event, StreamClosed) and event.error:
                lost += f" The rest ({event.error})."
    if lost:
        raise DeviceError(f"{path}: not all of it could be turned into text:{lost}")
    return True


@main.group()
def models() -> None:
    """Which models there are and where."""


@models.command("list")
def models_list() -> None:
    """Known models, how large they are, and where they lie."""
    from captiond_engine import models as known
    from captiond_engine.published import ALIASES

    print(f"{'name':18} {'parameters':>10}  {'speech':8} {'on disk':>8}  where")
    for entry in known.listing():
        speech = "English" if entry.english else "many"
        size = f"{entry.size_bytes / 1e6:.0f} MB" if entry.where else "-"
        where = entry.where or f"hub: {entry.origin}"
        print(f"{entry.name:18} {entry.parameters_m:>8} M  {speech:8} {size:>8}  {where}")
    also = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    print(f"Also {also}; any owner/name on the hub, a folder, a .pt file.", file=sys.stderr)


@models.command("pull")
@click.argument("name")
def models_pull(name: str) -> None:
    """Download a model and check it; prints its folder."""
    from captiond_engine import models as known

    from captiond.progress import StartDisplay

    with StartDisplay() as display:
        path = known.pull(name, progress=display)
    print(path)


@models.command("path")
@click.argument("name")
def models_path(name: str) -> None:
    """Print where a model lies; 78 if it is not on this machine."""
    from captiond_engine import models as known

    print(known.find(name))


@main.group("config")
def config_group() -> None:
    """Check or show the configuration."""


@config_group.command("check")
@config_option
@set_option
def config_check(config_path: Path | None, settings: tuple[str, ...]) -> None:
    """Say whether the configuration can be used, with the files that it names."""
    from captiond.reload import prepare

    config = config_file.load(config_path, settings)
    config_file.check_files(config)
    prepare(config, config)
    print("the configuration is good", file=sys.stderr)


@config_group.command("show")
@config_option
@set_option
def config_show(config_path: Path | None, settings: tuple[str, ...]) -> None:
    """Print the configuration with all its defaults, as TOML."""
    print(config_file.to_toml(config_file.load(config_path, settings)), end="")
