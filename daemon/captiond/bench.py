"""``captiond bench``: what measures captiond and compares it with others.

Takes a bench's name and its words. The benches are no part of the installed package: they lie in a checkout,
beside the tests and reference implementations that they need. This module finds them there and hands their
words on.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click
from captiond_engine.errors import EXIT_USAGE, CaptiondError

CHECKOUT = Path(__file__).resolve().parents[2]
# By name: the module, its click command, and what it measures.
BENCHES = {
    "engine": ("engine.bench.compare", "command", "The whole model beside openai-whisper, faster-whisper, …"),
    "kv": ("engine.bench.linearity", "command", "What a token costs, with the K/V cache and without."),
    "live": ("daemon.bench.live", "main", "Latency, stability and word error rate of a daemon."),
    "long": ("engine.bench.long", "command", "All of a long recording as text, beside openai-whisper's."),
    "loop": ("engine.bench.loop", "command", "How late the event loop is while the device works."),
    "rehearsal": ("daemon.bench.rehearsal", "main", "Settings compared on sessions, without waiting."),
    "vad": ("daemon.bench.vad", "main", "How well voice is told from other sound."),
    "precision": ("engine.bench.precision", "command", "What rounding the decoder's weights costs."),
}


class BenchError(CaptiondError):
    """A bench that cannot be run from here."""

    code = "bench_unavailable"
    exit_code = EXIT_USAGE


def load(name: str) -> click.Command:
    """The command of a bench, from the checkout that this package runs from. Raises BenchError."""
    if not (CHECKOUT / "engine" / "bench" / "__init__.py").is_file():
        raise BenchError(
            "The benches are not part of the installed package; they need a checkout of captiond.",
            advice=f"In one, run 'make bench', or pip install -e '.[bench]' and captiond bench {name}.",
        )
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    module, attribute, _ = BENCHES[name]
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise BenchError(
            f"The bench needs {error.name}, which is not installed.",
            advice=f"In the checkout {CHECKOUT} run: pip install -e '.[bench]'",
        ) from error
    if not isinstance(found, click.Command):
        raise TypeError(f"{module}.{attribute} is no command")
    return found


@click.group("bench")
def command() -> None:
    """Measure captiond, and compare it with others. Needs a checkout and the extra "bench"."""


def _handing_on(name: str, help_text: str) -> click.Command:
    """A command that gives all its words, ``--help`` among them, to the bench's own."""

    def run(words: tuple[str, ...]) -> None:
        load(name).main(list(words), prog_name=f"captiond bench {name}")

    return click.Command(
        name,
        callback=run,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        help=help_text,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


for _name, (_, _, _help) in BENCHES.items():
    command.add_command(_handing_on(_name, _help))
