"""Speaks clips into a daemon's websocket at real-time pace and keeps what comes back and when it came.

Takes a daemon's address and audio; gives ``Received`` events. A frame of 20 ms is sent when a microphone
would have captured its last sample. After a clip comes ``tail_s`` of digital silence, as a microphone goes
on when speech ends, so that finals come of the endpoint and not of the end of the file. Knows no metric.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from daemon.bench.clips import SAMPLE_RATE_HZ, Clip, Float32Array, read_audio
from daemon.bench.timeline import Event, Received

LAST_WORDS_S = 120.0  # how long a stream may take to close after its audio has ended


class FeedingError(Exception):
    """The daemon did not answer as the wire's contract says."""


@dataclass(frozen=True, slots=True)
class Pace:
    """``frame_ms``: audio in one message. ``tail_s``: silence after a clip. ``parallel``: streams at once, of
    which each begins ``stagger_s`` after the one before it, as people do not begin all at once."""

    frame_ms: int = 20
    tail_s: float = 1.5
    parallel: int = 1
    stagger_s: float = 0.37


@dataclass(frozen=True, slots=True)
class Recording:
    """What one clip gave. ``late_s``: how late the latest frame was sent (0: the pace was held)."""

    clip: Clip
    received: tuple[Received, ...]
    late_s: float
    model: str


async def feed_all(
    url: str, clips: Sequence[Clip], pace: Pace, told: Callable[[Recording], None]
) -> list[Recording]:
    """All clips, ``pace.parallel`` at once, each on a stream of its own. ``told`` hears of each when done."""
    waiting = sorted(clips, key=lambda clip: clip.seconds)  # taken from its end, longest first
    recordings: list[Recording] = []

    async def feed_on(number: int) -> None:
        await asyncio.sleep(number * pace.stagger_s)
        while waiting:
            clip = waiting.pop()
            recording = await feed(url, clip, read_audio(clip.path), pace)
            recordings.append(recording)
            told(recording)

    async with asyncio.TaskGroup() as group:
        for number in range(pace.parallel):
            group.create_task(feed_on(number), name=f"bench feed {number}")
    return recordings


async def feed(url: str, clip: Clip, pcm: Float32Array, pace: Pace) -> Recording:
    """One clip on one new stream. Raises FeedingError where the stream does not begin and end as it must."""
    address = url.replace("http", "ws", 1).rstrip("/") + "/v1/speak?" + urlencode({"timings": 1})
    async with connect(address, compression=None, max_size=None) as socket:
        hello = _event(await socket.recv())
        if hello["type"] != "hello":
            raise FeedingError(f"{clip.id}: the first message is {hello['type']}, not hello")
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send(socket, pcm, pace, started), name="bench send")
            hearing = group.create_task(_hear(socket, clip, started), name="bench hear")
            late_s = await sending
            async with asyncio.timeout(LAST_WORDS_S):
                received = await hearing
    return Recording(clip, received, late_s, _model_name(hello))


async def _send(socket: ClientConnection, pcm: Float32Array, pace: Pace, started: float) -> float:
    """Returns the lateness of the latest frame, in seconds."""
    loop = asyncio.get_running_loop()
    tail = np.zeros(round(pace.tail_s * SAMPLE_RATE_HZ), np.float32)
    wire = (np.clip(np.concatenate((pcm, tail)), -1, 1) * 32767).round().astype("<i2")
    step = SAMPLE_RATE_HZ * pace.frame_ms // 1000
    late_s = 0.0
    for end in range(step, len(wire) + step, step):
        due = started + min(end, len(wire)) / SAMPLE_RATE_HZ
        await asyncio.sleep(max(0.0, due - loop.time()))
        await socket.send(wire[end - step : end].tobytes())
        late_s = max(late_s, loop.time() - due)
    await socket.send(json.dumps({"type": "end"}))
    return late_s


async def _hear(socket: ClientConnection, clip: Clip, started: float) -> tuple[Received, ...]:
    loop = asyncio.get_running_loop()
    received = []
    async for message in socket:
        received.append(Received(loop.time() - started, _event(message)))
    if not received or received[-1].event["type"] != "stream.closed":
        raise FeedingError(f"{clip.id}: the socket closed ({socket.close_code}) without stream.closed")
    return tuple(received)


def _event(message: str | bytes) -> Event:
    event = json.loads(message)
    if not isinstance(event, dict) or "type" not in event:
        raise FeedingError(f"not an event: {message[:80]!r}")
    return event


def _model_name(hello: Event) -> str:
    model = hello.get("model")
    return str(model.get("name", model) if isinstance(model, dict) else model)
