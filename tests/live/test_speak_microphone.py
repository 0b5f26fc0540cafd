"""``captiond speak --mic`` with a real sound server: what the room hears arrives, and Ctrl-C is orderly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from captiond_engine.types import Float32Array

from tests.clients.fake_daemon import FakeDaemon, fake_daemon
from tests.live.sound_server import SoundServer, missing, sound_server

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def tone(hz: float, seconds: float) -> Float32Array:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.float32)


def pitch_hz(audio: bytes) -> float:
    """The strongest frequency of 16 bit sound at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(np.frombuffer(audio, "<i2")))
    return float(np.fft.rfftfreq(len(audio) // 2, 1 / 16_000)[spectrum.argmax()])


@asynccontextmanager
async def speaking(server: SoundServer, daemon: FakeDaemon) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, once its first second of sound has arrived as stream "hall"."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "captiond", "speak", "--mic", "--url", daemon.url, "--stream", "hall"),
        env=os.environ | server.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while "hall" not in daemon.streams or len(daemon.streams["hall"].audio) < 32_000:
            assert process.returncode is None, await process.communicate()
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_room_is_heard_by_a_daemon_elsewhere_until_ctrl_c() -> None:
    async with sound_server() as server, fake_daemon() as daemon, speaking(server, daemon) as process:
        before = len(daemon.streams["hall"].audio)
        await server.play(tone(440, 2))
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert abs(pitch_hz(bytes(daemon.streams["hall"].audio[before:])) - 440) < 5
        assert daemon.streams["hall"].closed
        assert b"Ctrl-C ends" in err
        assert out.count(b"\n") == len(daemon.finals("hall"))


async def test_a_sound_server_that_dies_ends_the_command_with_69_after_the_last_words() -> None:
    async with sound_server() as server, fake_daemon() as daemon, speaking(server, daemon) as process:
        await server.die()
        _, err = await process.communicate()
        assert process.returncode == 69
        assert b"is gone" in err
        assert daemon.streams["hall"].closed
