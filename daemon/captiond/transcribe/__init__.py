"""``captiond transcribe``: recordings of any length to text, as fast as the model goes.

Takes: files, or standard input. Gives: text, events or subtitles on standard output or in files, and an exit
code: 0, 2 for what could not be read or written, 78 for configuration, model and device, 130 for Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click
from captiond_engine.engine import Engine
from captiond_engine.errors import EXIT_USAGE, AudioError, ConfigError

from captiond import config_file, loading
from captiond.cli import config_option, load, model_option, set_option
from captiond.config import Config
from captiond.messages import ClientError
from captiond.progress import StartDisplay
from captiond.sessions import check_language, clean_prompt
from captiond.transcribe.display import Display, clock
from captiond.transcribe.outputs import FORMATS, Folder, Format, OneDocument
from captiond.transcribe.source import STANDARD_INPUT, open_source
from captiond.transcribe.work import Work

INTERRUPTED, TERMINATED = 130, 143  # as shells say it: 128 and the signal's number

TASKS = ("transcribe", "translate")


@click.command("transcribe")
@click.argument("files", metavar="FILE|- …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "forms",
    type=click.Choice(FORMATS),
    multiple=True,
    default=("text",),
    show_default="text",
    help="As often as needed with --output-dir.",
)
@click.option(
    "--output-dir",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write FILE's text there (FILE.txt, .srt, .vtt, .jsonl) instead of to standard output.",
)
@click.option("--language", help="ISO code or auto (model.language).")
@click.option("--prompt", default="", help="Names and words to be spelled like this.")
@click.option("--batch", type=click.IntRange(1, 256), help="Windows decoded in one pass (transcribe.batch).")
@click.option("--task", type=click.Choice(TASKS), help="Into English with translate (decoding.task).")
@click.option("--beam-size", type=click.IntRange(0, 16), help="Beams of a search (decoding.beam_size).")
@click.option("--quiet", "-q", is_flag=True, help="No progress, only errors.")
@config_option
@model_option
@set_option
def command(
    files: tuple[Path, ...],
    forms: tuple[Format, ...],
    output_dir: Path | None,
    language: str | None,
    prompt: str,
    batch: int | None,
    task: str | None,
    beam_size: int | None,
    quiet: bool,
    config_path: Path | None,
    model: str | None,
    settings: tuple[str, ...],
) -> None:
    """Turn recordings of any length into text; - is standard input (WAV, or raw 16-bit audio at 16 kHz).

    A file that cannot be read is told and the others go on. Without --output-dir the subtitles of several
    files are one document, as if they were played one after another.
    """
    own = [f"model.language={config_file.toml_value(language)}"] if language is not None else []
    own += [f"transcribe.batch={batch}"] if batch is not None else []
    own += [f"decoding.task={config_file.toml_value(task)}"] if task is not None else []
    own += [f"decoding.beam_size={beam_size}"] if beam_size is not None else []
    config = load(config_path, model, (*settings, *own))
    forms = tuple(dict.fromkeys(forms))
    if len(forms) > 1 and output_dir is None:
        raise click.UsageError("Several formats have no room on standard output. Name an --output-dir.")
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Standard input can be read once.")
    good = asyncio.run(_readable(files))
    if not good:
        sys.exit(EXIT_USAGE)
    folder = None if output_dir is None else Folder(output_dir, forms)
    if folder is not None:
        folder.prepare(good)
    with StartDisplay(quiet=quiet) as starting:
        engine = loading.load_engine(config, starting)
    with Display(quiet=quiet) as display:
        try:
            output = folder or OneDocument(forms[0], display.write)
            all_read = _transcribe(
                good, Work(config, engine, _hints(config, engine, prompt), output, display)
            )
        finally:
            engine.close()
    if len(good) < len(files) or not all_read:
        sys.exit(EXIT_USAGE)


async def _readable(files: Sequence[Path]) -> list[Path]:
    """Those of ``files`` that begin like audio; the others are told. Before a model is loaded for them."""
    good = []
    for path in files:
        try:
            if path != STANDARD_INPUT:
                async with open_source(path):
                    pass
        except AudioError as error:
            print(f"captiond: {error}", file=sys.stderr)
        else:
            good.append(path)
    return good


def _hints(config: Config, engine: Engine, prompt: str) -> str:
    """The prompt as the engine takes it. Raises ConfigError where the model has not the language."""
    try:
        if config.model.language:
            check_language(config.model.language, engine.traits)
    except ClientError as error:
        raise ConfigError(f"model.language: {error.message}") from None
    return clean_prompt(prompt, engine.tokenizer) if prompt else ""


def _transcribe(files: Sequence[Path], work: Work) -> bool:
    """Whether all of ``files`` could be read to their end."""
    try:
        return asyncio.run(work.all(files))
    except KeyboardInterrupt:
        _leave(work, INTERRUPTED)
    except asyncio.CancelledError:
        _leave(work, TERMINATED)


def _leave(work: Work, code: int) -> NoReturn:
    """The end of the process, where it was told to stop. The device is not waited for."""
    work.display.note(
        f"captiond: stopped at {clock(work.told_ms)} of {work.name}; what came before is written."
    )
    work.display.__exit__(None, None, None)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)
