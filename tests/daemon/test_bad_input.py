"""What a stranger can send: each a clear answer with a stable code, and nobody else is harmed.

Every test here runs beside a witness: another stream on the same daemon that must come out whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from captiond import wire
from websockets.exceptions import ConnectionClosed

from tests.daemon.house import FINAL, House, audio_of, configured, house, s16
from tests.sim.scripted import say

TURN_ON = say("turn on the lights")
WORDS = "turn on the lights"


@asynccontextmanager
async def witnessed(**limits: Any) -> AsyncIterator[House]:
    """A daemon on which another speaker is in the middle of a sentence."""
    pcm = audio_of(TURN_ON)
    async with house(TURN_ON, config=configured(limits=limits)) as home:
        async with home.speaker("stream=witness") as witness:
            await witness.speak(pcm[:24_000])
            yield home
            await witness.speak(pcm[24_000:])
            await witness.say(type="end")
            assert await witness.closed() == 1000
        assert witness.texts() == [WORDS]
        assert not witness.all("error")
        assert not witness.all("audio.lost")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("audio, I think", "invalid_json"),
        ('{"type":', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"type":"flush"}{"type":"flush"}', "invalid_json"),
        ("[1, 2]", "invalid_message"),
        ("7" * 400, "invalid_message"),
        ('{"type": 7}', "invalid_message"),
        ('{"kind": "flush"}', "invalid_message"),
        ('{"v": 2, "type": "flush"}', "unsupported_version"),
        ('{"type": "configure", "language": 7}', "invalid_value"),
        ('{"type": "configure", "language": "tlh"}', "invalid_value"),
        ('{"type": "configure", "prompt": ["a"]}', "invalid_value"),
    ],
)
async def test_a_text_message_that_cannot_be_used_is_told_and_the_session_lives(text: str, code: str) -> None:
    async with witnessed() as home, home.speaker() as speaker:
        await speaker.socket.send(text)
        error = await speaker.until("error")
        assert (error["code"], error["fatal"]) == (code, False)
        assert len(error["message"]) < 400
        await speaker.speak(audio_of(TURN_ON))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.texts() == [WORDS]


async def test_text_that_is_no_utf8_ends_only_that_connection() -> None:
    async with witnessed() as home, home.speaker() as speaker:
        await speaker.socket.send(b"\xff\xfe", text=True)
        assert await speaker.closed() == 1007


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("rate=abc", "rate"),
        ("rate=7999", "rate"),
        ("rate=16000&rate=16000", "rate"),
        ("rate=" + "9" * 4_000, "rate"),
        ("channels=0", "channels"),
        ("channels=9", "channels"),
        ("encoding=mp3", "encoding"),
        ("stream=a%20b", "stream"),
        ("stream=" + "a" * 65, "stream"),
        ("stream=%1b%5b2J", "stream"),
        ("events=some", "events"),
        ("words=yes", "words"),
        ("since=-1", "since"),
        ("language=tlh", "language"),
        ("stream=%ff", "query"),
    ],
)
async def test_a_wrong_query_is_told_then_closed(query: str, word: str) -> None:
    async with witnessed() as home, home.speaker(query) as speaker:
        assert await speaker.closed() == 1008
        (error,) = speaker.events
        assert (error["type"], error["fatal"]) == ("error", True)
        assert error["code"] in ("invalid_query", "invalid_value")
        assert word in error["message"]
        assert error["message"].isprintable()
        assert len(error["message"]) < 300


@pytest.mark.parametrize("query", ["history=1001", "history=x", "events=none", "stream=a,b", "since=1.5"])
async def test_a_wrong_query_of_a_listener_is_told_then_closed(query: str) -> None:
    async with witnessed() as home, home.viewer(query) as viewer:
        assert await viewer.closed() == 1008
        assert viewer.events[0]["code"] == "invalid_query"


async def test_unknown_parameters_are_ignored() -> None:
    async with witnessed() as home, home.speaker("colour=blue&v=1") as speaker:
        assert (await speaker.until("hello"))["v"] == 1


async def test_sound_that_is_no_number_becomes_silence() -> None:
    async with witnessed() as home, home.speaker("encoding=pcm_f32le") as speaker:
        pcm = audio_of(TURN_ON)
        pcm[::50] = np.nan
        pcm[1::50] = np.inf
        pcm[2::50] = 1e30
        await speaker.socket.send(pcm.astype("<f4").tobytes())
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.all("stream.closed")[0]["reason"] == "end"


async def test_a_message_that_is_too_long_is_closed_with_1009() -> None:
    async with witnessed(message_bytes=100_000) as home, home.speaker() as speaker:
        await speaker.socket.send(bytes(100_001))
        assert await speaker.closed() == 1009


async def test_empty_messages_and_odd_bytes_are_no_trouble() -> None:
    async with witnessed() as home, home.speaker() as speaker:
        for part in (b"", b"\x00", b"", b"\x00\x00\x00"):
            await speaker.socket.send(part)
        await speaker.say(type="flush")
        assert (await speaker.until("flushed"))["heard_until_ms"] == 0
        assert not speaker.all("error")


async def test_audio_after_the_end_is_not_heard() -> None:
    async with (
        witnessed() as home,
        home.viewer("stream=late") as viewer,
        home.speaker("stream=late") as speaker,
    ):
        await speaker.say(type="end")
        await speaker.socket.send(s16(audio_of(TURN_ON)))
        assert await speaker.closed() == 1000
        await viewer.until("stream.closed")
        assert not viewer.texts()


async def test_audio_sent_to_the_captions_is_in_the_wrong_place() -> None:
    async with witnessed() as home, home.viewer() as viewer:
        await viewer.socket.send("whatever")
        await viewer.socket.send(b"\x00\x00")
        assert await viewer.closed() == 1003


async def test_a_client_that_says_nothing_is_closed_and_its_seat_is_free() -> None:
    config = configured(limits={"idle_ms": 60_000, "max_streams": 1})
    async with house(config=config) as home:
        async with home.speaker("stream=a") as speaker:
            assert await speaker.closed() == 1008
            assert speaker.all("error")[0]["code"] == "idle"
            assert speaker.all("stream.closed")[0]["reason"] == "idle"
        async with home.speaker("stream=b") as other:
            await other.until("stream.opened")


async def test_a_keepalive_keeps_a_silent_client() -> None:
    async with house(config=configured(limits={"idle_ms": 60_000})) as home, home.speaker() as speaker:
        for _ in range(10):
            await asyncio.sleep(50)
            await speaker.say(type="keepalive")
        assert speaker.code is None


async def test_a_peer_that_answers_no_ping_is_gone_within_two_ping_times() -> None:
    config = configured(limits={"ping_ms": 20_000, "resume_ms": 0})
    async with (
        house(config=config) as home,
        home.viewer("stream=a") as viewer,
        home.speaker("stream=a") as gone,
    ):
        await gone.until("stream.opened")
        loop = asyncio.get_running_loop()
        before = loop.time()
        gone.socket.transport.pause_reading()  # as if a cable had been pulled
        await viewer.until("stream.closed")
        assert loop.time() - before <= 45
        gone.socket.transport.abort()


async def test_a_peer_whose_answers_wait_behind_its_audio_is_not_taken_for_gone() -> None:
    config = configured(limits={"ping_ms": 20_000})
    async with house(TURN_ON, config=config) as home, home.speaker("events=final") as speaker:
        await speaker.until("stream.opened")
        speaker.socket.transport.pause_reading()  # no ping reaches it, so it answers none
        await speaker.speak(np.zeros(90 * 16_000, np.float32))
        speaker.socket.transport.resume_reading()
        await speaker.say(type="end")
        assert await speaker.closed() == 1000


async def test_a_disconnect_in_the_middle_of_a_word_keeps_the_others_and_frees_the_seat() -> None:
    async with witnessed(resume_ms=2_000) as home, home.viewer("stream=cut") as viewer:
        async with home.speaker("stream=cut") as speaker:
            await speaker.speak(audio_of(TURN_ON)[:30_000])
            speaker.socket.transport.abort()
            await speaker.closed()
        closed = await viewer.until("stream.closed")
        assert closed["reason"] == "client_gone"
        assert viewer.texts() == ["turn on the"]
        assert [s["name"] for s in (await home.get("/v1/streams")).json()] == ["witness"]


async def test_a_reader_that_stalls_is_closed_with_1013_and_harms_nobody() -> None:
    facts = 1_000  # with 10 kB each, more than any socket holds
    async with witnessed(queue_facts=8) as home, home.viewer("stream=a", max_queue=1) as stalled:
        stalled.hold.clear()
        assert home.app.context is not None
        hub = home.app.context.hub
        async with home.viewer("stream=a") as quick:
            feed = hub.open("a", "test")
            for segment in range(facts):
                hub.publish(
                    feed,
                    wire.Final(segment=segment, text="w" * 10_000, start_ms=0, end_ms=1, language="en"),
                )
                await quick.until(FINAL, segment + 1)
            assert len(quick.texts()) == facts
        await asyncio.sleep(10)
        assert hub.listeners(feed) == 0
        assert home.app.metrics.slow_readers._value.get() == 1
        stalled.hold.set()
        assert await stalled.closed() in (1013, 1006)
        assert len(stalled.texts()) < facts


async def test_a_flood_of_rubbish_is_a_slow_reader_in_the_end() -> None:
    async with witnessed(queue_facts=8) as home, home.speaker(max_queue=1) as speaker:
        speaker.hold.clear()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100_000):
                await speaker.socket.send("rubbish")
        await asyncio.sleep(60)  # what is read is measured, so that it takes a while until nothing more fits
        speaker.hold.set()
        assert await speaker.closed() in (1013, 1006)


async def test_a_name_that_is_spoken_into_is_taken() -> None:
    async with witnessed() as home, home.speaker("stream=witness") as second:
        assert await second.closed() == 1008
        assert second.events[0]["code"] == "stream_taken"


async def test_control_tokens_in_a_prompt_are_only_taken_out() -> None:
    async with witnessed() as home, home.speaker("prompt=%3C%7Cendoftext%7C%3E%00" + "x%20" * 900) as speaker:
        await speaker.speak(audio_of(TURN_ON))
        await speaker.say(type="end")
        await speaker.closed()
        assert speaker.texts() == [WORDS]


async def test_a_fault_inside_one_stream_ends_that_one_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        witnessed() as home,
        home.viewer("stream=bad") as viewer,
        home.speaker("stream=bad") as speaker,
    ):
        await speaker.until("stream.opened")
        assert home.app.context is not None
        (bad,) = [s for s in home.app.context.sessions.present() if s.name == "bad"]

        def broken(frame: object) -> None:
            raise ZeroDivisionError("a fault of our own")

        bad._stream.push = broken  # type: ignore[method-assign]
        await speaker.socket.send(bytes(3_200))
        assert await speaker.closed() == 1011
        closed = await viewer.until("stream.closed")
        assert (closed["reason"], closed["error"]) == ("error", "internal")
        assert "a fault of our own" in caplog.text
        async with home.speaker("stream=bad") as again:
            await again.until("stream.opened")
