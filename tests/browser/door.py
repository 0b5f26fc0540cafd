"""A way to a daemon on which requests are changed or refused, as proxies do and crowded daemons.

Takes the daemon's host and port, and what becomes of the head of each request. Gives an address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def door_to(netloc: str, change: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """``change`` gives the head of a request as it goes on, or nothing for one that is answered with 503."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = change(await reader.readuntil(b"\r\n\r\n"))
            if not head:
                writer.write(BUSY)
                writer.close()
                return
            host, _, port = netloc.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            far_writer.write(head)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(copy(reader, far_writer), name="to the daemon")
                tasks.create_task(copy(far_reader, writer), name="to the browser")

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()
