"""A peer that floods: it is read at a measured pace, its answers do not pile up, nothing of it is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from captiond.connection import AHEAD_S, FRAMES_A_SECOND, PIECE_BYTES, FairConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

HIGH = 4  # messages that may wait


@dataclass
class Listener:
    """A server that keeps what it is told, while ``reading`` is set."""

    reading: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str | bytes] = field(default_factory=list)
    connected: asyncio.Future[ServerConnection] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, count: int) -> None:
        while len(self.heard) < count:  # noqa: ASYNC110 (an event for each message would cost more)
            await asyncio.sleep(0.01)

    async def talk(self, connection: ServerConnection) -> None:
        self.connected.set_result(connection)
        try:
            while True:
                await self.reading.wait()
                self.heard.append(await connection.recv())
        except ConnectionClosed:
            self.ended.set()


@asynccontextmanager
async def conversation() -> AsyncIterator[tuple[Listener, ServerConnection, ClientConnection]]:
    listener = Listener()
    options = {"compression": None, "ping_interval": None, "max_queue": (HIGH, 3), "close_timeout": 5}
    async with serve(listener.talk, "127.0.0.1", 0, create_connection=FairConnection, **options) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}", proxy=None, compression=None, ping_interval=None, close_timeout=5
        ) as client:
            try:
                yield listener, await listener.connected, client
            finally:
                listener.reading.set()


def frames(opcode: Opcode, payload: bytes, number: int) -> bytes:
    return b"".join(Frame(opcode, payload).serialize(mask=True) for _ in range(number))


async def test_answers_that_nobody_reads_do_not_pile_up_and_none_is_lost() -> None:
    async with conversation() as (_, server, client):
        client.transport.pause_reading()
        pings = 100_000
        client.transport.write(frames(Opcode.PING, b"x" * 125, pings))  # more than sockets hold
        largest = 0
        for _ in range(200):
            await asyncio.sleep(0.1)
            largest = max(largest, server.transport.get_write_buffer_size())
        assert 0 < largest < 2**15 + 2 * PIECE_BYTES
        assert not server.transport.is_reading()  # TCP pushes back
        client.transport.resume_reading()
        left, answered = [pings], asyncio.Event()

        def count(data: bytes) -> None:
            left[0] -= 1
            if not left[0]:
                answered.set()

        client.acknowledge_pings = count  # type: ignore[method-assign]
        await answered.wait()


async def test_frames_are_taken_in_at_a_measured_pace() -> None:
    async with conversation() as (listener, _, client):
        listener.reading.set()
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 20_000
        client.transport.write(frames(Opcode.BINARY, b"", number))
        await listener.until(number)
        assert loop.time() - began > number / FRAMES_A_SECOND - 2 * AHEAD_S


async def test_what_waits_for_a_reader_is_bounded() -> None:
    async with conversation() as (listener, server, client):
        client.transport.write(frames(Opcode.TEXT, b"{}", 40_000))
        for _ in range(50):
            await asyncio.sleep(0.1)
            assert len(server.recv_messages.frames) <= HIGH + 1 + PIECE_BYTES // 8
        listener.reading.set()
        await listener.until(40_000)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_sizes_all_of_it_comes_in_order(seed: int) -> None:
    chance = random.Random(seed)
    said: list[str | bytes] = []
    async with conversation() as (listener, _, client):
        raw = b""
        for _ in range(150):
            size = chance.choice((0, 1, 2, 125, 126, PIECE_BYTES - 3, PIECE_BYTES, 70_000))
            payload = chance.randbytes(size)
            raw += frames(Opcode.PING, b"", chance.randrange(3))
            half = chance.randrange(size + 1)
            raw += Frame(Opcode.BINARY, payload[:half], fin=False).serialize(mask=True)
            raw += frames(Opcode.PONG, b"unasked", chance.randrange(2))
            raw += Frame(Opcode.CONT, payload[half:]).serialize(mask=True)
            said.append(payload)
        for start in range(0, len(raw), 300_000):
            client.transport.write(raw[start : start + 300_000])
            await asyncio.sleep(0)
            (listener.reading.set if chance.random() < 0.6 else listener.reading.clear)()
        listener.reading.set()
        await client.close()
        await listener.ended.wait()
        assert listener.heard == said


async def test_the_last_words_of_a_peer_that_only_hangs_up_are_heard() -> None:
    async with conversation() as (listener, _, client):
        listener.reading.set()
        client.transport.write(frames(Opcode.TEXT, b"word", 3_000))
        client.transport.write_eof()
        await listener.ended.wait()
        assert listener.heard == ["word"] * 3_000
