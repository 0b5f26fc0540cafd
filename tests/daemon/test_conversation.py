"""Speaking and listening, as the wire's page says it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from captiond_engine.engine import Engine
from captiond_engine.types import Decoding, Job

from tests.daemon.house import FINAL, audio_of, configured, house, s16
from tests.sim.scripted import LoudDetector, ScriptedDevice, say, scripted_traits

TURN_ON = say("turn on the lights")
TWO = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))


async def test_a_speaker_hears_its_stream_from_hello_to_close() -> None:
    async with house(TURN_ON) as home, home.speaker("stream=hall&timings=1&words=1") as speaker:
        await speaker.speak(audio_of(TURN_ON))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
    kinds = [event["type"] for event in speaker.events]
    assert kinds[:3] == ["hello", "stream.opened", "speech.started"]
    assert kinds[-3:] == ["speech.ended", FINAL, "stream.closed"]
    assert speaker.texts() == ["turn on the lights"]
    assert [event["seq"] for event in speaker.events] == list(range(len(speaker.events)))
    assert {(event["v"], event["stream"]) for event in speaker.events} == {(1, "hall")}
    final = speaker.all(FINAL)[0]
    assert " ".join(word["text"] for word in final["words"]) == final["text"]
    assert final["timings"]["tokens"] == 4
    assert final["end_ms"] == speaker.all("speech.ended")[0]["at_ms"]


async def test_committed_text_only_grows_and_the_final_begins_with_it() -> None:
    async with house(TWO, unstable=0.5) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TWO))
        await speaker.say(type="end")
        await speaker.closed()
    for final in speaker.all(FINAL):
        states = [e for e in speaker.all("transcript.partial") if e["segment"] == final["segment"]]
        told = [state["committed"] for state in states] + [final["text"]]
        assert len(states) > 1
        assert all(after.startswith(before) for before, after in pairwise(told))
        assert [s["revision"] for s in states] == sorted({s["revision"] for s in states})
    assert speaker.texts() == ["turn on the lights", "what is the time"]


class Doubtful(ScriptedDevice):
    """Says its words of what is most likely silence."""

    def decode(self, job: Job) -> Decoding:
        said = super().decode(job)
        return replace(said, no_speech_probability=0.9, sum_log_probability=-3.0 * (len(said.tokens) + 1))


@pytest.mark.parametrize("shown", [True, False])
async def test_what_was_held_back_is_told_only_where_the_configuration_says_so(shown: bool) -> None:
    device = Doubtful(TURN_ON)
    engine = Engine(traits=scripted_traits(), tokenizer=device.tokenizer, device=device)
    config = configured(privacy={"suppressed_text": shown})
    async with house(engine=engine, config=config) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
    (suppressed,) = speaker.all("transcript.suppressed")
    assert suppressed["reason"] == "no_speech"
    assert suppressed.get("text") == ("turn on the lights" if shown else None)


async def test_a_name_is_made_where_none_is_given() -> None:
    async with house() as home, home.speaker() as one, home.speaker() as two:
        names = {(await client.until("hello"))["stream"] for client in (one, two)}
    assert len(names) == 2


async def test_a_viewer_sees_what_the_speaker_sees_and_outlives_it() -> None:
    async with house(TURN_ON) as home, home.viewer("stream=hall") as viewer, home.viewer() as everything:
        async with home.speaker("stream=hall") as speaker:
            await speaker.speak(audio_of(TURN_ON))
            await speaker.say(type="end")
            await speaker.closed()
        await viewer.until("stream.closed")
        await everything.until("stream.closed")
        assert viewer.events[1:] == speaker.events[1:] == everything.events[1:]
        assert viewer.code is None
        assert "stream" not in everything.events[0]


async def test_a_late_viewer_gets_history_then_the_open_state_then_live() -> None:
    async with house(TWO) as home, home.speaker("stream=hall") as speaker:
        pcm = audio_of(TWO)
        cut = 6 * 16_000
        await speaker.speak(pcm[:cut])
        await speaker.until("transcript.partial", 5)
        async with home.viewer("stream=hall&history=5") as late:
            await speaker.speak(pcm[cut:])
            await late.until(FINAL, 2)
    kinds = [event["type"] for event in late.events]
    assert kinds[:3] == ["hello", FINAL, "transcript.partial"]
    assert late.texts() == ["turn on the lights", "what is the time"]
    assert late.all("hello")[0]["model"] == "scripted"


async def test_events_final_leaves_out_everything_passing() -> None:
    async with house(TURN_ON) as home, home.viewer("events=final") as viewer:
        async with home.speaker("events=none") as speaker:
            await speaker.speak(audio_of(TURN_ON))
            await speaker.say(type="end")
            assert await speaker.closed() == 1000
        await viewer.until("stream.closed")
    assert [e["type"] for e in viewer.events] == ["hello", "stream.opened", FINAL, "stream.closed"]
    assert [e["type"] for e in speaker.events] == ["hello", "stream.closed"]


async def test_flush_is_answered_after_the_finals() -> None:
    async with house(TURN_ON) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        await speaker.say(type="flush")
        flushed = await speaker.until("flushed")
        kinds = [event["type"] for event in speaker.events]
        assert kinds.index(FINAL) < kinds.index("flushed")
        assert flushed["heard_until_ms"] == 2_000
        assert speaker.all("speech.ended")[0]["reason"] == "flush"


async def test_configure_is_answered_and_nothing_else_is_said_to_a_keepalive() -> None:
    async with house() as home, home.speaker() as speaker:
        await speaker.say(type="keepalive")
        await speaker.say(type="from.the.future", anything=[1])
        await speaker.say(type="configure", language="en", prompt="<|endoftext|> Ada Lovelace", more=1)
        assert (await speaker.until("configured"))["language"] == "en"
        await speaker.say(type="flush")
        await speaker.until("flushed")
    assert [e["type"] for e in speaker.events] == ["hello", "stream.opened", "configured", "flushed"]


async def test_the_cut_of_the_audio_does_not_matter() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home:
        told = []
        for piece in (1, 37, 16_000):
            async with home.speaker("words=1&events=final") as speaker:
                data = s16(pcm)
                if piece == 1:  # odd numbers of bytes
                    for start in range(0, len(data), 333):
                        await speaker.socket.send(data[start : start + 333])
                else:
                    await speaker.speak(pcm, pace=None, piece=piece * 100)
                await speaker.say(type="end")
                await speaker.closed()
            told.append([(e["text"], e["start_ms"], e["end_ms"], e["words"]) for e in speaker.all(FINAL)])
    assert told[0] == told[1] == told[2]
    assert [entry[0] for entry in told[0]] == ["turn on the lights", "what is the time"]


@pytest.mark.parametrize(
    ("query", "encode"),
    [
        ("encoding=pcm_f32le", lambda pcm: pcm.astype("<f4").tobytes()),
        ("channels=2", lambda pcm: s16(np.repeat(pcm, 2))),
        ("rate=48000", lambda pcm: s16(np.repeat(pcm, 3))),
        ("rate=8000", lambda pcm: s16(pcm[::2])),
    ],
)
async def test_other_encodings_are_heard(query: str, encode: object) -> None:
    assert callable(encode)
    async with house(TURN_ON) as home, home.speaker(query) as speaker:
        await speaker.socket.send(encode(audio_of(TURN_ON)))
        await speaker.say(type="end")
        await speaker.closed()
    assert speaker.texts() == ["turn on the lights"]


async def test_faster_than_real_time_is_read_ahead_and_no_further_and_nothing_is_lost() -> None:
    script = tuple(
        word for i in range(40) for word in say("turn on the lights now please", at=16_000 + i * 48_000)
    )
    config = configured(limits={"read_ahead_ms": 5_000, "lag_warn_ms": 2_000})
    async with house(script, config=config, decode_s=1.5) as home, home.speaker("stream=a") as speaker:
        behind: list[int] = []

        async def watch() -> None:
            while speaker.code is None:
                streams = (await home.get("/v1/streams")).json()
                behind.extend(stream["behind_ms"] for stream in streams)
                await asyncio.sleep(0.5)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            await speaker.speak(audio_of(script), pace=None, piece=16_000)
            await speaker.say(type="end")
            assert await speaker.closed() == 1000
    assert 4_000 < max(behind) <= 5_500
    assert " ".join(speaker.texts()).split() == [word.text for word in script]
    assert not speaker.all("audio.lost")
    assert [e["level"] for e in speaker.all("lag")][:2] == ["warn", "ok"]


async def test_passes_that_take_longer_than_is_read_ahead_do_not_stop_the_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A partial is due where as much is new as one takes; no more than is read may be asked for."""
    monkeypatch.setattr("captiond_engine.engine.open_detector", lambda *_: LoudDetector())
    script = say(" ".join(f"w{i}" for i in range(60)))
    config = configured(limits={"read_ahead_ms": 1_000})
    async with house(script, config=config, decode_s=2.0) as home, home.speaker("stream=a") as speaker:
        await speaker.speak(audio_of(script), pace=None, piece=16_000)
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
    assert " ".join(speaker.texts()).split() == [word.text for word in script]
    assert not speaker.all("audio.lost")


async def test_an_unhurried_leave_without_end_still_finishes_what_was_said() -> None:
    async with house(TURN_ON) as home, home.viewer() as viewer:
        async with home.speaker("stream=hall") as speaker:
            await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        assert (await viewer.until(FINAL))["text"] == "turn on the"
        closed = await viewer.until("stream.closed")
        assert closed["reason"] == "client_gone"


async def test_streams_do_not_hear_each_other() -> None:
    scripts = {0: say("turn on the lights"), 1: say("play some music")}
    async with house(scripts) as home, home.speaker("stream=a") as a, home.speaker("stream=b") as b:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(a.speak(audio_of(scripts[0])))
            tasks.create_task(b.speak(audio_of(scripts[1])))
        for client in (a, b):
            await client.say(type="end")
            await client.closed()
    assert (a.texts(), b.texts()) == (["turn on the lights"], ["play some music"])
