"""``kind = "microphone"`` in a real daemon: whatever a device does, its stream's time stays true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from captiond.capture.portaudio import PortAudio
from captiond_engine.engine import Engine
from captiond_engine.types import Decoding, Job

from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice
from tests.daemon.house import FINAL, Event, House, audio_of, configured, house
from tests.sim.scripted import Script, ScriptedDevice, say, scripted_traits

TURN_ON = say("turn on the lights")
# Two words each three seconds, for five minutes.
TALK = tuple(word for i in range(100) for word in say(f"a{i} b{i}", at=(3 * i + 1) * 16_000))
LONG_TALK = audio_of(TALK)
DESK = {"kind": "microphone", "name": "desk"}

Begin = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Begin:
    """A daemon with microphones in a world of devices."""

    @asynccontextmanager
    async def begun(
        world: FakeSounddevice, script: Script = TURN_ON, *sources: dict[str, Any], **more: Any
    ) -> AsyncIterator[House]:
        portaudio = PortAudio(more.pop("load", lambda: world))
        monkeypatch.setattr("captiond.sources.microphone.the_portaudio", lambda: portaudio)
        config = configured(source=list(sources) or [DESK], **more.pop("tables", {}))
        async with house(script, config=config, **more) as home:
            while home.app.context is None:  # noqa: ASYNC110 (loading has no event outside)
                await asyncio.sleep(0)  # the clock may stand still, as a device may hang already
            yield home

    return begun


async def reasons(home: House) -> list[str]:
    return list((await home.get("/readyz")).json()["reasons"])


async def until_trouble(home: House, word: str) -> str:
    while True:
        for reason in await reasons(home):
            if word in reason:
                return reason
        await asyncio.sleep(0.05)


def check_times(finals: list[Event], script: Script) -> None:
    """What is captioned lies where it was said, whatever was lost before it; a word may be half heard."""
    places = {word.text: (word.start + word.end) // 32 for word in script}  # middles, in ms
    assert finals
    for final in finals:
        assert all(final["start_ms"] <= places[text] <= final["end_ms"] for text in final["text"].split())


@pytest.mark.parametrize(
    ("device", "source"),
    [
        (FakeDevice(), {}),
        (FakeDevice(rates_hz=(48_000,), channels=2), {}),
        (FakeDevice(rates_hz=(44_100, 48_000), channels=6), {"channel": 5}),
        (FakeDevice(rates_hz=(8_000,), own_rate_hz=8_000), {"channel": 1}),
        (FakeDevice(name="pulse", channels=32), {"device": "PULSE"}),
        (FakeDevice(rates_hz=(96_000,)), {"device": 0}),
    ],
)
async def test_what_is_said_into_a_microphone_is_captioned(
    begin: Begin, device: FakeDevice, source: dict[str, Any]
) -> None:
    world = FakeSounddevice(device)
    async with begin(world, TURN_ON, DESK | source) as home:
        await device.running()
        async with home.viewer("stream=desk") as viewer:
            await device.play(audio_of(TURN_ON))
            final = await viewer.until(FINAL)
            assert final["text"] == "turn on the lights"
            check_times([final], TURN_ON)
            assert not viewer.all("audio.lost")
            assert await reasons(home) == []
            assert [s["source"] for s in (await home.get("/v1/streams")).json()] == ["microphone"]
    assert world.open == []


async def test_an_unplugged_microphone_is_told_and_its_stream_goes_on_when_it_is_back(begin: Begin) -> None:
    device = FakeDevice()
    world = FakeSounddevice(device)
    async with begin(world, TALK) as home, home.viewer() as viewer, asyncio.TaskGroup() as tasks:
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


async def test_a_microphone_that_is_not_there_yet_is_waited_for(begin: Begin) -> None:
    other, device = FakeDevice("Webcam"), FakeDevice("USB Mic")
    world = FakeSounddevice(other)
    source = DESK | {"device": "usb mic"}
    async with begin(world, TALK, source) as home, home.viewer() as viewer, asyncio.TaskGroup() as tasks:
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


async def test_tries_come_at_growing_and_uneven_intervals_of_1_to_30_seconds(begin: Begin) -> None:
    world = FakeSounddevice(FakeDevice(refuses="Device unavailable"))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    world.on_scan = lambda: times.append(loop.time())
    async with begin(world) as home:
        assert "Device unavailable" in await until_trouble(home, "desk")
        await asyncio.sleep(600)
    pauses = [after - before for before, after in pairwise(times)]
    assert all(1 <= pause <= 30.1 for pause in pauses)
    assert pauses[0] < 3
    assert min(pauses[6:]) > 20
    assert len({round(pause, 3) for pause in pauses[6:]}) > 10


async def test_a_device_that_ran_well_is_tried_again_soon(begin: Begin) -> None:
    device = FakeDevice(refuses="Device unavailable")
    world = FakeSounddevice(device)
    async with begin(world) as home:
        await asyncio.sleep(300)
        device.refuses = ""
        await device.running()
        await device.play(LONG_TALK[: 31 * 16_000])
        await home.ready()
        device.unplug()
        before = asyncio.get_running_loop().time()
        await device.running()
        assert asyncio.get_running_loop().time() - before < 2


async def test_a_device_that_runs_and_gives_nothing_counts_as_gone(begin: Begin) -> None:
    device = FakeDevice()
    async with begin(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
        silent = await device.running()
        await device.play(LONG_TALK[: 5 * 16_000])
        assert "no sound for 3 s" in await until_trouble(home, "desk")
        assert silent.ended
        lost = await viewer.until("audio.lost")
        assert (lost["start_ms"], lost["reason"]) == (5_000, "microphone")
        assert await device.running() is not silent
        await device.play(LONG_TALK[:16_000])
        await home.ready()


async def test_what_portaudio_dropped_is_told_with_its_length(begin: Begin) -> None:
    device = FakeDevice()
    async with begin(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
        stream = await device.running()
        await device.play(LONG_TALK[: 2 * 16_000])
        await asyncio.sleep(1.0 + 0.05)
        stream.call_back(LONG_TALK[3 * 16_000 :][:800, None], overflow=True)
        await device.play(LONG_TALK[3 * 16_000 + 800 : 9 * 16_000])
        await viewer.until(FINAL, 3)
        (lost,) = viewer.all("audio.lost")
        assert (lost["start_ms"], lost["end_ms"], lost["reason"]) == (2_000, 3_000, "overflow")
        check_times(viewer.all(FINAL), TALK)
        assert await reasons(home) == []


async def test_what_came_while_the_loop_was_busy_for_more_than_half_a_minute_is_counted(begin: Begin) -> None:
    device = FakeDevice()
    async with begin(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
        stream = await device.running()
        await device.play(LONG_TALK[:800])
        await home.ready()
        for start in range(800, 45 * 16_000, 800):  # and the loop does not run
            stream.call_back(LONG_TALK[start : start + 800, None])
        lost = await viewer.until("audio.lost")
        assert (lost["start_ms"], lost["end_ms"], lost["reason"]) == (50, 15_050, "overflow")


async def test_a_model_that_cannot_keep_up_does_not_hold_a_microphone(begin: Begin) -> None:
    device = FakeDevice()
    slow = {"tables": {"limits": {"read_ahead_ms": 3_000}}, "decode_s": 20.0}
    async with begin(FakeSounddevice(device), TALK, **slow) as home, home.viewer() as viewer:
        await device.running()
        await device.play(LONG_TALK[: 60 * 16_000])
        (stream,) = (await home.get("/v1/streams")).json()
        assert 59_000 < stream["heard_until_ms"] <= 60_000
        assert {event["reason"] for event in viewer.all("audio.lost")} == {"behind"}


async def test_without_portaudio_the_source_says_which_package_has_it(begin: Begin) -> None:
    loads = 0

    def load() -> FakeSounddevice:
        nonlocal loads
        loads += 1
        raise OSError("PortAudio library not found")

    async with begin(FakeSounddevice(), load=load) as home:
        reason = await until_trouble(home, "libportaudio2")
        assert "PortAudio library not found" in reason
        assert "tried again" not in reason
        await asyncio.sleep(100)
        assert loads == 1


async def test_a_language_that_the_model_does_not_know_ends_the_source(begin: Begin) -> None:
    device = FakeDevice()
    async with begin(FakeSounddevice(device), TURN_ON, DESK | {"language": "tlh"}) as home:
        await device.running()
        await device.play(LONG_TALK[:1_600])
        assert "tlh" in await until_trouble(home, "does not run")


async def test_a_stream_that_somebody_else_speaks_into_is_taken_when_it_is_free(begin: Begin) -> None:
    device = FakeDevice(hold=threading.Event())
    assert device.hold is not None
    async with begin(FakeSounddevice(device), TALK, tables={"limits": {"resume_ms": 0}}) as home:
        async with home.speaker("stream=desk") as speaker:
            await speaker.until("hello")
            device.hold.set()
            device.hold = None
            await device.running()
            await device.play(LONG_TALK[:1_600])
            assert "Somebody else" in await until_trouble(home, "desk")
        async with asyncio.TaskGroup() as tasks:
            room = tasks.create_task(device.play(LONG_TALK))
            await home.ready()
            room.cancel()


class Faulty(ScriptedDevice):
    """Has a fault of our own making, once."""

    mended = False

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        if not self.mended:
            raise KeyError("a fault of ours")
        return await super().run(jobs)


async def test_a_microphone_outlives_a_fault_in_its_stream(begin: Begin) -> None:
    device, model = FakeDevice(), Faulty(TALK)
    engine = Engine(traits=scripted_traits(), tokenizer=model.tokenizer, device=model)
    world = FakeSounddevice(device)
    async with (
        begin(world, engine=engine) as home,
        home.viewer() as viewer,
        asyncio.TaskGroup() as tasks,
    ):
        room = tasks.create_task(device.play(LONG_TALK))
        assert "(internal)" in await until_trouble(home, "failed")
        model.mended = True
        await viewer.until("stream.opened", 2)
        await viewer.until("speech.ended", 2)
        await home.ready()
        room.cancel()


async def test_a_stop_in_the_middle_of_speech_gives_the_final_and_closes_the_device(begin: Begin) -> None:
    device = FakeDevice()
    world = FakeSounddevice(device)
    async with begin(world) as home, home.viewer() as viewer:
        await device.running()
        await device.play(audio_of(TURN_ON)[: 2 * 16_000])
        home.stop.set()
        assert await viewer.closed() == 1001
        assert viewer.texts() == ["turn on the"]
        assert viewer.events[-1]["reason"] == "shutdown"
        await home.running
        assert world.open == []


async def test_two_microphones_fail_and_come_back_apart(begin: Begin) -> None:
    left, right = FakeDevice("Left"), FakeDevice("Right")
    world = FakeSounddevice(left, right)
    sources = [DESK | {"name": device.name, "device": device.name} for device in (left, right)]
    async with begin(world, TALK, *sources) as home, home.viewer() as viewer:
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
