"""``captiond listen --mqtt``, as a program of its own; and what a reader makes of what others put there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from captiond_clients import mqtt
from captiond_clients.errors import RefusedError
from captiond_clients.events import Event, Final, Partial, StreamClosed, Suppressed
from captiond_clients.mqtt import listen_mqtt

from tests.daemon.house import audio_of, configured, house
from tests.mqtt.broker import Mosquitto, reading
from tests.sim.scripted import say

SCRIPT = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))
SAID = ["turn on the lights", "what is the time"]


@asynccontextmanager
async def listening(broker: Mosquitto, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program, once it listens."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "captiond", "listen", "--mqtt", *options),
        env={**os.environ, "CAPTIOND_MQTT_URL": f"mqtt://127.0.0.1:{broker.port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert made.stderr is not None
    try:
        line = await made.stderr.readline()
        assert b"connected to the MQTT broker" in line, line + await made.stderr.read()
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt"])
async def test_the_program_prints_what_is_published(broker: Mosquitto, form: str) -> None:
    config = configured(mqtt={"host": "127.0.0.1", "port": broker.port, "node": "n"})
    async with listening(broker, "--format", form, "--stream", "hall") as program:
        with reading(broker) as raw:
            async with house(SCRIPT, config=config) as home:
                for name in ("lobby", "hall"):
                    async with home.speaker(f"stream={name}") as client:
                        await client.speak(audio_of(SCRIPT), pace=None)
                        await client.say(type="end")
                        await client.closed()
                await raw.until("hall/final", 2)
        assert program.stdout is not None
        printed = b""
        last = b'"text":"what is the time"' if form == "json" else b"what is the time"
        async with asyncio.timeout(60):
            while last not in printed:
                printed += await program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        assert await program.wait() == 130
    lines = printed.decode().splitlines()
    if form == "json":
        events = [json.loads(line) for line in lines]
        assert [event["text"] for event in events if event["type"] == "transcript.final"] == SAID
        assert {event["stream"] for event in events} == {"hall"}
    elif form == "text":
        assert lines == [f"n/hall: {text}" for text in SAID]
    else:
        assert [line for line in lines if line in SAID] == SAID
        assert any("-->" in line for line in lines)


class Told:
    """Everything that ``listen_mqtt`` gives while a test publishes by hand."""

    def __init__(self, broker: Mosquitto, **choices: str) -> None:
        self.events: list[Event] = []
        self.connected = asyncio.Event()
        self._broker = broker
        self._choices = choices
        self._news = asyncio.Condition()

    async def read(self) -> None:
        url = f"mqtt://127.0.0.1:{self._broker.port}"
        source = listen_mqtt(url, on_connected=lambda _: self.connected.set(), **self._choices)  # type: ignore[arg-type]
        async with aclosing(source) as events:
            async for event in events:
                async with self._news:
                    self.events.append(event)
                    self._news.notify_all()

    async def until(self, text: str) -> list[Event]:
        """All until the final ``text``."""

        def there() -> bool:
            return any(isinstance(event, Final) and event.text == text for event in self.events)

        async with self._news, asyncio.timeout(60):
            await self._news.wait_for(there)
        return self.events


@asynccontextmanager
async def told_by(broker: Mosquitto, **choices: str) -> AsyncIterator[Told]:
    told = Told(broker, **choices)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(told.read(), name="reading")
        await told.connected.wait()
        yield told
        task.cancel()


def final(seq: int, text: str, segment: int = 1, epoch: str = "e") -> bytes:
    event = {"type": "transcript.final", "v": 1, "stream": "hall", "seq": seq, "segment": segment}
    return json.dumps({**event, "text": text, "start_ms": 0, "end_ms": 1, "epoch": epoch}).encode()


def partial(seq: int, segment: int) -> bytes:
    event = {"type": "transcript.partial", "v": 1, "stream": "hall", "seq": seq, "segment": segment}
    rest = {
        "revision": 1,
        "committed": "",
        "tentative": "x",
        "start_ms": 0,
        "heard_until_ms": 1,
        "epoch": "e",
    }
    return json.dumps({**event, **rest}).encode()


async def test_what_comes_twice_is_told_once_and_numbers_start_over_with_an_epoch(broker: Mosquitto) -> None:
    with reading(broker) as other:
        other.client.publish("captiond/n/hall/final", final(1, "retained"), 1, retain=True).wait_for_publish(
            9
        )
        async with told_by(broker) as told:
            for payload in (
                final(5, "one"),
                final(5, "one"),
                b"garbage",
                b"\xff",
                b"[]",
                final(9, "two"),
                final(5, "one"),
                partial(8, 1),
                final(2, "three", epoch="f"),
                final(2, "three", epoch="f"),
                final(9, "two"),
                final(1, "last", epoch="g"),
            ):
                other.client.publish("captiond/n/hall/final", payload, 1)
            events = await told.until("last")
    assert [event.text for event in events if isinstance(event, Final)] == ["one", "two", "three", "last"]
    assert {event.stream for event in events} == {"n/hall"}


async def slowly(events: AsyncIterator[Event]) -> None:
    async for _ in events:
        await asyncio.sleep(0.05)


async def test_who_reads_too_slowly_is_told_so(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "LIMIT_MESSAGES", 10)
    connected = asyncio.Event()
    url = f"mqtt://127.0.0.1:{broker.port}"
    async with aclosing(listen_mqtt(url, on_connected=lambda _: connected.set())) as events:
        reading_one = asyncio.ensure_future(anext(events))
        await connected.wait()
        with reading(broker) as other:
            for number in range(40):
                other.client.publish("captiond/n/hall/final", final(number + 1, "x"), 1)
            await reading_one
            await other.until("hall/final", 40)
            with pytest.raises(RefusedError, match="left out"):
                await slowly(events)


async def test_two_nodes_may_have_streams_of_one_name(broker: Mosquitto) -> None:
    async with told_by(broker) as told:
        with reading(broker) as other:
            for node in ("n", "m"):
                other.client.publish(f"captiond/{node}/hall/final", final(3, node), 1)
            events = await told.until("m")
    assert [(event.stream, event.text) for event in events if isinstance(event, Final)] == [
        ("n/hall", "n"),
        ("m/hall", "m"),
    ]


async def test_what_was_open_is_closed_when_nothing_more_can_come(broker: Mosquitto) -> None:
    async with told_by(broker, node="n", base="home/captions") as told:
        with reading(broker) as other:
            root = "home/captions/n"
            for topic, payload in (
                ("hall/partial", partial(1, 1)),
                ("hall/partial", partial(2, 3)),
                ("hall/final", final(3, "three", segment=3)),
                ("hall/partial", partial(2, 3)),
                ("hall/partial", partial(4, 4)),
                ("status", b"offline"),
                ("hall/final", final(5, "end", segment=5)),
            ):
                other.client.publish(f"{root}/{topic}", payload, 1)
            events = await told.until("end")
    assert [(type(event), getattr(event, "segment", None)) for event in events] == [
        (Partial, 1),
        (Suppressed, 1),
        (Partial, 3),
        (Final, 3),
        (Partial, 4),
        (StreamClosed, None),
        (Final, 5),
    ]
    assert [event.wire for event in events if isinstance(event, Suppressed | StreamClosed)] == ["", ""]
