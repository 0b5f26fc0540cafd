"""A real daemon hears a real sound server: PortAudio, ALSA and PulseAudio, with nothing scripted.

What is played into the room is read back from the captions. The server is killed in the middle of a sentence,
comes back, and hangs at the end, with a device open.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import captiond_clients
import jiwer
import numpy as np
import pytest
import soundfile
from captiond_engine.types import Float32Array
from websockets.asyncio.client import connect
from whisper_normalizer.english import EnglishTextNormalizer

from tests.live.sound_server import SoundServer, missing, sound_server
from tests.parity import models

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

SAMPLE = Path(captiond_clients.__file__).parent / "samples"
SEGMENTS = json.loads((SAMPLE / "demo.json").read_text())["segments"]
# As a USB microphone that knows no other rate; PulseAudio takes any.
ONLY_48_KHZ = """
import sounddevice
real = sounddevice.check_input_settings
def check_input_settings(**how):
    if how["samplerate"] != 48_000:
        raise sounddevice.PortAudioError("Invalid sample rate", -9997)
    real(**how)
sounddevice.check_input_settings = check_input_settings
"""
FINAL = "transcript.final"


def sentences(first: int, count: int) -> tuple[Float32Array, str]:
    """Sound and text of so many sentences of the sample, with silence after them."""
    chosen = SEGMENTS[first : first + count]
    pcm, rate_hz = soundfile.read(SAMPLE / "demo.flac", dtype="float32")
    assert rate_hz == 16_000
    spoken = pcm[round(chosen[0]["start"] * rate_hz) : round(chosen[-1]["end"] * rate_hz)]
    return np.append(spoken, np.zeros(rate_hz, np.float32)), " ".join(row["text"] for row in chosen)


class Daemon:
    """A process of ``captiond serve``, and every event that a listener was told."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address
        self.events: list[dict[str, Any]] = []
        self.news = asyncio.Condition()

    async def listen(self) -> None:
        async with connect(f"{self.address.replace('http', 'ws', 1)}v1/captions?history=0") as socket:
            async for message in socket:
                async with self.news:
                    self.events.append(json.loads(message))
                    self.news.notify_all()

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def until(self, kind: str, count: int) -> None:
        async with asyncio.timeout(60), self.news:
            await self.news.wait_for(lambda: len(self.all(kind)) >= count)

    async def until_ready(self, ready: bool) -> list[str]:
        """The reasons that ``/readyz`` gives once it says so."""
        while True:
            said, reasons = await asyncio.to_thread(self._readyz)
            if said == ready:
                return reasons
            assert self.process.returncode is None
            await asyncio.sleep(0.1)

    def _readyz(self) -> tuple[bool, list[str]]:
        try:
            with urllib.request.urlopen(f"{self.address}readyz", timeout=10) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            said = json.load(error)
        return bool(said["ready"]), list(said["reasons"])


@asynccontextmanager
async def serving(server: SoundServer, before: str = "") -> AsyncIterator[Daemon]:
    """A daemon with a microphone in the room; it must end in good order. ``before``: done in it first."""
    models.bundled_model()  # compiled once, here, where the progress is seen
    program = f"import sys\n{before}\nfrom captiond.__main__ import main\nmain()"
    settings = ("server.port=0", "source=[{kind='microphone', name='desk'}]")
    options = [option for setting in settings for option in ("--set", setting)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "serve", "--model", "demo-en", *options),
        env=os.environ | server.environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"captions page: (http://\S+)", said)):
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
        daemon = Daemon(process, found[1])
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(process.stderr.read())
            await daemon.until_ready(True)
            tasks.create_task(daemon.listen())
            yield daemon
            process.terminate()
            async with asyncio.timeout(60):  # a process that hangs fails the test
                await draining
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def error_rate(said: str, finals: list[dict[str, Any]]) -> float:
    normal = EnglishTextNormalizer()
    return float(jiwer.wer(normal(said), normal(" ".join(event["text"] for event in finals))))


async def test_a_room_is_captioned_before_and_after_its_sound_server_dies_and_a_hung_one_holds_nobody() -> (
    None
):
    async with sound_server() as server:
        async with serving(server) as daemon:
            pcm, said = sentences(0, 4)
            await server.play(pcm)
            await daemon.until(FINAL, 4)
            assert error_rate(said, daemon.all(FINAL)) <= 0.2
            assert not daemon.all("audio.lost")

            pcm, said = sentences(5, 1)
            partials, finals = len(daemon.all("transcript.partial")), len(daemon.all(FINAL))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.play(pcm))
                await daemon.until("transcript.partial", partials + 3)
                died_at = time.monotonic()
                await server.die()
            (reason,) = await daemon.until_ready(False)
            assert "Microphone desk" in reason
            assert "tried again" in reason
            await daemon.until(FINAL, finals + 1)  # what was heard of the sentence, while there is no server
            away_ms = (time.monotonic() - died_at) * 1000
            await server.start()
            await daemon.until_ready(True)
            lost = daemon.all("audio.lost")
            assert {event["reason"] for event in lost} == {"microphone"}
            assert lost[-1]["end_ms"] - lost[0]["start_ms"] >= away_ms - 200  # the system's own buffers

            finals = len(daemon.all(FINAL))
            pcm, said = sentences(7, 2)
            await server.play(pcm)
            await daemon.until(FINAL, finals + 2)
            assert error_rate(said, daemon.all(FINAL)[finals:]) <= 0.2
            assert daemon.all(FINAL)[finals]["start_ms"] >= lost[-1]["end_ms"]

            server.hang()
            (reason,) = await daemon.until_ready(False)
            assert "no sound for 3 s" in reason
        # Its process has ended in good order, with a device open that cannot be closed.
        assert daemon.all("stream.closed")[-1]["reason"] == "shutdown"


async def test_a_device_that_does_48_khz_only_is_understood() -> None:
    async with sound_server() as server, serving(server, ONLY_48_KHZ) as daemon:
        pcm, said = sentences(0, 2)
        await server.play(pcm)
        await daemon.until(FINAL, 2)
        assert error_rate(said, daemon.all(FINAL)) <= 0.2


async def test_the_devices_of_a_sound_server_are_listed() -> None:
    async with sound_server() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "captiond", "devices", "--json"),
            env=os.environ | server.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    devices = json.loads(out)
    assert {device["name"] for device in devices} == {"pulse", "default"}
    assert [device["default"] for device in devices if device["name"] == "default"] == [True]
    assert all({16_000, 48_000} <= set(device["takes_hz"]) for device in devices)
