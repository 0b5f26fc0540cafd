"""A TCP line to the broker on which things go wrong: answers that never arrive, a cut, an old broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

OLDER_ONLY = bytes((0x20, 2, 0, 1))  # CONNACK of MQTT 3.1.1: unacceptable protocol version


class Line:
    """``deaf``: what the broker says is dropped. ``old``: the broker pretends not to know MQTT 5."""

    def __init__(self, target: int, *, old: bool) -> None:
        self.port = 0
        self.connections = 0
        self.deaf = False
        self._target = target
        self._old = old
        self._ends: set[asyncio.StreamWriter] = set()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._ends.add(writer)
        with suppress(OSError):
            first = await reader.read(4_096)
            if self._old and b"MQTT\x05" in first:
                writer.write(OLDER_ONLY)
                await writer.drain()
                writer.close()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._ends.add(far_writer)
            far_writer.write(first)
            await asyncio.gather(
                self._copy(reader, far_writer, held=False), self._copy(far_reader, writer, held=True)
            )

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(4_096):
                if not (held and self.deaf):
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        while self._ends:
            self._ends.pop().transport.abort()


@asynccontextmanager
async def line_to(port: int, *, old: bool = False) -> AsyncIterator[Line]:
    line = Line(port, old=old)
    server = await asyncio.start_server(line.relay, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        server.close()
