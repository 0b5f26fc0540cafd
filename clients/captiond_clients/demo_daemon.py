"""A daemon of the demo's own: started, waited for, shown to be working, and always ended.

Gives its address and a wait until it is ready. Its standard error is passed on, so that its own progress
and failures are seen; the line that names its port is read out of it. Knows nothing of audio.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from captiond_clients.errors import ClientError

PAGE_LINE = re.compile(r"captions page: (https?://\S+)")
INFO = re.compile(r"^\S+ INFO ")
BIND_S = 60.0  # from the start of Python to the open port, before any model is read
POLL_S = 0.25
STOP_S = 15.0  # the daemon promises to be gone after 10 s
LAST_LINES = 12


class DaemonFailedError(ClientError):
    """The daemon ended by itself; the exit status is its own."""

    def __init__(self, status: int, last_lines: str) -> None:
        said = f" It said:\n{last_lines}" if last_lines else ""
        super().__init__("daemon_failed", f"The daemon ended with status {status}.{said}")
        self.exit_code = status if 0 < status < 128 else 1


class DemoDaemon:
    """The child process, while it runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._ended = asyncio.Event()
        self._quiet = False  # once it is ready only its warnings are shown

    async def pass_on(self) -> None:
        """Copies the child's standard error to ours, until it ends."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            found = PAGE_LINE.search(text)
            if found and not self._address.done():
                self._address.set_result(found.group(1).rstrip("/"))
                continue
            self._last_lines.append(text)
            if not (self._quiet and INFO.search(text)):
                sys.stderr.write(f"  daemon: {text}\n")
                sys.stderr.flush()
        await self._process.wait()
        self._ended.set()
        if not self._address.done():
            self._address.set_exception(self._failed())
            self._address.exception()  # seen, also where nobody waits for it

    async def address(self) -> str:
        """Where it listens. Raises DaemonFailedError when it ends before."""
        try:
            async with asyncio.timeout(BIND_S):
                return await asyncio.shield(self._address)
        except TimeoutError:
            raise ClientError(
                "daemon_failed", f"The daemon did not open its port within {BIND_S:.0f} s."
            ) from None

    async def ready(self) -> None:
        """Waits until the model is warm; what it waits for is told by the daemon's own lines."""
        netloc = urlsplit(self._address.result()).netloc
        while not await asyncio.to_thread(_is_ready, netloc):
            await asyncio.sleep(POLL_S)
            if self._ended.is_set():
                raise self._failed()
        self._quiet = True

    async def gone(self) -> None:
        await self._process.wait()

    def _failed(self) -> DaemonFailedError:
        return DaemonFailedError(self._process.returncode or 0, "\n".join(self._last_lines))

    async def stop(self) -> None:
        """SIGTERM, and after STOP_S the end without asking."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _is_ready(netloc: str) -> bool:
    connection = HTTPConnection(netloc, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@asynccontextmanager
async def demo_daemon(settings: tuple[str, ...] = ()) -> AsyncIterator[DemoDaemon]:
    """``captiond serve --model demo-en`` on a free port, ended whatever happens inside."""
    chosen = [part for setting in ("server.port=0", *settings) for part in ("--set", setting)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "captiond_clients.tied", str(os.getpid())),  # it ends where we are killed
        *(sys.executable, "-m", "captiond", "serve", "--model", "demo-en", *chosen),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,  # Ctrl-C reaches us alone; we end it in order
    )
    daemon = DemoDaemon(process)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.pass_on(), name="demo daemon's words")
        try:
            yield daemon
        except Exception as error:  # handed on as it is, not wrapped in the group's exception
            failure = error
        finally:
            await daemon.stop()
    if failure is not None:
        raise failure
