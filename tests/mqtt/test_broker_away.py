"""A broker that goes away: no final is lost within the outbox, none is told twice to a reader of ours."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from captiond.mqtt import link
from captiond_clients.events import Final
from captiond_clients.mqtt import listen_mqtt

from tests.daemon.house import audio_of, configured, house
from tests.mqtt.broker import Heard, Mosquitto, reading
from tests.mqtt.line import line_to
from tests.sim.scripted import ScriptWord, say

NUMBERS = "one two three four five six seven eight nine ten".split()
SCRIPT: tuple[ScriptWord, ...] = tuple(
    word for place, text in enumerate(NUMBERS) for word in say(text, at=(1 + 2 * place) * 16_000)
)


def config_of(port: int, **changes: Any) -> Any:
    return configured(mqtt={"host": "127.0.0.1", "port": port, "node": "n", **changes})


def texts(messages: list[Heard]) -> list[str]:
    return [message.json()["text"] for message in messages]


class ReadyReader:
    """The finals that ``listen_mqtt`` tells."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.trouble = 0
        self.connected = asyncio.Event()
        self._news = asyncio.Condition()

    async def read(self, port: int) -> None:
        url = f"mqtt://127.0.0.1:{port}"
        connected = lambda address: self.connected.set()  # noqa: E731
        async with aclosing(listen_mqtt(url, on_trouble=self._count, on_connected=connected)) as events:
            async for event in events:
                if isinstance(event, Final):
                    async with self._news:
                        self.texts.append(event.text)
                        self._news.notify_all()

    def _count(self, error: Exception) -> None:
        self.trouble += 1

    async def until(self, count: int) -> None:
        async with self._news, asyncio.timeout(60):
            await self._news.wait_for(lambda: len(self.texts) >= count)


@asynccontextmanager
async def ready_reader(port: int) -> AsyncIterator[ReadyReader]:
    reader = ReadyReader()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reader.read(port), name="ready reader")
        await reader.connected.wait()
        yield reader
        task.cancel()


@pytest.mark.parametrize("gone_for", ["a moment", "the rest of the speech"])
async def test_a_broker_killed_in_the_middle_costs_no_final(broker: Mosquitto, gone_for: str) -> None:
    with reading(broker) as raw:
        async with (
            ready_reader(broker.port) as ready,
            house(SCRIPT, config=config_of(broker.port)) as home,
            home.speaker("stream=hall") as client,
        ):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.speak(audio_of(SCRIPT), pace=8), name="speaking")
                await ready.until(3)
                broker.kill()
                if gone_for == "a moment":
                    broker.start()
            await client.say(type="end")
            await client.closed()
            if gone_for != "a moment":
                broker.start()
            await ready.until(len(NUMBERS))
            await raw.until("hall/final", len(NUMBERS))
            assert ready.trouble > 0
        await raw.until_last("n/status", b"offline")
        assert ready.texts == NUMBERS == client.texts()
        counts = Counter(texts(raw.on("hall/final")))
        assert set(counts) == set(NUMBERS)
        assert sum(counts.values()) <= len(NUMBERS) + 1, "at most the final that was under way comes twice"


async def test_a_final_whose_confirmation_is_lost_comes_twice_and_is_told_once(broker: Mosquitto) -> None:
    script = (*say("first"), *say("second", at=4 * 16_000))
    async with (
        line_to(broker.port) as line,
        ready_reader(broker.port) as ready,
        house(script, config=config_of(line.port)) as home,
    ):
        with reading(broker) as raw:
            await raw.until_last("n/status", b"online")
            line.deaf = True
            async with home.speaker("stream=hall") as client:
                await client.speak(audio_of(script), pace=None)
                await client.say(type="end")
                await client.closed()
            await raw.until("hall/final")
            line.deaf = False
            line.cut()
            await raw.until("hall/final", 3)
            await ready.until(2)
        assert texts(raw.on("hall/final")) == ["first", "first", "second"]
        numbers = [(final.json()["epoch"], final.json()["seq"]) for final in raw.on("hall/final")]
        assert numbers[0] == numbers[1] != numbers[2]
        assert ready.texts == ["first", "second"]


async def test_the_oldest_finals_give_way_and_are_counted(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker.kill()
    with caplog.at_level(logging.INFO, "captiond"):
        async with house(SCRIPT, config=config_of(broker.port, outbox_finals=3)) as home:
            async with home.speaker("stream=hall") as client:
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
            metrics = (await home.get("/metrics")).body.decode()
            assert "captiond_mqtt_finals_lost_total 7.0" in metrics
            assert "captiond_mqtt_outbox_messages 3.0" in metrics
            assert "captiond_mqtt_connected 0.0" in metrics
            broker.start()
            with reading(broker) as raw:
                await raw.until("hall/final", 3)
                assert texts(raw.on("hall/final")) == NUMBERS[-3:]
            metrics = (await home.get("/metrics")).body.decode()
            assert "captiond_mqtt_connected 1.0" in metrics
    for words in ("cannot be used", "give way", "connected to the MQTT broker"):
        assert sum(words in record.getMessage() for record in caplog.records) == 1, words


async def test_what_the_broker_never_got_is_told_at_the_end(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker.kill()
    async with house(SCRIPT, config=config_of(broker.port)) as home, home.speaker("stream=hall") as client:
        await client.speak(audio_of(SCRIPT), pace=None)
        await client.say(type="end")
        await client.closed()
    assert "10 finals were not delivered to the MQTT broker" in caplog.text


async def test_a_broker_that_takes_connections_and_says_nothing_holds_nobody_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    config = configured(
        mqtt={"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}, limits={"drain_ms": 300}
    )
    async with server, house(SCRIPT, config=config) as home:
        assert (await home.get("/readyz")).status == 200
        async with home.speaker("stream=hall") as client:
            await client.speak(audio_of(SCRIPT), pace=None)
            await client.say(type="end")
            await client.closed()
            assert client.texts() == NUMBERS


async def test_nobody_waits_for_a_broker_for_which_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would wait for its answer for an hour, and is stopped long before."""
    monkeypatch.setattr(link, "ANSWER_S", 3_600.0)
    taken = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    config = configured(
        mqtt={"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]},
        limits={"drain_ms": 3_600_000},
    )
    async with server, house(SCRIPT, config=config):
        await taken.wait()


async def test_a_broker_that_falls_silent_does_not_hold_up_the_stop(broker: Mosquitto) -> None:
    async with line_to(broker.port) as line:
        mqtt = {"host": "127.0.0.1", "port": line.port, "node": "n"}
        config = configured(mqtt=mqtt, limits={"drain_ms": 300})
        with reading(broker) as raw:
            async with house(SCRIPT, config=config) as home, home.speaker("stream=hall") as client:
                await raw.until_last("n/status", b"online")
                line.deaf = True
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
            line.cut()
            await raw.until_last("n/status", b"offline")


async def test_an_older_broker_is_spoken_to_in_its_language(broker: Mosquitto) -> None:
    async with line_to(broker.port, old=True) as line:
        with reading(broker) as raw:
            async with (
                ready_reader(line.port) as ready,
                house(SCRIPT, config=config_of(line.port)) as home,
                home.speaker("stream=hall") as client,
            ):
                await raw.until_last("n/status", b"online")
                assert line.connections == 4, "the daemon and the reader have each come twice"
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
                await ready.until(len(NUMBERS))
            await raw.until_last("n/status", b"offline")
        assert texts(raw.on("hall/final")) == NUMBERS == ready.texts
