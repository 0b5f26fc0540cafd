"""A small daemon for the clients' tests: real loopback websockets, protocol.md's shapes, no speech.

Each whole second of audio (16 kHz, s16le) is one segment. If all its samples have the value k, its final
reads "second k", else "torn": so a test sees from the texts whether audio was lost, doubled or shifted.
``drop_after`` breaks the speaker's socket, without a close frame, when so many bytes have been heard.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

SECOND_BYTES = 32_000


def seconds_of_audio(*values: int) -> bytes:
    """One second of constant samples for each value."""
    return b"".join(np.full(16_000, value, "<i2").tobytes() for value in values)


@dataclass
class Spoken:
    """One stream, which outlives its speaker's sockets."""

    name: str
    audio: bytearray = field(default_factory=bytearray)
    events: list[dict[str, Any]] = field(default_factory=list)
    segments: int = 0
    closed: bool = False


@dataclass
class FakeDaemon:
    epoch: int = 1
    drop_after: list[int] = field(default_factory=list)
    mute_drops: bool = False  # a dropped socket takes the events of its last second with it
    refuse: list[int] = field(default_factory=list)  # HTTP statuses for the next handshakes
    greeting: list[str] = field(default_factory=list)  # sent instead of hello
    streams: dict[str, Spoken] = field(default_factory=dict)
    queries: list[dict[str, str]] = field(default_factory=list)
    listeners: set[ServerConnection] = field(default_factory=set)
    speakers: set[ServerConnection] = field(default_factory=set)
    url: str = ""

    def restart(self) -> None:
        """Forgets everything, as a new process would."""
        self.epoch += 1
        self.streams.clear()

    def finals(self, name: str) -> list[str]:
        return [event["text"] for event in self.streams[name].events if event["type"] == "transcript.final"]

    def tell(self, spoken: Spoken, kind: str, **fields: object) -> dict[str, Any]:
        event = {"v": 1, "type": kind, "stream": spoken.name, "seq": len(spoken.events) + 1, **fields}
        spoken.events.append(event)
        for listener in self.listeners:
            listener_task = asyncio.ensure_future(listener.send(json.dumps(event)))
            listener_task.set_name("fake daemon telling")
        return event

    async def converse(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        parts = urlsplit(socket.request.path)
        query = dict(parse_qsl(parts.query))
        self.queries.append(query)
        if self.greeting:
            await socket.send(self.greeting.pop(0))
            await socket.close()
        elif parts.path == "/v1/speak":
            self.speakers.add(socket)
            await self._speak(socket, query)
        else:
            await self._captions(socket, query)

    # --- /v1/speak -----------------------------------------------------------------------------------

    async def _speak(self, socket: ServerConnection, query: dict[str, str]) -> None:
        spoken = self.streams.get(query.get("resume", ""))
        if "resume" in query and (spoken is None or spoken.closed):
            unknown = {"type": "error", "code": "resume_unknown", "message": "Not known.", "fatal": True}
            await socket.send(json.dumps({"v": 1, **unknown}))
            return
        more: dict[str, object] = {}
        if spoken is None:
            spoken = self.streams.setdefault(query.get("stream", "made"), Spoken(query.get("stream", "made")))
            self.tell(spoken, "stream.opened", source="websocket")
            since = 0
        else:
            del spoken.audio[len(spoken.audio) // 32 * 32 :]  # heard_until_ms is whole milliseconds
            more["heard_until_ms"] = len(spoken.audio) // 32
            since = int(query["since"])
        hello = {"v": 1, "type": "hello", "server": "fake", "epoch": str(self.epoch), "model": "none"}
        await socket.send(json.dumps({**hello, "stream": spoken.name, "resume": spoken.name, **more}))
        for event in spoken.events[since:]:
            await socket.send(json.dumps(event))
        async for message in socket:
            told = len(spoken.events)
            if isinstance(message, bytes):
                self._hear(spoken, message)
            else:
                self._obey(spoken, json.loads(message)["type"])
            drop = bool(self.drop_after) and len(spoken.audio) >= self.drop_after[0]
            if not (drop and self.mute_drops):
                for event in spoken.events[told:]:
                    await socket.send(json.dumps(event))
            if drop:
                self.drop_after.pop(0)
                socket.transport.abort()
                return
            if spoken.closed:
                return

    def _hear(self, spoken: Spoken, audio: bytes) -> None:
        spoken.audio += audio
        while len(spoken.audio) >= (spoken.segments + 1) * SECOND_BYTES:
            start = spoken.segments * SECOND_BYTES
            self._segment(spoken, bytes(spoken.audio[start : start + SECOND_BYTES]))

    def _segment(self, spoken: Spoken, audio: bytes) -> None:
        values = set(np.frombuffer(audio, "<i2").tolist())
        text = f"second {values.pop()}" if len(values) == 1 else "torn"
        number, start_ms = spoken.segments, spoken.segments * 1000
        end_ms = start_ms + len(audio) // 32
        spoken.segments += 1
        self.tell(spoken, "speech.started", segment=number, at_ms=start_ms)
        self.tell(
            spoken,
            "transcript.partial",
            segment=number,
            revision=1,
            committed=text.split(maxsplit=1)[0],
            tentative=text.removeprefix(text.split(maxsplit=1)[0]),
            start_ms=start_ms,
            heard_until_ms=end_ms,
        )
        self.tell(spoken, "speech.ended", segment=number, at_ms=end_ms, reason="silence")
        words = [{"text": text, "start_ms": start_ms, "end_ms": end_ms, "probability": 0.5}]
        self.tell(
            spoken,
            "transcript.final",
            segment=number,
            text=text,
            start_ms=start_ms,
            end_ms=end_ms,
            language="en",
            words=words,
        )

    def _obey(self, spoken: Spoken, kind: str) -> None:
        tail = bytes(spoken.audio[spoken.segments * SECOND_BYTES :])
        if kind in ("flush", "end") and len(tail) > 1:
            self._segment(spoken, tail[: len(tail) // 2 * 2])
        if kind == "flush":
            self.tell(spoken, "flushed", heard_until_ms=len(spoken.audio) // 32)
        if kind == "end":
            self.tell(spoken, "stream.closed", reason="end")
            spoken.closed = True

    # --- /v1/captions ----------------------------------------------------------------------------------

    async def _captions(self, socket: ServerConnection, query: dict[str, str]) -> None:
        hello = {"v": 1, "type": "hello", "server": "fake", "epoch": str(self.epoch), "model": "none"}
        if query.get("epoch", str(self.epoch)) != str(self.epoch):
            hello["gap"] = True
        await socket.send(json.dumps(hello))
        since = int(query.get("since", 0)) if query.get("epoch") == str(self.epoch) else 0
        history = int(query["history"])
        for spoken in self.streams.values():
            finals = [event for event in spoken.events if event["type"] == "transcript.final"]
            past = finals[len(finals) - history if history < len(finals) else 0 :]
            for event in spoken.events[since:] if since else past:
                await socket.send(json.dumps(event))
        self.listeners.add(socket)
        try:
            await socket.wait_closed()
        finally:
            self.listeners.discard(socket)

    def cut_listeners(self) -> None:
        while self.listeners:
            self.listeners.pop().transport.abort()

    def cut_speakers(self) -> None:
        while self.speakers:
            self.speakers.pop().transport.abort()


@asynccontextmanager
async def fake_daemon(**settings: Any) -> AsyncIterator[FakeDaemon]:
    daemon = FakeDaemon(**settings)

    def refuse(socket: ServerConnection, request: Request) -> Response | None:
        if daemon.refuse:
            return socket.respond(HTTPStatus(daemon.refuse.pop(0)), "said so\n")
        return None

    async with serve(daemon.converse, "127.0.0.1", 0, process_request=refuse, compression=None) as server:
        daemon.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield daemon
