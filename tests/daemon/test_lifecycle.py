"""From the first moment to the last: loading, sources, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from captiond.app import App
from captiond_engine.engine import Engine
from captiond_engine.errors import DeviceError, HubUnreachableError, PortInUseError
from captiond_engine.progress import Progress, ProgressEvent
from captiond_engine.types import Decoding, Job
from websockets.exceptions import ConnectionClosed

from tests.daemon.house import FINAL, UPGRADE, audio_of, configured, house, scripted_engine
from tests.sim.clock import JumpingLoop
from tests.sim.scripted import ScriptedDevice, say, scripted_traits

TURN_ON = say("turn on the lights")


async def test_while_the_model_loads_the_port_answers_and_says_why_it_waits() -> None:
    go_on = threading.Event()

    def load(progress: Progress) -> Engine:
        progress(ProgressEvent("compile", "compiling the decoder", 0.4, 90.0))
        assert go_on.wait(30)
        return scripted_engine(TURN_ON)

    async with house(load=load) as home:
        await asyncio.sleep(0.1)
        assert (await home.get("/healthz")).status == 200
        ready = await home.get("/readyz")
        assert ready.status == 503
        assert ready.json()["ready"] is False
        assert ready.json()["reasons"] == ["compiling the decoder 40% (takes about 90 s)"]
        for path in ("/v1/speak", "/v1/captions"):
            answer = await home.get(path, **UPGRADE)
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
        assert (await home.get("/v1/streams")).json() == []
        go_on.set()
        await home.ready()
        async with home.speaker() as speaker:
            assert (await speaker.until("hello"))["model"] == "scripted"


async def test_a_stop_while_loading_does_not_wait_for_the_model() -> None:
    go_on = threading.Event()

    def load(progress: Progress) -> Engine:
        assert go_on.wait(30)
        return scripted_engine(())

    async with house(load=load):
        pass
    go_on.set()


async def test_a_model_that_cannot_be_had_ends_the_daemon_with_its_own_error() -> None:
    def load(progress: Progress) -> Engine:
        raise HubUnreachableError("the hub is away.", advice="captiond models pull base.en")

    app = App(configured(), load)
    with pytest.raises(HubUnreachableError) as raised:
        await app.run(asyncio.Event())
    assert raised.value.exit_code == 78
    assert "models pull" in str(raised.value)


async def test_a_port_in_use_is_told_by_its_key() -> None:
    async with house() as home:
        port = int(home.netloc.rpartition(":")[2])
        with pytest.raises(PortInUseError, match=r"server\.port") as raised:
            await App(configured(server={"port": port}), lambda progress: scripted_engine(())).run(
                asyncio.Event()
            )
        assert raised.value.exit_code == 78
        assert str(port) in str(raised.value)


async def test_a_stop_in_the_middle_of_speech_gives_the_final_then_1001() -> None:
    async with house(TURN_ON) as home, home.viewer() as viewer, home.speaker("stream=hall") as speaker:
        await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        home.stop.set()
        for client in (viewer, speaker):
            assert await client.closed() == 1001
            assert client.texts() == ["turn on the"]
            assert client.events[-1]["type"] == "stream.closed"
            assert client.events[-1]["reason"] == "shutdown"
        await home.running


async def test_while_stopping_nobody_is_let_in() -> None:
    async with house(TURN_ON, decode_s=3.0) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        home.stop.set()
        await asyncio.sleep(0.5)
        assert (await home.get("/readyz")).status == 503
        assert (await home.get("/v1/speak", **UPGRADE)).status == 503
        await speaker.until(FINAL)


async def test_a_device_that_hangs_does_not_hold_the_stop_for_ever() -> None:
    config = configured(limits={"drain_ms": 3_000})
    async with house(TURN_ON, decode_s=10_000.0, config=config) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        began = asyncio.get_running_loop().time()
        home.stop.set()
        await home.running
        assert asyncio.get_running_loop().time() - began < 10
        assert await speaker.closed() == 1001
    started = [event["segment"] for event in speaker.all("speech.started")]
    answered = [e["segment"] for kind in (FINAL, "transcript.suppressed") for e in speaker.all(kind)]
    assert answered == started, "each segment has its answer, however empty"
    assert [event["reason"] for event in speaker.all("audio.lost")] == ["shutdown"]
    assert [event["reason"] for event in speaker.all("stream.closed")] == ["shutdown"]


async def test_a_device_that_fails_costs_one_pass_not_the_daemon() -> None:
    async with house(TURN_ON, fail_calls={0, 2}) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.texts() == ["turn on the lights"]


async def test_a_device_that_keeps_failing_is_told_by_readyz_until_it_answers() -> None:
    broken = True
    async with house(TURN_ON, fail_calls=lambda number: broken) as home:
        for _ in range(2):
            async with home.speaker() as speaker:
                await speaker.speak(audio_of(TURN_ON), pace=None)
                await speaker.say(type="end")
                assert await speaker.closed() == 1000
                assert speaker.texts() == []
        answer = await home.get("/readyz")
        assert answer.status == 503
        (reason,) = answer.json()["reasons"]
        assert "times in a row: the scripted device fails" in reason
        broken = False
        async with home.speaker() as speaker:
            await speaker.speak(audio_of(TURN_ON))
            await speaker.until(FINAL)
        await home.ready()


async def test_a_device_that_has_failed_is_asked_again_though_nobody_speaks() -> None:
    broken, probes = False, 0

    async def on_probe() -> None:
        nonlocal probes
        probes += 1
        if broken:
            raise DeviceError("the scripted device is away.")

    async with house(TURN_ON, on_probe=on_probe) as home:
        broken = True
        while (await home.get("/readyz")).status == 200:  # noqa: ASYNC110 (it is asked from outside)
            await asyncio.sleep(1)
        (reason,) = (await home.get("/readyz")).json()["reasons"]
        assert reason == "The device has failed 3 times in a row: the scripted device is away."
        before = probes
        await asyncio.sleep(60)
        assert 10 <= probes - before <= 30, "every few seconds"
        broken = False
        await home.ready()


async def test_a_device_that_is_asked_now_and_then_is_not_asked_while_it_works() -> None:
    async with house(TURN_ON) as home, home.speaker() as speaker:
        device = home.app.context.sessions._engine.device  # type: ignore[union-attr]
        assert isinstance(device, ScriptedDevice)
        before = device.probes
        for _ in range(20):
            await speaker.speak(audio_of(TURN_ON))
        assert device.probes == before
        await asyncio.sleep(60)
        assert 5 <= device.probes - before <= 6


async def test_a_loop_that_was_blocked_is_measured() -> None:
    async with house() as home:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        await asyncio.sleep(10)
        before = (await home.get("/metrics")).body.decode()
        assert re.search(r"^captiond_event_loop_longest_stall_seconds 0\.0$", before, re.MULTILINE)
        loop._jumping.now += 1.6  # as if something had not given the loop its turn
        await asyncio.sleep(10)
        after = (await home.get("/metrics")).body.decode()
        found = re.search(r"^captiond_event_loop_longest_stall_seconds (\S+)$", after, re.MULTILINE)
        assert found is not None
        assert 1.0 < float(found[1]) <= 1.6


class Faulty(ScriptedDevice):
    """Has a fault of our own making for one slot."""

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        if any(job.slot == 1 for job in jobs):
            raise KeyError("a fault of ours")
        return await super().run(jobs)


async def test_a_fault_of_ours_in_a_pass_ends_its_stream_and_no_other() -> None:
    device = Faulty(TURN_ON)
    engine = Engine(traits=scripted_traits(), tokenizer=device.tokenizer, device=device)
    async with (
        house(engine=engine) as home,
        home.speaker("stream=good") as good,
        home.speaker("stream=bad") as bad,
        home.viewer("stream=bad") as viewer,
    ):
        await good.speak(audio_of(TURN_ON)[:24_000])
        with contextlib.suppress(ConnectionClosed):
            await bad.speak(audio_of(TURN_ON))
        assert await bad.closed() == 1011
        assert (await viewer.until("stream.closed"))["error"] == "internal"
        await good.speak(audio_of(TURN_ON)[24_000:])
        await good.say(type="end")
        assert await good.closed() == 1000
        assert good.texts() == ["turn on the lights"]


class Broken:
    """A device with a fault of our own making."""

    async def probe(self) -> None:
        """There is nothing wrong with it."""

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        raise KeyError("a fault of ours")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.flac"
    soundfile.write(path, audio_of(TURN_ON), 16_000)
    return path


async def test_file_sources_play_beside_each_other_and_a_bad_one_is_told(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio")
    sources: list[dict[str, object]] = [
        {"name": "lobby", "path": str(clip)},
        {"name": "again", "path": str(clip), "repeat": True, "pace": "realtime"},
        {"name": "bad", "path": str(tmp_path / "text.wav")},
        {"name": "gone", "path": str(tmp_path / "nothing.wav")},
    ]
    async with house(TURN_ON, config=configured(source=sources)) as home:
        while home.app.context is None:  # noqa: ASYNC110 (loading has no event outside)
            await asyncio.sleep(0.01)
        async with (
            home.viewer("stream=lobby&history=5") as lobby,
            home.viewer("stream=again&history=5") as again,
        ):
            assert (await lobby.until(FINAL))["text"] == "turn on the lights"
            await lobby.until("stream.closed")
            await again.until("speech.started", 3)
        ready = await home.get("/readyz")
        assert ready.status == 503
        assert sorted(reason.split()[1] for reason in ready.json()["reasons"]) == ["bad", "gone"]
        assert "no audio" in str(ready.json()["reasons"])
        assert [(s["name"], s["source"]) for s in (await home.get("/v1/streams")).json()] == [
            ("again", "file")
        ]


async def test_a_source_whose_stream_fails_is_told(clip: Path) -> None:
    engine = replace(scripted_engine(TURN_ON), device=Broken())
    source = {"name": "lobby", "path": str(clip)}
    async with house(engine=engine, config=configured(source=[source])) as home:
        while "failed" not in str((await home.get("/readyz")).json()["reasons"]):  # noqa: ASYNC110 (outside)
            await asyncio.sleep(0.05)


async def test_a_source_that_plays_is_ready(clip: Path) -> None:
    source = {"name": "lobby", "path": str(clip), "pace": "fast"}
    async with house(TURN_ON, config=configured(source=[source])) as home:
        await home.ready()
