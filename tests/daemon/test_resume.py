"""Coming back: a speaker whose socket broke, and a listener that was away."""

from __future__ import annotations

from tests.daemon.house import FINAL, Client, audio_of, configured, house
from tests.sim.scripted import say

TWO = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))


async def lost(client: Client) -> None:
    client.socket.transport.abort()
    await client.closed()


async def test_a_speaker_comes_back_in_the_middle_of_a_word_as_if_it_had_never_been_away() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home, home.viewer("stream=hall") as viewer:
        async with home.speaker("stream=hall") as first:
            await first.speak(pcm[: 16_000 * 2 + 777])
            await first.until("transcript.partial", 2)
            hello = first.events[0]
            await lost(first)
        async with home.speaker(f"stream=hall&resume={hello['resume']}") as second:
            again = await second.until("hello")
            assert again["epoch"] == hello["epoch"]
            assert again["heard_until_ms"] == (16_000 * 2 + 777) * 1000 // 16_000
            await second.speak(pcm[again["heard_until_ms"] * 16 :])
            await second.say(type="end")
            assert await second.closed() == 1000
        await viewer.until("stream.closed")
    assert viewer.texts() == ["turn on the lights", "what is the time"]
    assert [e["seq"] for e in viewer.events] == list(range(len(viewer.events)))
    assert [e["segment"] for e in viewer.all(FINAL)] == [1, 2]
    assert not viewer.all("audio.lost")
    assert first.events[-1]["seq"] < second.events[1]["seq"]


async def test_what_was_told_while_away_is_told_on_return() -> None:
    pcm = audio_of(TWO)
    async with house(TWO, decode_s=1.0) as home:
        async with home.speaker("stream=hall") as first:
            await first.speak(pcm[: 16_000 * 3 + 8_000], pace=20)
            hello = first.events[0]
            told = first.events[-1]["seq"]
            await lost(first)
        async with home.viewer("stream=hall") as viewer:
            await viewer.until(FINAL)
        address = f"resume={hello['resume']}&epoch={hello['epoch']}&since={told}"
        async with home.speaker(address) as second:
            assert (await second.until(FINAL))["text"] == "turn on the lights"
            assert "gap" not in second.events[0]
            assert second.events[1]["seq"] > told


async def test_a_token_takes_over_from_a_socket_that_only_seems_open() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home, home.speaker("stream=hall") as first:
        await first.speak(pcm[:20_000])
        token = first.events[0]["resume"]
        async with home.speaker(f"resume={token}") as second:
            hello = await second.until("hello")
            await second.speak(pcm[hello["heard_until_ms"] * 16 :])
            await second.say(type="end")
            assert await second.closed() == 1000
        assert second.texts() == ["turn on the lights", "what is the time"]
        assert await first.closed() == 1006


async def test_after_its_time_the_stream_is_flushed_and_closed_and_the_token_is_worth_nothing() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home, home.viewer("stream=hall") as viewer:
        async with home.speaker("stream=hall") as first:
            await first.speak(pcm[:30_000])
            token = first.events[0]["resume"]
            await lost(first)
        closed = await viewer.until("stream.closed")
        assert closed["reason"] == "client_gone"
        assert viewer.texts() == ["turn on the"]
        async with home.speaker(f"resume={token}") as late:
            assert await late.closed() == 1008
            assert late.events[0]["code"] == "resume_unknown"


async def test_without_resume_time_no_token_is_given() -> None:
    async with house(config=configured(limits={"resume_ms": 0})) as home, home.speaker() as speaker:
        assert "resume" not in await speaker.until("hello")


async def test_a_new_speaker_of_the_same_name_waits_for_the_tail_of_the_lost_one() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home, home.viewer("stream=hall") as viewer:
        async with home.speaker("stream=hall") as first:
            await first.speak(pcm[:30_000])
            await lost(first)
        async with home.speaker("stream=hall") as second:
            await second.speak(pcm)
            await second.say(type="end")
            await second.closed()
        await viewer.until("stream.closed", 2)
    assert viewer.texts() == ["turn on the", "turn on the lights", "what is the time"]
    assert [e["segment"] for e in viewer.all(FINAL)] == [1, 2, 3]
    assert [e["reason"] for e in viewer.all("stream.closed")] == ["replaced", "end"]


async def test_a_full_daemon_gives_the_seat_of_one_that_is_away_and_refuses_beyond() -> None:
    async with house(config=configured(limits={"max_streams": 1})) as home:
        async with home.speaker("stream=a") as away:
            await away.until("stream.opened")
            await lost(away)
        async with home.speaker("stream=b") as present:
            await present.until("stream.opened")
            refused = await home.get("/v1/speak")
            assert refused.status == 503
            assert "retry-after" in refused.headers


async def test_a_listener_resumes_after_the_number_that_it_had() -> None:
    pcm = audio_of(TWO)
    async with house(TWO) as home, home.speaker("stream=hall") as speaker:
        async with home.viewer("stream=hall") as viewer:
            await speaker.speak(pcm[: 4 * 16_000])
            await viewer.until(FINAL)
        seen = viewer.events[-1]["seq"]
        epoch = viewer.events[0]["epoch"]
        await speaker.speak(pcm[4 * 16_000 :])
        await speaker.say(type="end")
        await speaker.closed()
        async with home.viewer(f"stream=hall&epoch={epoch}&since={seen}") as again:
            await again.until("stream.closed")
        assert again.texts() == ["what is the time"]
        assert again.events[0]["seq"] == seen
        assert "gap" not in again.events[0]
        async with home.viewer(f"stream=hall&epoch=other&since={seen}") as stranger:
            await stranger.until(FINAL, 2)
        assert stranger.events[0]["gap"] is True
