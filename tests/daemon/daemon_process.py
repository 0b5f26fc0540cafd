"""``captiond serve`` as a process of its own, with a model that costs nothing: to be killed, and come back.

Takes: settings. Gives: a running daemon's address, what it wrote to standard error, and its death. Run as a
program it is the command line itself, with the model of ``tests.sim.audible`` in place of a real one. It
keeps real time, so no clock may jump while it is waited for.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"captions page: (http://[^/\s]+)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DaemonProcess:
    """One daemon on one port, started as often as wanted."""

    def __init__(
        self, *settings: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.said = ""
        self._settings = (f"server.port={self.port}", *settings)
        self._cwd = cwd
        places = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, "PYTHONPATH": places, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Until it is ready."""
        options = [option for setting in self._settings for option in ("--set", setting)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.daemon.daemon_process", "serve", *options),
            cwd=self._cwd,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read(self._process, ready), name="daemon's words")
        await ready.wait()
        assert "ready: model" in self.said, self.said

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stderr is not None
        try:
            async for line in process.stderr:
                self.said += line.decode()
                if "ready: model" in line.decode():
                    ready.set()
        finally:
            ready.set()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self._process is not None
        assert self._reading is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        status = await self._process.wait()
        await self._reading
        return status

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None


@asynccontextmanager
async def daemon_process(*settings: str, **options: object) -> AsyncIterator[DaemonProcess]:
    """A daemon that is ready; not left running, whatever happens."""
    daemon = DaemonProcess(*settings, **options)  # type: ignore[arg-type]
    try:
        await daemon.start()
        yield daemon
    finally:
        if daemon.running:
            await daemon.end(signal.SIGKILL)


def main() -> None:
    import captiond.loading
    import captiond_engine.engine
    from captiond.__main__ import main as captiond_main
    from captiond_engine.engine import Engine

    from tests.sim.audible import AudibleDevice
    from tests.sim.scripted import scripted_traits

    device = AudibleDevice()
    engine = Engine(scripted_traits(), device.tokenizer, device)
    captiond.loading.load_engine = lambda config, progress: engine
    captiond_engine.engine.import_max = lambda: None
    captiond_main()


if __name__ == "__main__":
    main()
