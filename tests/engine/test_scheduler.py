"""The scheduler under a clock that jumps: order, overload, failures, and streams that leave."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from captiond_engine.errors import DeviceError
from captiond_engine.scheduler import Scheduler
from captiond_engine.stream import StreamSettings
from captiond_engine.types import AudioFrame, AudioLost, Suppressed, Transcript

from tests.sim.clock import run_jumping
from tests.sim.crowd import FRAME, S, Speaker, conversation, simulate
from tests.sim.scripted import Script, ScriptedDevice, say


def run(
    scripts: list[Script], until: int, **options: object
) -> tuple[list[Speaker], ScriptedDevice, list[DeviceError]]:
    """All speakers at once, until everything is answered."""
    crowd = simulate(scripts, until, **options)  # type: ignore[arg-type]
    return crowd.speakers, crowd.device, crowd.errors


def test_a_stream_is_served_and_the_final_comes_with_the_endpoint() -> None:
    script = conversation(3)
    (speaker,), device, _ = run([script], script[-1].end + S, encode_s=0.02, decode_s=0.05)
    assert " ".join(speaker.finals).split() == [word.text for word in script]
    times = {type(e).__name__ + str(getattr(e, "final", "")): t for t, e in speaker.came}
    assert times["TranscriptTrue"] == times["SpeechEnded"]
    assert len(device.calls) > 10


def test_an_overloaded_device_makes_fewer_passes_and_no_growing_lag() -> None:
    """Six streams, each of which alone would keep the device busy for 40 % of the time."""
    script = conversation(12)
    speakers, device, _ = run([script] * 6, script[-1].end + S, decode_s=0.2)
    for speaker in speakers:
        assert " ".join(speaker.finals).split() == [word.text for word in script]
        waits = [t - e.heard_until / S for t, e in speaker.came if isinstance(e, Transcript) and e.final]
        early, late = max(waits[:4]), max(waits[-4:])
        assert late <= early + 0.5
        assert not any(isinstance(e, AudioLost) for e in speaker.events)
    alone = run([script], script[-1].end + S, decode_s=0.2)[1]
    assert len(device.calls) < 6 * len(alone.calls)


def test_hopeless_overload_loses_audio_out_loud_and_goes_on() -> None:
    script = conversation(25)
    (speaker,), _, _ = run([script], script[-1].end + S, decode_s=9.0)
    lost = [e for e in speaker.events if isinstance(e, AudioLost)]
    assert lost
    assert {e.reason for e in lost} == {"overrun"}
    assert len(speaker.finals) >= 5
    live = [(t, e) for t, e in speaker.came if t < script[-1].end / S]
    waits = [t - e.heard_until / S for t, e in live if isinstance(e, Transcript) and e.final]
    assert max(waits) < StreamSettings().ring / S + 2 * 9.0


def test_finals_come_before_partials_and_the_longest_waiting_first() -> None:
    async def main() -> list[tuple[int, str]]:
        scripts = {0: conversation(1, 20), 1: say("one two", at=S), 2: say("three four", at=S)}
        device = ScriptedDevice(scripts, decode_s=0.1)
        scheduler = Scheduler(device)
        speakers = [Speaker(i, script, device, scheduler) for i, script in scripts.items()]
        for speaker, until in zip(speakers, (3 * S, 4 * S, 4 * S), strict=True):
            for start in range(0, until, FRAME):
                speaker.stream.push(AudioFrame(speaker.stream.name, start, np.zeros(FRAME, np.float32)))
        for speaker in (speakers[0], speakers[2], speakers[1]):  # the partial is noticed first
            scheduler.attach(speaker.stream, speaker.collect)
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(scheduler.run(), name="scheduler")
            await asyncio.sleep(5)
            serving.cancel()
        return [(job.slot, job.kind) for jobs in device.calls for job in jobs]

    assert run_jumping(main()) == [(2, "final"), (1, "final"), (0, "partial")]


def test_a_batch_takes_the_most_urgent_of_several_streams() -> None:
    script = conversation(4)
    speakers, device, _ = run([script] * 5, script[-1].end + S, decode_s=0.2, batch_limit=3)
    assert {len(jobs) for jobs in device.calls} >= {3}
    assert max(len(jobs) for jobs in device.calls) == 3
    assert all(len({job.slot for job in jobs}) == len(jobs) for jobs in device.calls)
    for speaker in speakers:
        assert " ".join(speaker.finals).split() == [word.text for word in script]


def test_a_device_that_fails_now_and_then_costs_no_word() -> None:
    script = conversation(5)
    (speaker,), _, errors = run([script], script[-1].end + S, decode_s=0.05, fail_calls=lambda n: n % 3 == 1)
    assert len(errors) > 3
    assert " ".join(speaker.finals).split() == [word.text for word in script]


def test_a_device_that_always_fails_loses_out_loud_and_is_not_asked_in_a_rush() -> None:
    script = conversation(8)
    (speaker,), device, errors = run([script], script[-1].end + S, fail_calls=lambda n: True)
    assert len(errors) == len(device.calls) < 40
    assert speaker.finals == []
    assert len([e for e in speaker.events if isinstance(e, Suppressed)]) == 8
    assert all(e.reason in ("device", "overrun") for e in speaker.events if isinstance(e, AudioLost))


def test_a_device_that_recovers_serves_on() -> None:
    script = conversation(20)
    (speaker,), _, _ = run([script], script[-1].end + S, fail_calls=range(8))
    assert speaker.finals[-1].split() == [word.text for word in script[-8:]]


def test_the_answer_for_a_stream_that_left_is_forgotten() -> None:
    async def main() -> None:
        script = say("one two three", at=S)
        device = ScriptedDevice(script, decode_s=1.0)
        scheduler = Scheduler(device)
        speaker = Speaker(0, script, device, scheduler)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(scheduler.run(), name="scheduler")
            for start in range(0, 4 * S, FRAME):
                speaker.stream.push(AudioFrame("stream0", start, np.zeros(FRAME, np.float32)))
            speaker.stream.take_events()
            scheduler.attach(speaker.stream, speaker.collect)
            with pytest.raises(ValueError, match="attached"):
                scheduler.attach(speaker.stream, speaker.collect)
            await asyncio.sleep(0.5)
            assert len(device.calls) == 1
            scheduler.detach(speaker.stream)
            scheduler.notify(speaker.stream)
            await asyncio.sleep(5)
            serving.cancel()
        assert speaker.events == []
        assert len(device.calls) == 1

    run_jumping(main())


def test_one_stream_that_reads_ahead_does_not_starve_the_others() -> None:
    """A file pushed all at once is always in work; a live stream is served in turn with it."""

    async def main() -> list[float]:
        live_script, file_script = conversation(4), conversation(8)
        device = ScriptedDevice({0: live_script, 1: file_script}, decode_s=0.3)
        scheduler = Scheduler(device)
        live, file = (
            Speaker(i, script, device, scheduler) for i, script in enumerate((live_script, file_script))
        )
        for start in range(0, 30 * S, FRAME):
            file.stream.push(AudioFrame("stream1", start, np.zeros(FRAME, np.float32)))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(scheduler.run(), name="scheduler")
            scheduler.attach(file.stream, file.collect)
            await tasks.create_task(live.speak(live_script[-1].end + S), name="live")
            serving.cancel()
        assert " ".join(live.finals).split() == [word.text for word in live_script]
        assert file.finals
        return [t - e.heard_until / S for t, e in live.came if isinstance(e, Transcript) and e.final]

    assert max(run_jumping(main())) < 1.5  # simulated seconds: 0.3 s of silence, and passes of 0.3 s
