"""What systemd hears: a notify socket that keeps every message, to stand in for the service manager.

Takes: datagrams of any process. Gives: their assignments, in order. Nothing waits for it: a thread reads,
as a kernel may hold as few as ten datagrams.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from pathlib import Path
from types import TracebackType

from captiond.systemd import Notifier


class ServiceManager:
    """Use as a context manager. ``address``: for NOTIFY_SOCKET."""

    def __init__(self, folder: Path, *, watchdog_s: float | None = None) -> None:
        self.address = str(folder / "notify")
        self.notifier = Notifier(self.address, watchdog_s)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told: list[str] = []
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read_on, name="service manager", daemon=True)

    def told(self, *names: str) -> list[str]:
        """Every assignment so far, or those of these names."""
        with self._turn:
            self._read()
            return [line for line in self._told if not names or line.partition("=")[0] in names]

    def forget(self) -> None:
        with self._turn:
            self._read()
            self._told.clear()

    def _read(self) -> None:
        while True:
            try:
                self._told += self._socket.recv(4_096).decode().split("\n")
            except BlockingIOError:
                return

    def _read_on(self) -> None:
        while not self._ended.is_set():
            if select.select([self._socket], [], [], 0.2)[0]:
                with self._turn:
                    self._read()

    @property
    def status(self) -> str:
        """The sentence that `systemctl status` would show now."""
        return (["", *self.told("STATUS")])[-1].removeprefix("STATUS=")

    async def until(self, *assignments: str) -> None:
        """Until these have been heard, in any order."""
        async with asyncio.timeout(300):
            while not set(assignments) <= set(self.told()):  # noqa: ASYNC110 (a socket of its own)
                await asyncio.sleep(0.05)

    def __enter__(self) -> ServiceManager:
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._reader.join()
        self._socket.close()
