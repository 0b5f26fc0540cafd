"""A speaker's own microphone: its sound in order, what was lost told and kept as time, and an end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest
from captiond_clients.microphone import MicrophoneError, open_microphone

from tests.clients.test_commands import captiond
from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice, FakeStream


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    device = FakeDevice("Desk", rates_hz=(48_000,))
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSounddevice(device))
    return device


def say(stream: FakeStream, *numbers: int) -> None:
    for number in numbers:
        stream.call_back(np.full((stream.block_frames, 1), number / 32_767, np.float32))


async def values(pieces: AsyncIterator[bytes], count: int = 0) -> list[int]:
    """What the next ``count`` samples are, one for each block; 0: until the end."""
    found: list[int] = []
    async for piece in pieces:
        samples = np.frombuffer(piece, "<i2")
        assert len(samples) % 2_400 == 0
        found += [int(value) for value in samples[::2_400]]
        if len(found) >= count > 0:
            break
    return found


async def test_sound_comes_in_order_at_a_rate_that_the_device_takes(device: FakeDevice) -> None:
    with open_microphone("", pytest.fail) as microphone:
        stream = await device.running()
        assert (microphone.shape.rate, microphone.shape.channels) == (48_000, 1)
        say(stream, *range(1, 6))
        assert await values(microphone.pieces(), 5) == [1, 2, 3, 4, 5]
    assert device.stream is None


async def test_what_nobody_takes_in_time_gives_way_to_silence_of_its_length(device: FakeDevice) -> None:
    lost_ms: list[int] = []
    with open_microphone("Desk", lost_ms.append) as microphone:
        stream = await device.running()
        pieces = microphone.pieces()
        say(stream, *range(1, 3))
        assert await values(pieces, 2) == [1, 2]
        pieces = microphone.pieces()
        say(stream, *range(3, 700))
        microphone.stop()
        heard = await values(pieces)
    assert lost_ms == [(699 - 600) * 50]
    assert heard == [0] * 99 + list(range(100, 700))


async def test_an_interrupt_ends_the_sound_with_what_was_said(device: FakeDevice) -> None:
    with open_microphone("0", pytest.fail) as microphone:
        stream = await device.running()
        say(stream, 1, 2)
        os.kill(os.getpid(), signal.SIGINT)
        assert await values(microphone.pieces()) == [1, 2]


async def test_a_device_that_is_gone_says_so_after_its_last_sound(device: FakeDevice) -> None:
    with open_microphone("", pytest.fail) as microphone:
        stream = await device.running()
        say(stream, 1, 2)
        device.unplug()
        pieces = microphone.pieces()
        assert await values(pieces, 2) == [1, 2]
        with pytest.raises(MicrophoneError, match="Desk is gone"):
            await anext(pieces)


@pytest.mark.parametrize(
    ("change", "wanted", "told"),
    [
        ({}, "Webcam", 'No input device matching.*There is 0 "Desk"'),
        ({"refuses": "Device unavailable"}, "", "busy"),
        ({"fails_to_start": True}, "", "cannot be heard"),
    ],
)
async def test_what_cannot_be_opened_is_told(
    device: FakeDevice, change: dict[str, object], wanted: str, told: str
) -> None:
    vars(device).update(change)
    with pytest.raises(MicrophoneError, match=told) as refused, open_microphone(wanted, pytest.fail):
        pass
    assert refused.value.exit_code == 69
    assert device.stream is None


async def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MicrophoneError, match="libportaudio2") as refused, open_microphone("", pytest.fail):
        pass
    assert refused.value.exit_code == 78


async def test_the_command_wants_one_source() -> None:
    for arguments in ([], ["-", "--mic"], ["-", "--device", "desk"]):
        done = await captiond("speak", *arguments)
        assert done.status == 2
        assert "--mic" in done.err
