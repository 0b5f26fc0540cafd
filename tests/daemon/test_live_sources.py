"""What a source that cannot wait does to its stream: time goes on, whatever the model or the wire does."""

from __future__ import annotations

from captiond.sessions import Wishes

from tests.daemon.house import FINAL, audio_of, configured, house
from tests.sim.scripted import say

TALK = say(" ".join(f"w{i}" for i in range(60)))  # 18 s
PAUSED = tuple(word for at in range(1, 40, 3) for word in say("on off", at=at * 16_000))


async def test_a_live_source_is_never_made_to_wait_and_jumps_to_what_is_said_now() -> None:
    config = configured(limits={"read_ahead_ms": 3_000})
    async with house(PAUSED, config=config, decode_s=60.0) as home, home.viewer() as viewer:
        assert home.app.context is not None
        owner = object()
        session = await home.app.context.sessions.open("desk", "microphone", Wishes(), owner)
        pcm = audio_of(PAUSED)
        await session.hear(pcm, owner, live=True)
        assert session.heard_until == len(pcm)
        session.end("end")
        await session.closed.wait()
        await viewer.until("stream.closed")
    lost = viewer.all("audio.lost")
    assert {event["reason"] for event in lost} == {"behind"}
    assert viewer.texts(), "what was said last was still captioned"
    assert viewer.all(FINAL)[-1]["end_ms"] > lost[-1]["end_ms"]


async def test_time_in_which_nothing_could_be_heard_is_told_and_counted() -> None:
    async with house(TALK) as home, home.viewer() as viewer:
        assert home.app.context is not None
        owner = object()
        session = await home.app.context.sessions.open("desk", "microphone", Wishes(), owner)
        await session.hear(audio_of(TALK)[:32_000], owner, live=True)
        session.skip(16_000 * 5, "device")
        assert session.heard_until == 32_000 + 16_000 * 5
        lost = await viewer.until("audio.lost")
        assert (lost["start_ms"], lost["end_ms"], lost["reason"]) == (2_000, 7_000, "device")
        session.end("end")
        session.skip(16_000)  # too late: nothing happens
        await session.closed.wait()
