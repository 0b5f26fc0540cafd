"""The library against the real daemon with a scripted device, through a line that keeps breaking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from captiond_clients.client import listen, speak
from captiond_clients.events import Event, Final, StreamClosed

from tests.daemon.house import audio_of, house, s16
from tests.sim.scripted import say

SCRIPT = (
    *say("turn on the lights"),
    *say("what is the time", at=5 * 16_000),
    *say("play some music", at=10 * 16_000),
)
SAID = ["turn on the lights", "what is the time", "play some music"]


class Line:
    """A TCP relay to the daemon that can be cut."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self._ends: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._ends |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4_096):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        while self._ends:
            self._ends.pop().transport.abort()


@asynccontextmanager
async def line_to(target: str) -> AsyncIterator[Line]:
    line = Line(target)
    server = await asyncio.start_server(line.relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    line.url = f"http://{host}:{port}"
    try:
        yield line
    finally:
        line.cut()
        server.close()


async def speak_over(line: Line, cut_each: int) -> list[Event]:
    """Speaks SCRIPT through ``line``, cutting it after each ``cut_each`` bytes and once after the end."""
    heard: list[Event] = []
    audio = s16(audio_of(SCRIPT))
    async with speak(line.url, stream="hall") as speaker:

        async def read() -> None:
            async for event in speaker:
                heard.append(event)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(), name="reading")
            for offset in range(0, len(audio), 6_400):
                await speaker.send(audio[offset : offset + 6_400])
                if (offset // 6_400 + 1) % (cut_each // 6_400) == 0:
                    line.cut()
                await asyncio.sleep(0.005)
            await speaker.end()
            line.cut()
    return heard


async def test_a_speaker_over_a_breaking_line_loses_and_doubles_no_final() -> None:
    async with house(SCRIPT) as home, line_to(urlsplit(home.address).netloc) as line:
        heard = await speak_over(line, cut_each=96_000)
    assert [event.text for event in heard if isinstance(event, Final)] == SAID
    assert isinstance(heard[-1], StreamClosed)


async def test_a_listener_over_a_breaking_line_loses_and_doubles_no_final() -> None:
    async with house(SCRIPT) as home, line_to(urlsplit(home.address).netloc) as line:
        for stream in ("*", "hall"):
            texts: list[str] = []
            async with listen(line.url, stream=stream, history=0) as events, speak(home.address) as other:
                await anext(events)
                async with asyncio.TaskGroup() as tasks:
                    speaking = tasks.create_task(speak_straight(home.address), name="speaking")
                    async for event in events:
                        if isinstance(event, Final):
                            texts.append(event.text)
                            line.cut()
                            if len(texts) == len(SAID):
                                break
                    await speaking
                await other.end()
            assert texts == SAID


async def speak_straight(url: str) -> None:
    async with speak(url, stream="hall") as speaker:
        audio = s16(audio_of(SCRIPT))
        for offset in range(0, len(audio), 6_400):
            await speaker.send(audio[offset : offset + 6_400])
            await asyncio.sleep(0.005)
        await speaker.end()
        async for _ in speaker:
            pass
