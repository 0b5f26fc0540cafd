"""What every bench of the engine gives: tables on standard error, one JSON line on standard output, and the
files that were asked for. Takes figures, tables and charts; adds commit, machine, versions and load.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from daemon.bench.report import provenance
from engine.bench.figures import Figures
from engine.bench.plot import Chart, save
from engine.bench.sheets import Sheet, show, to_markdown

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("openai-whisper", "torch", "faster-whisper", "ctranslate2", "transformers", "pywhispercpp")
_FILE = click.Path(path_type=Path, dir_okay=False)
_OPTIONS = (
    click.option("--json", "json_file", type=_FILE, help="Add the JSON line to this file."),
    click.option("--markdown", type=_FILE, help="Write the tables to this file."),
    click.option("--plot", type=_FILE, help="Draw to this file (.svg or .html)."),
)


@dataclass(frozen=True, slots=True)
class Files:
    """Where results go beside the terminal."""

    json_file: Path | None = None
    markdown: Path | None = None
    plot: Path | None = None


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``, ``--markdown`` and ``--plot``, as the fields of Files."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def console() -> Console:
    """Standard error, wide enough for the tables where it is no terminal."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 160)


def names(text: str) -> list[str]:
    """``a,b`` as a list, without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def counts(text: str) -> list[int]:
    """``1,2,4`` as numbers from 1, in order. Raises click.BadParameter."""
    try:
        found = sorted({int(part) for part in names(text)})
    except ValueError:
        raise click.BadParameter(f"{text!r} are no whole numbers") from None
    if not found or found[0] < 1:
        raise click.BadParameter(f"{text!r}: one number or more, from 1 on, was expected")
    return found


def load_average() -> list[float]:
    """Of 1, 5 and 15 minutes. Far above 0 before a run: somebody else was at work, and times are not to be
    trusted."""
    return [round(one, 2) for one in os.getloadavg()]


def publish(
    bench: str,
    figures: Figures,
    sheets: Sequence[Sheet],
    charts: Sequence[Chart],
    files: Files,
    load_before: list[float],
) -> None:
    """Print, and write what was asked for."""
    about = provenance(ROOT)
    about["versions"] |= {package: _version(package) for package in PEERS}
    load = {"before": load_before, "after": load_average()}
    line = json.dumps({"bench": bench, **about, "load": load, **figures}, ensure_ascii=False)
    show(sheets, console())
    click.echo(line)
    title = f"captiond bench {bench}"
    if files.json_file is not None:
        with files.json_file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if files.markdown is not None:
        files.markdown.write_text(to_markdown(title, _about_line(about, load), sheets), encoding="utf-8")
    if files.plot is not None:
        save(files.plot, charts, title)


def _about_line(about: Figures, load: Figures) -> str:
    machine = about["machine"]
    changed = " (changed)" if about["changed"] else ""
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items() if found)
    loads = f"load average before {load['before'][0]}, after {load['after'][0]}"
    return (
        f"Commit {about['commit']}{changed}; {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB; {loads}; {versions}."
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
