"""Microphones that are busy, unplugged or silent: told, tried again, and their time stays true."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from captiond.capture.portaudio import PortAudio

from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice
from tests.daemon.house import FINAL
from tests.daemon.microphones import (
    DESK,
    LONG_TALK,
    TALK,
    check_times,
    hearing,
    reasons,
    until_trouble,
)


async def test_an_unplugged_microphone_is_told_and_its_stream_goes_on_when_it_is_back() -> None:
    device = FakeDevice()
    world = FakeSounddevice(device)
    async with hearing(world, TALK) as home, home.viewer() as viewer, asyncio.TaskGroup() as tasks:
        await device.running()
        room = tasks.create_task(device.play(LONG_TALK))
        await asyncio.sleep(10.3)  # "a3" has been said
        world.plugged.clear()
        device.unplug()
        reason = await until_trouble(home, "Microphone desk")
        assert "It is tried again every 1 to 30 s." in reason
        await viewer.until(FINAL, 4)  # at once, though no more sound comes
        assert viewer.texts()[-1].startswith("a3")
        assert viewer.all("speech.ended")[-1]["reason"] == "gap"
        async with home.speaker("stream=other") as other:  # slot 1, which has the same script
            await other.speak(LONG_TALK[: 4 * 16_000])
            await other.until(FINAL)
        heard = len(viewer.all(FINAL))
        await asyncio.sleep(60)
        assert len(viewer.all(FINAL)) == heard
        world.plugged.append(device)
        await device.running()
        await home.ready()
        await asyncio.sleep(10)
        finals = [final for final in viewer.all(FINAL) if final["stream"] == "desk"]
        assert len(finals) > 5
        check_times(finals, TALK)
        lost = viewer.all("audio.lost")
        assert {event["reason"] for event in lost} == {"microphone"}
        assert [lost[0]["end_ms"]] == [event["start_ms"] for event in lost[1:]]
        assert lost[-1]["end_ms"] - lost[0]["start_ms"] > 60_000
        room.cancel()
    assert world.open == []


async def test_a_microphone_that_is_not_there_yet_is_waited_for() -> None:
    other, device = FakeDevice("Webcam"), FakeDevice("USB Mic")
    world = FakeSounddevice(other)
    source = DESK | {"device": "usb mic"}
    async with hearing(world, TALK, source) as home, home.viewer() as viewer, asyncio.TaskGroup() as tasks:
        room = tasks.create_task(device.play(LONG_TALK))
        assert '0 "Webcam, ALSA"' in await until_trouble(home, "usb mic")
        assert [s["name"] for s in (await home.get("/v1/streams")).json()] == ["desk"]
        await asyncio.sleep(20)
        world.plugged.append(device)
        await viewer.until(FINAL)
        await home.ready()
        lost = await viewer.until("audio.lost")
        assert lost["start_ms"] == 0
        assert 20_000 < lost["end_ms"] < 60_000
        check_times(viewer.all(FINAL), TALK)
        room.cancel()
    assert not other.tries


async def test_tries_come_at_growing_and_uneven_intervals_of_1_to_30_seconds() -> None:
    world = FakeSounddevice(FakeDevice(refuses="Device unavailable"))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    world.on_scan = lambda: times.append(loop.time())
    async with hearing(world) as home:
        assert "Device unavailable" in await until_trouble(home, "Microphone desk")
        await asyncio.sleep(600)
    pauses = [after - before for before, after in pairwise(times)]
    assert all(1 <= pause <= 30.1 for pause in pauses)
    assert pauses[0] < 3
    assert min(pauses[6:]) > 20
    assert len({round(pause, 3) for pause in pauses[6:]}) > 10


async def test_a_device_that_ran_well_is_tried_again_soon() -> None:
    device = FakeDevice(refuses="Device unavailable")
    world = FakeSounddevice(device)
    async with hearing(world) as home:
        await asyncio.sleep(300)
        device.refuses = ""
        await device.running()
        await device.play(LONG_TALK[: 31 * 16_000])
        await home.ready()
        device.unplug()
        before = asyncio.get_running_loop().time()
        await device.running()
        assert asyncio.get_running_loop().time() - before < 2


async def test_a_device_that_runs_and_gives_nothing_counts_as_gone() -> None:
    device = FakeDevice()
    async with hearing(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
        silent = await device.running()
        await device.play(LONG_TALK[: 5 * 16_000])
        assert "no sound for 3 s" in await until_trouble(home, "Microphone desk")
        assert silent.ended
        lost = await viewer.until("audio.lost")
        assert (lost["start_ms"], lost["reason"]) == (5_000, "microphone")
        assert await device.running() is not silent
        await device.play(LONG_TALK[:16_000])
        await home.ready()


async def test_two_microphones_fail_and_come_back_apart() -> None:
    left, right = FakeDevice("Left"), FakeDevice("Right")
    world = FakeSounddevice(left, right)
    sources = [DESK | {"name": device.name, "device": device.name} for device in (left, right)]
    async with hearing(world, TALK, *sources) as home, home.viewer() as viewer:
        async with asyncio.TaskGroup() as tasks:
            rooms = [tasks.create_task(device.play(LONG_TALK)) for device in (left, right)]
            await home.ready()
            scans = world.scans
            world.plugged.remove(right)
            right.unplug()
            assert "Right" in await until_trouble(home, "tried again")
            await asyncio.sleep(20)
            assert len(await reasons(home)) == 1
            world.plugged.append(right)
            await home.ready()
            await asyncio.sleep(10)
            for room in rooms:
                room.cancel()
        assert world.scans == scans, "the list is not made anew under an open stream"
        assert {event["stream"] for event in viewer.all("audio.lost")} == {"Right"}
        for name in ("Left", "Right"):
            check_times([final for final in viewer.all(FINAL) if final["stream"] == name], TALK)


async def test_a_card_that_is_plugged_in_while_another_is_heard_is_found() -> None:
    """The other one is interrupted for a moment, and its time stays true; once for each change of cards."""
    left, right = FakeDevice("Left"), FakeDevice("Right")
    world = FakeSounddevice(left)
    portaudio = PortAudio(lambda: world, cards=lambda: " ".join(d.name for d in world.plugged).encode())
    sources = [DESK | {"name": device.name, "device": device.name} for device in (left, right)]
    async with (
        hearing(world, TALK, *sources, portaudio=portaudio) as home,
        home.viewer() as viewer,
        asyncio.TaskGroup() as tasks,
    ):
        rooms = [tasks.create_task(device.play(LONG_TALK)) for device in (left, right)]
        await left.running()
        await asyncio.sleep(40)
        assert (left.tries, world.scans) == (1, 1)
        world.plugged.append(FakeDevice("Webcam"))
        await asyncio.sleep(65)
        assert left.tries == 2
        assert "Right" in (await reasons(home))[0]
        world.plugged.append(right)
        await home.ready()
        await asyncio.sleep(10)
        assert left.tries == 3
        for room in rooms:
            room.cancel()
        for name in ("Left", "Right"):
            check_times([final for final in viewer.all(FINAL) if final["stream"] == name], TALK)
        lost_ms = [
            event["end_ms"] - event["start_ms"]
            for event in viewer.all("audio.lost")
            if event["stream"] == "Left"
        ]
        assert 0 < sum(lost_ms) < 500
