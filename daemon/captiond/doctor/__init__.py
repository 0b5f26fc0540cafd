"""``captiond doctor``: looks at everything that a daemon needs, and says what to do about what is missing.

Takes: a configuration. Gives: a table for people or JSON lines for programs on standard output, and an exit
code: 0 (nothing has failed), 78 (configuration or model), 69 (something cannot be reached).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import click
import msgspec
from captiond_engine.engine import import_max
from captiond_engine.errors import ConfigError

from captiond.cli import config_option, load, model_option, set_option
from captiond.config import Config
from captiond.doctor import machine, model, network, setup, sound
from captiond.doctor.finding import Finding, exit_code, failed
from captiond.doctor.table import Table

Check = Callable[[Config], "list[Finding] | Awaitable[list[Finding]]"]

# What can be said without a configuration comes first.
OF_THE_MACHINE: tuple[Check, ...] = (
    machine.python,
    machine.packages,
    machine.processor,
    machine.memory,
    machine.disk,
)
OF_THE_CONFIGURATION: tuple[Check, ...] = (
    setup.configuration,
    setup.secrets,
    setup.tls,
    machine.extras,
    machine.open_files,
    model.device,
    model.model,
    model.graphs,
    network.port,
    network.page,
    setup.browsers,
    setup.files,
    network.broker,
    sound.microphones,
    setup.service,
)


@click.command("doctor")
@config_option
@model_option
@set_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
@click.option("--run", is_flag=True, help="Load the model and time one decode, too; may compile for minutes.")
def command(
    config_path: Path | None, model: str | None, settings: tuple[str, ...], as_json: bool, run: bool
) -> None:
    """Look at everything that a daemon needs, and say what to do about what is missing."""
    import_max()
    findings = []
    table = Table()
    for finding in examine(lambda: load(config_path, model, settings), run=run):
        findings.append(finding)
        if as_json:
            print(msgspec.json.encode(finding).decode(), flush=True)
        else:
            table.show(finding)
    if not as_json:
        table.close(findings)
    sys.exit(exit_code(findings))


def examine(read: Callable[[], Config], *, run: bool = False) -> Iterator[Finding]:
    """The findings, one after another. A configuration that cannot be used ends it."""
    for check in OF_THE_MACHINE:
        yield from _look(check, Config())
    try:
        config = read()
    except ConfigError as error:
        yield failed("configuration", error)
        return
    for check in (*OF_THE_CONFIGURATION, *((model.inference,) if run else ())):
        yield from _look(check, config)


def _look(check: Check, config: Config) -> list[Finding]:
    found = check(config)
    return found if isinstance(found, list) else asyncio.run(_awaited(found))


async def _awaited(found: Awaitable[list[Finding]]) -> list[Finding]:
    return await found
