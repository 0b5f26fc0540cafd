"""``kind = "microphone"`` in a real daemon: what is said is captioned, and what was lost is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from captiond.capture.portaudio import PortAudio
from captiond_engine.engine import Engine
from captiond_engine.types import Decoding, Job

from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice
from tests.daemon.house import FINAL, audio_of, configured
from tests.daemon.microphones import (
    DESK,
    LONG_TALK,
    TALK,
    TURN_ON,
    check_times,
    hearing,
    reasons,
    until_trouble,
)
from tests.daemon.renewed import renewed
from tests.sim.scripted import ScriptedDevice, scripted_traits


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
    device: FakeDevice, source: dict[str, Any]
) -> None:
    world = FakeSounddevice(device)
    async with hearing(world, TURN_ON, DESK | source) as home:
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


async def test_what_portaudio_dropped_is_told_with_its_length() -> None:
    device = FakeDevice()
    async with hearing(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
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
        (stream_now,) = (await home.get("/v1/streams")).json()
        heard_s = stream_now["heard_until_ms"] / 1000 - 1
        assert f"captiond_audio_heard_seconds_total {heard_s:g}" in (await home.get("/metrics")).body.decode()


async def test_what_came_while_the_loop_was_busy_for_more_than_half_a_minute_is_counted() -> None:
    device = FakeDevice()
    async with hearing(FakeSounddevice(device), TALK) as home, home.viewer() as viewer:
        stream = await device.running()
        await device.play(LONG_TALK[:800])
        await home.ready()
        for start in range(800, 45 * 16_000, 800):  # and the loop does not run
            stream.call_back(LONG_TALK[start : start + 800, None])
        lost = await viewer.until("audio.lost")
        assert (lost["start_ms"], lost["end_ms"], lost["reason"]) == (50, 15_050, "overflow")


async def test_a_model_that_cannot_keep_up_does_not_hold_a_microphone() -> None:
    device = FakeDevice()
    slow = {"tables": {"limits": {"read_ahead_ms": 3_000}}, "decode_s": 20.0}
    async with hearing(FakeSounddevice(device), TALK, **slow) as home, home.viewer() as viewer:
        await device.running()
        await device.play(LONG_TALK[: 60 * 16_000])
        (stream,) = (await home.get("/v1/streams")).json()
        assert 59_000 < stream["heard_until_ms"] <= 60_000
        assert {event["reason"] for event in viewer.all("audio.lost")} == {"behind"}


async def test_without_portaudio_the_source_says_which_package_has_it() -> None:
    loads = 0

    def load() -> FakeSounddevice:
        nonlocal loads
        loads += 1
        raise OSError("PortAudio library not found")

    async with hearing(FakeSounddevice(), portaudio=PortAudio(load)) as home:
        reason = await until_trouble(home, "libportaudio2")
        assert "PortAudio library not found" in reason
        assert "tried again" not in reason
        await asyncio.sleep(100)
        assert loads == 1


async def test_a_language_that_the_model_does_not_know_ends_the_source() -> None:
    device = FakeDevice()
    async with hearing(FakeSounddevice(device), TURN_ON, DESK | {"language": "tlh"}) as home:
        await device.running()
        await device.play(LONG_TALK[:1_600])
        assert "tlh" in await until_trouble(home, "does not run")


async def test_a_stream_that_somebody_else_speaks_into_is_taken_when_it_is_free() -> None:
    device = FakeDevice(hold=threading.Event())
    assert device.hold is not None
    async with hearing(FakeSounddevice(device), TALK, tables={"limits": {"resume_ms": 0}}) as home:
        async with home.speaker("stream=desk") as speaker:
            await speaker.until("hello")
            device.hold.set()
            device.hold = None
            await device.running()
            await device.play(LONG_TALK[:1_600])
            assert "Somebody else" in await until_trouble(home, "Microphone desk")
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


async def test_a_microphone_outlives_a_fault_in_its_stream() -> None:
    device, model = FakeDevice(), Faulty(TALK)
    engine = Engine(traits=scripted_traits(), tokenizer=model.tokenizer, device=model)
    world = FakeSounddevice(device)
    async with (
        hearing(world, engine=engine) as home,
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


async def test_a_stop_in_the_middle_of_speech_gives_the_final_and_closes_the_device() -> None:
    device = FakeDevice()
    world = FakeSounddevice(device)
    async with hearing(world) as home, home.viewer() as viewer:
        await device.running()
        await device.play(audio_of(TURN_ON)[: 2 * 16_000])
        home.stop.set()
        assert await viewer.closed() == 1001
        assert viewer.texts() == ["turn on the"]
        assert viewer.events[-1]["reason"] == "shutdown"
        await home.running
        assert world.open == []


async def test_a_microphone_that_is_configured_anew_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FakeDevice(channels=2)
    world = FakeSounddevice(device)
    portaudio = PortAudio(lambda: world)
    monkeypatch.setattr("captiond.sources.microphone.the_portaudio", lambda: portaudio)
    async with (
        renewed(tmp_path, configured(source=[DESK | {"channel": 1}]), TALK) as told,
        told.home.viewer("stream=desk") as viewer,
        asyncio.TaskGroup() as tasks,
    ):
        room = tasks.create_task(device.play(LONG_TALK))
        await viewer.until("speech.ended")
        tries = device.tries
        await told.reload(configured(source=[DESK | {"channel": 2}]))
        await viewer.until("stream.closed")
        await viewer.until("stream.opened")
        await viewer.until("speech.started", 2)
        assert device.tries == tries + 1
        assert len(world.open) == 1
        room.cancel()
    assert world.open == []
