"""A daemon with a scripted device, and a client that keeps everything it was told.

Takes: a script and configuration. Gives: a running daemon's address and plain websockets to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from captiond.app import App
from captiond.config import Config
from captiond.systemd import Notifier
from captiond_engine.engine import Engine
from captiond_engine.progress import Progress
from captiond_engine.types import Float32Array
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.sim.scripted import Script, ScriptedDevice, scripted_traits, speech_audio

Event = dict[str, Any]
RATE_HZ = 16_000
FINAL = "transcript.final"


def scripted_engine(script: Script | Mapping[int, Script], **device: Any) -> Engine:
    scripted = ScriptedDevice(script, **device)
    return Engine(traits=scripted_traits(), tokenizer=scripted.tokenizer, device=scripted)


def configured(*, source: Sequence[Mapping[str, Any]] = (), **tables: Mapping[str, Any]) -> Config:
    """The defaults with any free port and what ``tables`` change."""
    data: dict[str, Any] = {name: dict(table) for name, table in tables.items()}
    data.setdefault("server", {}).setdefault("port", 0)
    data["source"] = [{"kind": "file", **entry} for entry in source]
    return msgspec.convert(data, Config)


@dataclass
class House:
    """A running daemon."""

    app: App
    stop: asyncio.Event
    running: asyncio.Task[None]
    address: str

    @property
    def netloc(self) -> str:
        return urlsplit(self.address).netloc

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        return await get(self.netloc, path, method=method, headers=headers)

    async def ready(self) -> None:
        """Wait until a stranger would find it ready."""
        while (await self.get("/readyz")).status != 200:  # noqa: ASYNC110 (it is asked from outside)
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def speaker(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        async with self.client(f"/v1/speak?{query}", **options) as client:
            yield client

    @asynccontextmanager
    async def viewer(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        async with self.client(f"/v1/captions?{query}", **options) as client:
            yield client

    @asynccontextmanager
    async def client(self, path: str, **options: Any) -> AsyncIterator[Client]:
        options.setdefault("compression", None)
        options.setdefault("ping_interval", None)
        options.setdefault("close_timeout", 1)
        async with connect(f"ws://{self.netloc}{path}", proxy=None, **options) as socket:
            client = Client(socket)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(client.read(), name="client reading")
                try:
                    yield client
                finally:
                    await socket.close()
                    await asyncio.wait([reading], timeout=5)
                    reading.cancel()


@dataclass
class Client:
    """Everything that one websocket was told, and how it was closed."""

    socket: ClientConnection
    events: list[Event] = field(default_factory=list)
    code: int | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def read(self) -> None:
        try:
            while True:
                await self.hold.wait()
                message = await self.socket.recv()
                async with self._news:
                    self.events.append(json.loads(message))
                    self._news.notify_all()
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 1006
        async with self._news:
            self._news.notify_all()

    async def until(self, kind: str, count: int = 1) -> Event:
        """The ``count``-th event of ``kind``; fails when the connection ends without it."""
        async with self._news:
            async with asyncio.timeout(300):
                await self._news.wait_for(lambda: len(self.all(kind)) >= count or self.code is not None)
        assert len(self.all(kind)) >= count, f"no {kind} ({count}) before close {self.code}: {self.events}"
        return self.all(kind)[count - 1]

    async def closed(self) -> int:
        async with self._news:
            async with asyncio.timeout(300):
                await self._news.wait_for(lambda: self.code is not None)
        assert self.code is not None
        return self.code

    def all(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    def texts(self) -> list[str]:
        return [event["text"] for event in self.all(FINAL)]

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def speak(self, pcm: Float32Array, *, pace: float | None = 1.0, piece: int = 1_600) -> None:
        """Send ``pcm`` as 16-bit audio, at ``pace`` times real time or at once (None)."""
        for start in range(0, len(pcm), piece):
            part = pcm[start : start + piece]
            if pace:
                await asyncio.sleep(len(part) / RATE_HZ / pace)
            await self.socket.send(s16(part))


def s16(pcm: Float32Array) -> bytes:
    return np.round(pcm * 32_767).astype("<i2").tobytes()


def audio_of(script: Script, after_s: float = 1.0) -> Float32Array:
    last = max((word.end for word in script), default=0)
    return speech_audio(script, last + round(after_s * RATE_HZ))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def get(netloc: str, path: str, *, method: str = "GET", headers: Mapping[str, str]) -> Answer:
    """One raw HTTP request; ``headers`` may replace Host, or leave it out with an empty value."""
    host, _, port = netloc.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    wanted = {"Host": netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in wanted.items() if value)]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@asynccontextmanager
async def house(
    script: Script | Mapping[int, Script] = (),
    *,
    config: Config | None = None,
    engine: Engine | None = None,
    load: Any = None,
    reread: Any = None,
    notifier: Notifier | None = None,
    **device: Any,
) -> AsyncIterator[House]:
    """A daemon that is ready, unless ``load`` is given; stopped in order at the end."""
    bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    made = engine or scripted_engine(script, **device)

    def at_once(progress: Progress) -> Engine:
        return made

    app = App(
        config or configured(),
        load or at_once,
        on_bound=bound.set_result,
        reread=reread,
        notifier=notifier,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(app.run(stop), name="daemon")
    waited: list[asyncio.Future[Any]] = [running, bound]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    built = House(app, stop, running, bound.result())
    try:
        if load is None and not (config and config.source):
            await built.ready()
        yield built
    finally:
        stop.set()
        async with asyncio.timeout(120):
            await running
