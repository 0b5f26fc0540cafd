"""``captiond serve``: the daemon as a process. Signals, logging and the service manager meet here.

Takes: the command line. Gives: a running ``App``, and the end of the process when it is told to stop: SIGTERM
or SIGINT (a second one leaves at once); SIGHUP reads the configuration anew.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click
from captiond_engine.engine import import_max

from captiond.app import App
from captiond.cli import config_option, load, model_option, set_option
from captiond.loading import load_engine, still_running
from captiond.progress import StartDisplay
from captiond.systemd import Notifier
from captiond.telemetry import set_up_logging, tell


@click.command("serve")
@config_option
@model_option
@set_option
def command(config_path: Path | None, model: str | None, settings: tuple[str, ...]) -> None:
    """Run the daemon."""
    faulthandler.enable()  # whoever ends a daemon that hangs (SIGABRT) is told where it stood
    config = load(config_path, model, settings)
    set_up_logging(config.log)
    import_max()  # here, as the model is loaded in another thread

    async def run() -> None:
        with StartDisplay() as display:
            app = App(
                config,
                lambda progress: load_engine(config, progress),
                on_bound=lambda address: tell(f"captions page: {address}"),
                progress=display,
                on_ready=display.close,
                reread=lambda: load(config_path, model, settings),
                set_log=set_up_logging,
                notifier=Notifier.from_environment(),
            )
            stop = stop_on_signal()
            reload_on_hangup(app.reload, stop)
            await app.run(stop)

    asyncio.run(run())
    if still_running():  # what cannot be interrupted, and of which nothing is needed any more
        sys.stderr.flush()
        os._exit(0)


def stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process where it stands."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def reload_on_hangup(reload: Callable[[], None], stop: asyncio.Event) -> None:
    """SIGHUP reads the configuration anew. Where the terminal that started the daemon has gone, it stops."""
    had_terminal = os.isatty(0)

    def on_signal() -> None:
        if had_terminal and not os.isatty(0):
            stop.set()  # nobody would know that a microphone goes on listening
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal)
