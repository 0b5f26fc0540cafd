"""Starts ``captiond serve`` as a child process on a free port, waits until it is ready, and stops it.

Takes a model's name and settings; gives the daemon's address. Its log goes on to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence

ADDRESS = re.compile(r"captions page: (http://\S+)")
READY_EVERY_S = 0.5
STOP_S = 20.0


class DaemonError(Exception):
    """The daemon ended, or never said where it listens."""


@contextlib.asynccontextmanager
async def running_daemon(model: str, settings: Sequence[str] = ()) -> AsyncIterator[str]:
    """The address of a ready daemon (``http://127.0.0.1:PORT``); stopped with SIGTERM at the end."""
    options = [option for setting in ("server.port=0", *settings) for option in ("--set", setting)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "captiond", "serve", "--model", model, *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        log = group.create_task(_pass_on_log(process, address), name="bench daemon log")
        try:
            url = (await address).rstrip("/")
            while not await asyncio.to_thread(_is_ready, url):
                if process.returncode is not None:
                    raise DaemonError(f"captiond serve ended with {process.returncode} before it was ready")
                await asyncio.sleep(READY_EVERY_S)
            yield url
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_S)
            if process.returncode is None:
                process.kill()
            await log


async def _pass_on_log(process: asyncio.subprocess.Process, address: asyncio.Future[str]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        text = line.decode("utf-8", "replace")
        sys.stderr.write(f"  daemon: {text}")
        found = ADDRESS.search(text)
        if found and not address.done():
            address.set_result(found[1])
    if not address.done():
        address.set_exception(DaemonError(f"captiond serve ended with {await process.wait()}"))


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
