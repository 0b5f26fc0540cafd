"""The library's speaking half against a daemon of protocol.md: nothing lost, nothing told twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from captiond_clients.client import speak
from captiond_clients.errors import ProtocolError, RefusedError, UnreachableError
from captiond_clients.events import AudioLost, Event, Final, Flushed, Hello, Partial, StreamClosed
from captiond_clients.speaker import Speaker

from tests.clients.fake_daemon import fake_daemon, seconds_of_audio


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def tell_all(speaker: Speaker, audio: bytes, cut: int = 3_001) -> list[Event]:
    """Sends ``audio`` in odd pieces while the events are read, as programs do."""
    heard: list[Event] = []

    async def read() -> None:
        heard.extend([event async for event in speaker])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read(), name="reading")
        for offset in range(0, len(audio), cut):
            await speaker.send(audio[offset : offset + cut])
        await speaker.end()
    return heard


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


async def test_every_second_gets_its_final_and_the_stream_closes() -> None:
    async with fake_daemon() as daemon, speak(daemon.url, stream="hall", timings=True) as speaker:
        heard = await tell_all(speaker, seconds_of_audio(1, 2, 3))
        assert speaker.stream == "hall"
    assert isinstance(heard[0], Hello)
    assert texts(heard) == ["second 1", "second 2", "second 3"]
    assert isinstance(heard[-1], StreamClosed)
    assert daemon.queries[0]["timings"] == "1"


async def test_sending_everything_before_reading_anything_works() -> None:
    async with fake_daemon() as daemon, speak(daemon.url) as speaker:
        await speaker.send(seconds_of_audio(*range(50)))
        await speaker.flush()
        await speaker.end()
        heard = [event async for event in speaker]
    assert texts(heard) == [f"second {k}" for k in range(50)]
    assert any(isinstance(event, Flushed) for event in heard)


@pytest.mark.parametrize("mute", [False, True], ids=["events arrived", "events lost with the socket"])
@pytest.mark.parametrize("drops", [[1], [40_001], [32_000, 64_001, 96_000], [128_000]], ids=str)
async def test_a_lost_socket_loses_and_doubles_nothing(drops: list[int], mute: bool) -> None:
    troubles: list[Exception] = []
    async with (
        fake_daemon(drop_after=list(drops), mute_drops=mute) as daemon,
        speak(daemon.url, stream="hall", on_trouble=troubles.append) as speaker,
    ):
        heard = await tell_all(speaker, seconds_of_audio(1, 2, 3, 4) + b"\x05")
    assert texts(heard) == daemon.finals("hall")
    assert texts(heard)[:4] == [f"second {k}" for k in (1, 2, 3, 4)]
    assert [event.seq for event in heard if event.seq] == list(range(1, heard[-1].seq + 1))
    assert troubles


async def test_a_daemon_that_restarted_hears_what_had_no_final_yet() -> None:
    async with fake_daemon() as daemon, speak(daemon.url, stream="hall") as speaker:
        heard: list[Event] = []

        async def read_until(wanted: Callable[[Event], bool]) -> None:
            async for event in speaker:
                heard.append(event)
                if wanted(event):
                    return

        await speaker.send(seconds_of_audio(1) + seconds_of_audio(2)[:16_000])
        await read_until(lambda event: isinstance(event, Final))
        daemon.drop_after = [48_002]
        await speaker.send(seconds_of_audio(2)[:2])
        daemon.restart()
        await read_until(lambda event: isinstance(event, Hello) and event.epoch == "2")
        await speaker.send(seconds_of_audio(2)[16_002:] + seconds_of_audio(3))
        await speaker.end()
        await read_until(lambda event: isinstance(event, StreamClosed))
    assert texts(heard) == ["second 1", "second 2", "second 3"]


async def test_a_stream_that_ended_while_we_were_away_tells_its_last_words() -> None:
    async with fake_daemon() as daemon, speak(daemon.url, stream="hall") as speaker:
        await speaker.send(seconds_of_audio(1) + seconds_of_audio(2)[:16_000])
        await until(lambda: len(daemon.streams["hall"].audio) == 48_000)
        daemon.drop_after = [48_000]
        daemon.mute_drops = True  # the answer to "end" is lost with the socket
        await speaker.end()
        heard = [event async for event in speaker]
    assert texts(heard) == ["second 1", "second 2"]
    assert isinstance(heard[-1], StreamClosed)
    assert list(daemon.streams) == ["hall"]


async def test_audio_that_can_no_longer_be_sent_again_is_reported_and_time_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("captiond_clients.speaker.OUTBOX_MS", 500)
    quarters = [seconds_of_audio(value)[:8_000] for value in (1, 2, 3, 4)]
    async with fake_daemon() as daemon, speak(daemon.url, stream="hall") as speaker:
        spoken = daemon.streams["hall"]
        for quarter in quarters[:3]:
            await speaker.send(quarter)
        await until(lambda: len(spoken.audio) == 24_000)
        spoken.audio.clear()  # as if nothing of it had been heard; the outbox has the last 500 ms of it
        daemon.cut_speakers()
        await until(lambda: len(daemon.queries) == 2)
        heard = await tell_all(speaker, quarters[3])
    lost = [event for event in heard if isinstance(event, AudioLost)]
    assert [(event.start_ms, event.end_ms, event.reason) for event in lost] == [(0, 250, "outbox")]
    assert bytes(spoken.audio) == bytes(8_000) + b"".join(quarters[1:])


async def test_a_daemon_that_stays_away_is_unreachable() -> None:
    async with fake_daemon(drop_after=[1]) as daemon, speak(daemon.url, patience_s=0.3) as speaker:
        daemon.refuse = [503] * 100
        await speaker.send(seconds_of_audio(1))
        with pytest.raises(UnreachableError, match="503") as caught:
            _ = [event async for event in speaker]
        with pytest.raises(UnreachableError):
            await speaker.send(seconds_of_audio(2))
    assert caught.value.code == "unreachable"
    assert caught.value.exit_code == 69


async def test_a_daemon_that_drops_each_new_connection_is_no_progress() -> None:
    async with fake_daemon(drop_after=[1] * 1000) as daemon, speak(daemon.url, patience_s=0.5) as speaker:
        await speaker.send(seconds_of_audio(1)[:16_000])

        async def talk_on() -> None:
            async for _ in speaker:
                await speaker.send(b"\0\0")

        with pytest.raises(UnreachableError, match="1006"):
            await talk_on()
        assert len(daemon.queries) < 20


async def test_a_host_that_is_not_known_is_named_as_such() -> None:
    with pytest.raises(UnreachableError, match=r"at nowhere\.invalid:8765 \(there is no host"):
        async with speak("ws://nowhere.invalid:8765"):
            pass


async def test_nobody_listening_is_unreachable_at_once(free_port: int) -> None:
    with pytest.raises(UnreachableError, match="captiond serve"):
        async with speak(f"http://127.0.0.1:{free_port}"):
            pass


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (404, "not_found")])
async def test_a_refusal_has_its_own_code(status: int, code: str) -> None:
    async with fake_daemon(refuse=[status]) as daemon:
        with pytest.raises(RefusedError, match="said so") as caught:
            async with speak(daemon.url):
                pass
    assert caught.value.code == code


async def test_an_error_instead_of_hello_keeps_its_code() -> None:
    greeting = '{"v":1,"type":"error","code":"stream_taken","message":"Two of them.","fatal":true}'
    async with fake_daemon(greeting=[greeting]) as daemon:
        with pytest.raises(RefusedError, match="Two of them") as caught:
            async with speak(daemon.url):
                pass
    assert caught.value.code == "stream_taken"


async def test_something_else_that_speaks_websocket_is_no_daemon() -> None:
    async with fake_daemon(greeting=["welcome to the chat"]) as daemon:
        with pytest.raises(ProtocolError):
            async with speak(daemon.url):
                pass


async def test_the_callers_own_error_comes_out_as_it_is() -> None:
    async with fake_daemon() as daemon:
        with pytest.raises(ZeroDivisionError):
            async with speak(daemon.url):
                raise ZeroDivisionError


async def test_audio_after_the_end_is_a_mistake() -> None:
    async with fake_daemon() as daemon, speak(daemon.url) as speaker:
        await speaker.end()
        with pytest.raises(ValueError, match="after end"):
            await speaker.send(b"\0\0")


async def test_unread_partial_states_give_way_to_newer_ones() -> None:
    async with fake_daemon() as daemon, speak(daemon.url, stream="hall") as speaker:
        spoken = daemon.streams["hall"]
        state = {"segment": 9, "committed": "", "tentative": "t", "start_ms": 0, "heard_until_ms": 1}
        for revision in range(40):
            daemon.tell(spoken, "transcript.partial", revision=revision, **state)
        daemon.cut_speakers()  # on its return it is told all that it missed
        await speaker.end()
        heard = [event async for event in speaker]
    assert [event.revision for event in heard if isinstance(event, Partial)] == [39]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 (what is waited for is the other side's)
        await asyncio.sleep(0.005)
