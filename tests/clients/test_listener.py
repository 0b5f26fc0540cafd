"""The library's listening half: history first, then live; a lost socket repeats and loses no final."""

from __future__ import annotations

import asyncio

import pytest
from captiond_clients.client import Listener, listen
from captiond_clients.errors import UnreachableError
from captiond_clients.events import Event, Final, Hello

from tests.clients.fake_daemon import FakeDaemon, Spoken, fake_daemon


def say(daemon: FakeDaemon, name: str, text: str) -> None:
    spoken = daemon.streams.setdefault(name, Spoken(name))
    segment = spoken.segments
    spoken.segments += 1
    daemon.tell(spoken, "speech.started", segment=segment, at_ms=0)
    daemon.tell(spoken, "transcript.final", segment=segment, text=text, start_ms=0, end_ms=1, language="en")


async def finals(listener: Listener, count: int) -> list[str]:
    heard: list[str] = []
    while len(heard) < count:
        event: Event = await anext(listener)
        if isinstance(event, Final):
            heard.append(f"{event.stream}: {event.text}")
    return heard


async def settle(daemon: FakeDaemon, connections: int) -> None:
    while len(daemon.queries) < connections or not daemon.listeners:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_history_comes_first_then_what_is_said_now() -> None:
    async with fake_daemon() as daemon:
        for text in ("one", "two", "three"):
            say(daemon, "hall", text)
        async with listen(daemon.url, history=2) as listener:
            assert isinstance(await anext(listener), Hello)
            assert await finals(listener, 2) == ["hall: two", "hall: three"]
            await settle(daemon, 1)
            say(daemon, "hall", "four")
            assert await finals(listener, 1) == ["hall: four"]


@pytest.mark.parametrize("stream", ["*", "hall"])
async def test_a_lost_socket_repeats_and_loses_no_final(stream: str) -> None:
    async with fake_daemon() as daemon:
        say(daemon, "hall", "one")
        async with listen(daemon.url, stream=stream) as listener:
            assert await finals(listener, 1) == ["hall: one"]
            await settle(daemon, 1)
            say(daemon, "hall", "two")
            assert await finals(listener, 1) == ["hall: two"]
            daemon.cut_listeners()
            say(daemon, "hall", "three")
            daemon.refuse = [503, 503]
            assert await finals(listener, 1) == ["hall: three"]
            await settle(daemon, 2)
            say(daemon, "hall", "four")
            assert await finals(listener, 1) == ["hall: four"]


async def test_a_stream_opened_during_the_loss_is_heard_from_its_first_final() -> None:
    async with fake_daemon() as daemon:
        for text in ("one", "two", "three"):
            say(daemon, "hall", text)
        async with listen(daemon.url) as listener:
            await finals(listener, 3)
            await settle(daemon, 1)
            daemon.cut_listeners()
            say(daemon, "porch", "hello")
            assert await finals(listener, 1) == ["porch: hello"]


async def test_after_a_restart_the_new_numbering_is_believed() -> None:
    async with fake_daemon() as daemon:
        for text in ("one", "two", "three"):
            say(daemon, "hall", text)
        async with listen(daemon.url) as listener:
            await finals(listener, 3)
            await settle(daemon, 1)
            daemon.restart()
            say(daemon, "hall", "new one")
            daemon.cut_listeners()
            assert await finals(listener, 1) == ["hall: new one"]


async def test_a_stream_that_begins_again_under_its_name_is_heard() -> None:
    async with fake_daemon() as daemon:
        say(daemon, "hall", "one")
        async with listen(daemon.url) as listener, asyncio.TaskGroup() as tasks:
            await finals(listener, 1)
            await settle(daemon, 1)
            daemon.cut_listeners()
            reading = tasks.create_task(finals(listener, 1), name="reading")
            await settle(daemon, 2)
            daemon.streams["hall"] = Spoken("hall")
            daemon.tell(daemon.streams["hall"], "stream.opened", source="websocket")
            say(daemon, "hall", "again")
            assert await reading == ["hall: again"]


async def test_patience_ends() -> None:
    async with fake_daemon() as daemon, listen(daemon.url, patience_s=0.2) as listener:
        await anext(listener)
        await settle(daemon, 1)
        daemon.refuse = [503] * 50
        daemon.cut_listeners()
        with pytest.raises(UnreachableError):
            await anext(listener)
