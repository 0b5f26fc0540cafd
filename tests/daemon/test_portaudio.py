"""Finding, opening and closing devices: errors say what there is, and what hangs holds nobody."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from captiond.capture.capture import RING_S
from captiond.capture.inputs import CaptureError, InputDevice, channels_to_open, choose, list_inputs
from captiond.capture.portaudio import PortAudio
from captiond_engine.errors import EXIT_UNREACHABLE

from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice

WORLD = FakeSounddevice(
    FakeDevice("HDA Intel: ALC662 Analog (hw:0,0)", channels=2),
    FakeDevice("HDMI", channels=0),
    FakeDevice("USB Mic: Audio (hw:1,0)"),
    FakeDevice("USB Mic: Audio #1 (hw:2,0)"),
    FakeDevice("pulse", channels=32),
    FakeDevice("pulse-monitor", channels=32),
    FakeDevice("/dev/dsp", host_api=1),
    default=4,
)


def in_real_time(main: Coroutine[Any, Any, None]) -> None:
    """On an ordinary loop: other threads and the clock are real."""
    asyncio.run(main)


async def until(true: Callable[[], bool]) -> None:
    """What another thread does has no event."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


# --- which one is meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("", 4), (2, 2), ("alc662", 0), ("hw:1,0", 2), ("pulse", 4), ("PULSE, alsa", 4), ("oss", 6), (0, 0)],
)
def test_a_device_is_found_by_its_number_a_part_of_its_name_or_as_the_default(
    wanted: str | int, index: int
) -> None:
    assert choose(list_inputs(WORLD), wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (
            "usb mic",
            ['"usb mic"', '2 "USB Mic: Audio (hw:1,0), ALSA"', '3 "USB Mic: Audio #1 (hw:2,0), ALSA"'],
        ),
        ("webcam", ['"webcam"', '0 "HDA Intel', '6 "/dev/dsp, OSS"']),
        (1, ["number 1", '4 "pulse, ALSA"']),
        (7, ["number 7"]),
    ],
)
def test_what_is_not_one_device_is_told_with_those_that_there_are(wanted: str | int, told: list[str]) -> None:
    with pytest.raises(CaptureError) as refused:
        choose(list_inputs(WORLD), wanted)
    assert all(word in str(refused.value) for word in told)
    assert "HDMI" not in str(refused.value)
    assert refused.value.exit_code == EXIT_UNREACHABLE


def test_no_device_and_no_default_are_told() -> None:
    with pytest.raises(CaptureError, match="no input device"):
        choose([], "")
    world = FakeSounddevice(FakeDevice("Desk"), default=None)
    with pytest.raises(CaptureError, match=r"no default input device.*Desk"):
        choose(list_inputs(world), "")


def test_a_name_from_outside_cannot_fake_a_line() -> None:
    (device,) = list_inputs(FakeSounddevice(FakeDevice("a\n\x1b[2Jb")))
    assert device.name == "a??[2Jb"


@pytest.mark.parametrize(
    ("has", "channel", "opened"),
    [(1, 0, 1), (2, 0, 2), (2, 2, 2), (18, 0, 18), (18, 5, 5), (32, 0, 1), (128, 2, 2)],
)
def test_as_many_channels_are_opened_as_are_needed(has: int, channel: int, opened: int) -> None:
    device = InputDevice(0, "a", "ALSA", has, 48_000, is_default=True)
    assert channels_to_open(device, channel) == opened


def test_a_channel_that_is_not_there_is_told() -> None:
    with pytest.raises(CaptureError, match="no channel 3, only 2"):
        channels_to_open(InputDevice(0, "a", "ALSA", 2, 48_000, is_default=True), 3)


# --- opening ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "rate_hz"),
    [
        (FakeDevice(), 16_000),
        (FakeDevice(rates_hz=(22_050, 44_100, 48_000), own_rate_hz=44_100), 44_100),
        (FakeDevice(rates_hz=(48_000,), own_rate_hz=44_100), 48_000),
        (FakeDevice(rates_hz=(8_000, 11_025), own_rate_hz=11_025), 11_025),
    ],
)
async def test_a_device_is_opened_at_a_rate_that_it_takes(device: FakeDevice, rate_hz: int) -> None:
    world = FakeSounddevice(device)
    async with PortAudio(lambda: world).capture("") as capture:
        assert capture.rate_hz == rate_hz
        stream = await device.running()
        assert (stream.rate_hz, stream.block_frames) == (rate_hz, rate_hz // 20)
        stream.call_back(np.full((stream.block_frames, 1), 0.5, np.float32))
        (block,) = await capture.take()
        assert (block.pcm == 0.5).all()
    assert world.open == []


@pytest.mark.parametrize(
    ("device", "told"),
    [
        (FakeDevice(refuses="Device unavailable"), r"cannot be opened \(Device unavailable\)"),
        (FakeDevice(fails_to_start=True), r"cannot be opened \(Unanticipated host error\)"),
        (FakeDevice(rates_hz=(4_000,)), "none of the rates"),
    ],
)
async def test_a_device_that_cannot_be_opened_says_why_and_nothing_stays_open(
    device: FakeDevice, told: str
) -> None:
    world = FakeSounddevice(device)
    with pytest.raises(CaptureError, match=told):
        async with PortAudio(lambda: world).capture(""):
            pass
    assert world.open == []


async def test_devices_are_looked_for_anew_unless_one_is_open() -> None:
    world = FakeSounddevice(FakeDevice("a"))
    portaudio = PortAudio(lambda: world)
    async with portaudio.capture("a"):
        world.plugged.append(FakeDevice("b"))
        assert [device.name for device, _ in await portaudio.inputs()] == ["a"]
    assert [device.name for device, _ in await portaudio.inputs()] == ["a", "b"]


async def test_a_portaudio_that_has_lost_its_footing_is_started_again() -> None:
    world = FakeSounddevice(FakeDevice())
    portaudio = PortAudio(lambda: world)
    world.broken = True
    with pytest.raises(CaptureError, match="not initialized"):
        await portaudio.inputs()
    world.on_scan = lambda: setattr(world, "broken", False)
    assert len(await portaudio.inputs()) == 1


# --- threads ---------------------------------------------------------------------------------------------


def test_blocks_of_portaudios_thread_reach_the_loop_in_order_and_wake_it() -> None:
    async def main() -> None:
        device = FakeDevice()
        world = FakeSounddevice(device)
        async with PortAudio(lambda: world).capture("") as capture:
            stream = await device.running()

            def speak() -> None:
                for number in range(400):
                    stream.call_back(np.full((800, 1), number / 1_000, np.float32))

            speaking = threading.Thread(target=speak)
            speaking.start()
            heard: list[float] = []
            while len(heard) < 400:
                heard += [float(block.pcm[0]) for block in await capture.take()]
            speaking.join()
            assert heard == [float(np.float32(number / 1_000)) for number in range(400)]
            device.unplug()
            with pytest.raises(CaptureError, match="is gone"):
                await capture.take()

    assert RING_S * 20 > 400
    in_real_time(main())


def test_the_loop_is_asked_once_to_wake_up_however_many_blocks_come() -> None:
    async def main() -> None:
        device = FakeDevice()
        async with PortAudio(lambda: FakeSounddevice(device)).capture("") as capture:
            stream, loop = await device.running(), asyncio.get_running_loop()
            calls = itertools.count()
            ask = loop.call_soon_threadsafe
            loop.call_soon_threadsafe = lambda *call, **how: (next(calls), ask(*call, **how))[1]  # type: ignore[method-assign, assignment]
            for _ in range(20):
                stream.call_back(np.zeros((800, 1), np.float32))
            assert len(await capture.take()) == 20
            assert next(calls) == 1

    in_real_time(main())


def test_a_sound_system_that_hangs_holds_nobody_and_is_used_again_when_it_answers() -> None:
    async def main() -> None:
        device = FakeDevice(hold=threading.Event())
        assert device.hold is not None
        world = FakeSounddevice(device)
        portaudio = PortAudio(lambda: world, open_s=0.05, close_s=0.05)
        with pytest.raises(CaptureError, match="has not answered"):
            async with portaudio.capture(""):
                pass
        with pytest.raises(CaptureError, match="does not answer"):
            async with portaudio.capture(""):
                pass
        assert device.tries == 1
        device.hold.set()
        while device.tries < 2:
            try:
                async with portaudio.capture(""):
                    # What was opened when nobody waited any more has been closed before.
                    assert len(world.open) == 1
            except CaptureError:
                await asyncio.sleep(0.001)
        assert world.open == []

    in_real_time(main())


def test_a_device_that_does_not_close_holds_nobody() -> None:
    async def main() -> None:
        device = FakeDevice()
        world = FakeSounddevice(device)
        portaudio = PortAudio(lambda: world, open_s=0.05, close_s=0.05)
        async with portaudio.capture(""):
            device.hold = hold = threading.Event()
        assert len(world.open) == 1
        with pytest.raises(CaptureError, match="has not answered"):
            await portaudio.inputs()
        device.hold = None
        hold.set()
        await until(lambda: not world.open)

    in_real_time(main())


def test_a_task_that_is_cancelled_while_a_device_opens_leaves_none_open() -> None:
    async def main() -> None:
        device = FakeDevice(hold=threading.Event())
        assert device.hold is not None
        world = FakeSounddevice(device)
        portaudio = PortAudio(lambda: world)

        async def listen() -> None:
            async with portaudio.capture(""):
                raise AssertionError("nobody waited for it")

        listening = asyncio.create_task(listen())
        await until(lambda: device.tries > 0)
        listening.cancel()
        await asyncio.wait([listening])
        device.hold.set()
        assert (await portaudio.inputs())[0][0].name == device.name
        await until(lambda: not world.open)

    in_real_time(main())


def test_a_task_that_is_cancelled_while_its_device_closes_waits_for_that() -> None:
    async def main() -> None:
        device = FakeDevice()
        world = FakeSounddevice(device)
        leave = asyncio.Event()

        async def listen() -> None:
            async with PortAudio(lambda: world).capture(""):
                await leave.wait()

        listening = asyncio.create_task(listen())
        await device.running()
        device.hold = hold = threading.Event()
        leave.set()
        await until(lambda: world.closing == 1)
        listening.cancel()
        await asyncio.sleep(0)
        hold.set()
        await asyncio.wait([listening])
        assert world.open == []
        assert listening.cancelled()

    in_real_time(main())
