"""A real terminal of any size, in which one command runs; what it shows and what is in its scrollback."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Tmux:
    socket: Path

    def run(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        done = subprocess.run(
            command, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        return done.stdout.decode()

    def screen(self) -> list[str]:
        """The rows that are seen, without empty ones below."""
        return self.run("capture-pane", "-p", "-t", "t").rstrip("\n").split("\n")

    def everything(self) -> list[str]:
        """Scrollback and screen, with rows that the terminal has wrapped as one."""
        return self.run("capture-pane", "-p", "-J", "-S", "-", "-t", "t").rstrip("\n").split("\n")

    async def resize(self, columns: int, rows: int) -> None:
        """Until the program that runs in it is told, which tmux does a quarter of a second late."""
        self.run("resize-window", "-t", "t", "-x", str(columns), "-y", str(rows))
        with open(self.run("display", "-p", "-t", "t", "#{pane_tty}").strip()) as tty:  # noqa: ASYNC230, PTH123
            while os.get_terminal_size(tty.fileno()) != (columns, rows):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def type(self, *keys: str) -> None:
        self.run("send-keys", "-t", "t", *keys)

    def end(self) -> None:
        subprocess.run(["tmux", "-S", str(self.socket), "kill-server"], capture_output=True, check=False)

    async def until(self, *texts: str) -> list[str]:
        """Wait until the screen shows all of ``texts``."""
        async with asyncio.timeout(PATIENCE_S):
            while not all(text in "\n".join(screen := self.screen()) for text in texts):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return screen


@asynccontextmanager
async def tmux(folder: Path, command: Sequence[str], *, columns: int, rows: int) -> AsyncIterator[Tmux]:
    """``command`` in a terminal that stays when it ends."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed (Debian: tmux)")
    terminal = Tmux(folder / "tmux")
    line = f"trap : INT; {shlex.join(command)}; echo ended with $?; exec sleep 600"
    try:
        terminal.run("new-session", "-d", "-s", "t", "-x", str(columns), "-y", str(rows), "sh", "-c", line)
        yield terminal
    finally:
        terminal.end()
