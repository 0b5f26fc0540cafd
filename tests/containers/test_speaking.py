"""``encoding=opus`` and ``encoding=webm`` on /v1/speak: what a browser records, into captions."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest
from captiond.containers import media

from tests.containers.children import children
from tests.containers.recordings import OGG, WEBM, Kind, record
from tests.daemon.house import FINAL, Client, audio_of, house
from tests.sim.scripted import say

SCRIPT = say("turn on") + say("the lights", at=48_000)
WORDS = ["turn on", "the lights"]
PCM = audio_of(SCRIPT)
ENCODINGS = pytest.mark.parametrize(("encoding", "kind"), [("webm", WEBM), ("opus", OGG)])


async def send(client: Client, data: bytes, piece: int = 700) -> None:
    for at in range(0, len(data), piece):
        await client.socket.send(data[at : at + piece])


@ENCODINGS
async def test_words_come_out_of_a_recording(encoding: str, kind: Kind) -> None:
    async with house(SCRIPT) as home, home.speaker(f"encoding={encoding}&rate=8000&channels=2") as speaker:
        await send(speaker, record(PCM, kind))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.texts() == WORDS
        assert not speaker.all("error")
        assert not speaker.all("audio.lost")
    assert children() == []


@ENCODINGS
async def test_a_flush_finishes_what_was_sent_before_it(encoding: str, kind: Kind) -> None:
    data = record(PCM[:32_000], kind)  # to the middle of the pause
    async with house(SCRIPT) as home, home.speaker(f"encoding={encoding}") as speaker:
        await send(speaker, data)
        await speaker.say(type="flush")
        flushed = await speaker.until("flushed")
        assert speaker.texts() == WORDS[:1]
        assert 1_950 <= flushed["heard_until_ms"] <= 2_050
        await speaker.say(type="configure", prompt="lamps")
        await speaker.until("configured")


@ENCODINGS
async def test_a_lost_speaker_comes_back_with_a_new_container(encoding: str, kind: Kind) -> None:
    async with house(SCRIPT) as home, home.viewer("stream=desk") as viewer:
        async with home.speaker(f"stream=desk&encoding={encoding}") as speaker:
            token = (await speaker.until("hello"))["resume"]
            await send(speaker, record(PCM[:40_000], kind))
            await viewer.until(FINAL)
            speaker.socket.transport.abort()
            await speaker.closed()
        async with home.speaker(f"stream=desk&encoding={encoding}&resume={token}") as speaker:
            heard_ms = (await speaker.until("hello"))["heard_until_ms"]
            assert 0 < heard_ms <= 2_500
            await send(speaker, record(PCM[heard_ms * 16 :], kind))
            await speaker.say(type="end")
            assert await speaker.closed() == 1000
        await viewer.until("stream.closed")
        assert viewer.texts() == WORDS
        assert not viewer.all("audio.lost")


async def test_the_tail_of_a_client_that_leaves_is_captioned() -> None:
    async with house(SCRIPT) as home, home.viewer("stream=desk") as viewer:
        async with home.speaker("stream=desk&encoding=webm") as speaker:
            await send(speaker, record(PCM))
        await viewer.until(FINAL, 2)
        assert viewer.texts() == WORDS


async def test_time_that_was_not_recorded_is_told_as_lost() -> None:
    async with house(SCRIPT) as home, home.speaker("encoding=webm") as speaker:
        await send(speaker, record(PCM, WEBM, gap_at=32_000, gap=80_000))
        await speaker.say(type="end")
        await speaker.closed()
        (lost,) = speaker.all("audio.lost")
        assert lost["reason"] == "gap"
        assert lost["end_ms"] - lost["start_ms"] == pytest.approx(5_000, abs=50)


@pytest.mark.parametrize(
    "data",
    [b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 100_000, b"<html>this is no audio at all</html>" * 100],
    ids=["wav", "zeros", "text"],
)
@ENCODINGS
async def test_bytes_that_are_no_such_container_are_refused_and_others_go_on(
    encoding: str, kind: Kind, data: bytes
) -> None:
    async with house(SCRIPT) as home, home.speaker("stream=witness&encoding=webm") as witness:
        recording = record(PCM)
        await send(witness, recording[:2_000])
        async with home.speaker(f"stream=bad&encoding={encoding}") as speaker:
            await send(speaker, data, 50_000)
            await speaker.say(type="end")
            error = await speaker.until("error")
            assert (error["code"], error["fatal"]) == ("audio_invalid", True)
            closed = await speaker.until("stream.closed")
            assert (closed["reason"], closed["error"]) == ("error", "audio_invalid")
            assert await speaker.closed() == 1008
        await send(witness, recording[2_000:])
        await witness.say(type="end")
        assert await witness.closed() == 1000
        assert witness.texts() == WORDS


async def test_what_was_said_before_the_bytes_went_bad_has_its_final() -> None:
    data = record(PCM, OGG)
    async with house(SCRIPT) as home, home.speaker("encoding=opus") as speaker:
        await send(speaker, data[: len(data) * 2 // 3])
        await send(speaker, b"\xff" * 200_000, 50_000)
        await speaker.say(type="end")
        await speaker.closed()
        assert speaker.texts()[0] == WORDS[0]


async def test_a_decoder_that_is_killed_ends_its_stream_and_no_other() -> None:
    recording = record(PCM)
    async with house(SCRIPT) as home, home.speaker("stream=victim&encoding=webm") as victim:
        await victim.until("hello")
        await send(victim, recording[:6_000])
        await victim.until("speech.started")
        (child,) = children()
        async with home.speaker("stream=witness&encoding=webm") as witness:
            await send(witness, recording[:6_000])
            await witness.until("speech.started")
            os.kill(child, signal.SIGKILL)
            error = await victim.until("error")
            assert (error["code"], error["fatal"]) == ("decoder_failed", True)
            assert "Killed" in error["message"]
            assert await victim.closed() == 1011
            await send(witness, recording[6_000:])
            await witness.say(type="end")
            assert await witness.closed() == 1000
            assert witness.texts() == WORDS
        assert child not in children()


async def test_without_the_extra_the_client_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "installed", lambda: False)
    async with house(SCRIPT) as home:
        async with home.speaker("encoding=webm") as speaker:
            error = await speaker.until("error")
            assert error["code"] == "extra_missing"
            assert "pip install 'captiond[av]'" in error["message"]
            assert await speaker.closed() == 1008
        assert (await home.get("/v1/streams")).json() == []


async def test_a_stop_while_a_recording_comes_in_gives_its_final_and_leaves_no_child() -> None:
    async with house(SCRIPT) as home, home.speaker("encoding=webm") as speaker:
        data = record(PCM[:36_000])
        await send(speaker, data)
        await speaker.until("transcript.partial")
        home.stop.set()
        assert await speaker.closed() == 1001
        assert speaker.texts()
    assert children() == []


PARENT = """
import asyncio
from captiond.containers.decoder import decoding, stream_of

async def main():
    async with decoding(stream_of("webm")) as decoder:
        await decoder.mark(b"up")
        await anext(decoder.heard())
        print(decoder.process_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_daemon_that_is_killed_takes_its_decoders_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            ended, _, _ = select.select([child], [], [], 60)  # readable once the process has ended
            assert ended
        finally:
            os.close(child)
