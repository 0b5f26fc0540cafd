"""How a node goes: with its last finals and ``offline``, or without a word, so that its will is told."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from tests.daemon.house import audio_of, get, s16
from tests.mqtt.broker import Mosquitto, reading
from tests.sim.scripted import say

ROOT = Path(__file__).parents[2]
WORDS = "this is the last thing that was said"


@asynccontextmanager
async def process(broker: Mosquitto) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.mqtt.scripted_daemon",
        str(broker.port),
        WORDS,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert made.stdout is not None
    try:
        yield made, (await made.stdout.readline()).decode().strip()
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def heard(address: str, milliseconds: int) -> None:
    """Until the daemon has heard so much of its only stream."""
    while True:
        streams = (await get(urlsplit(address).netloc, "/v1/streams", headers={})).json()
        if streams[0]["heard_until_ms"] >= milliseconds:
            return
        await asyncio.sleep(0.02)


async def test_a_daemon_that_is_killed_is_offline(broker: Mosquitto) -> None:
    with reading(broker, "captiond/#") as reader:
        async with process(broker) as (daemon, _):
            await reader.until_last("n/status", b"online")
            daemon.kill()
            await reader.until_last("n/status", b"offline")
    with reading(broker, "captiond/#") as late:
        status = await late.until("n/status")
        assert (status.payload, status.retain) == (b"offline", True)


async def test_a_daemon_that_is_stopped_says_its_last_finals_first(broker: Mosquitto) -> None:
    with reading(broker, "captiond/#") as reader:
        async with process(broker) as (daemon, address):
            async with connect(address.replace("http", "ws", 1) + "v1/speak?stream=hall") as socket:
                audio = s16(audio_of(say(WORDS), after_s=0))  # no silence at its end: the segment is open
                await socket.send(audio)
                await heard(address, len(audio) // 32)
                await reader.until_last("hall/speech", b"ON")
                daemon.send_signal(signal.SIGTERM)
                await reader.until_last("n/status", b"offline")
            assert await daemon.wait() == 0
        told = [message.topic.removeprefix("captiond/n/") for message in reader.heard]
        assert [final.json()["text"] for final in reader.on("hall/final")] == [WORDS]
        assert reader.payloads("hall/speech") == [b"ON", b"OFF"]
        assert told[-1] == "status"
        assert reader.payloads("n/status") == [b"online", b"offline"]
