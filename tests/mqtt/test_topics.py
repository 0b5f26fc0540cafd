"""What lies where on the broker: topics, quality of service, retained or not, from first word to last."""

from __future__ import annotations

from typing import Any

from tests.daemon.house import audio_of, configured, house
from tests.mqtt.broker import Heard, Mosquitto, reading
from tests.sim.scripted import say

SCRIPT = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))
SAID = ["turn on the lights", "what is the time"]


def told(broker: Mosquitto, **changes: Any) -> Any:
    return configured(mqtt={"host": "127.0.0.1", "port": broker.port, "node": "n", **changes})


def texts(messages: list[Heard]) -> list[str]:
    return [message.json()["text"] for message in messages]


async def test_captions_of_a_stream_from_its_first_word_to_its_last(broker: Mosquitto) -> None:
    with reading(broker, "captiond/#") as reader:
        async with house(SCRIPT, config=told(broker)) as home, home.speaker("stream=hall") as client:
            await reader.until_last("n/status", b"online")
            await client.speak(audio_of(SCRIPT), pace=4)
            await client.say(type="end")
            await client.closed()
            await reader.until("hall/final", 2)
            await reader.until_last("hall/speech", b"OFF")
        await reader.until_last("n/status", b"offline")
        finals, partials, speech = (reader.on(f"n/hall/{what}") for what in ("final", "partial", "speech"))
        assert texts(finals) == SAID
        assert {(final.qos, final.retain) for final in finals} == {(1, False)}
        assert partials
        assert {(partial.qos, partial.retain) for partial in partials} == {(0, False)}
        assert [state.payload for state in speech] == [b"ON", b"OFF", b"ON", b"OFF"]
        on_the_wire = {event["seq"]: event for event in client.events}
        for message in finals:
            event = message.json()
            assert len(event.pop("epoch")) == 8
            assert event == on_the_wire[event["seq"]]
        assert {message.json()["type"] for message in partials} == {"transcript.partial"}
        assert {message.json()["type"] for message in finals} == {"transcript.final"}


async def test_only_status_and_what_the_configuration_bounds_is_retained(broker: Mosquitto) -> None:
    async with house(SCRIPT, config=told(broker)) as home:
        with reading(broker) as reader:
            async with home.speaker("stream=hall") as client:
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
            await reader.until("hall/final", 2)
            await reader.until_last("hall/speech", b"OFF")
        with reading(broker) as late:
            await late.until("n/status")
            await late.until("config")
            topics = {message.topic for message in late.heard if message.retain}
    assert topics == {
        "captiond/n/status",
        "captiond/n/speech",
        "captiond/n/lag",
        "homeassistant/device/captiond_2f_n/config",
    }
    with reading(broker) as late:
        assert (await late.until("n/status")).payload == b"offline"


async def test_a_configured_source_shows_a_state_at_once(broker: Mosquitto, tmp_path: Any) -> None:
    config = configured(
        mqtt={"host": "127.0.0.1", "port": broker.port, "node": "n"},
        source=[{"name": "desk", "path": str(tmp_path / "nothing.wav")}],
    )
    async with house(SCRIPT, config=config):
        with reading(broker) as early:
            await early.until("n/desk/speech")
        with reading(broker) as reader:
            desk = await reader.until("n/desk/speech")
            assert (desk.payload, desk.retain) == (b"OFF", True)
            found = await reader.until("config")
    assert {"caption-desk", "speech-desk"} <= set(found.json()["components"])


async def test_what_is_published_can_be_chosen(broker: Mosquitto) -> None:
    config = told(broker, base="home/captions", streams=["hall"], partials=False, words=True, discovery=False)
    with reading(broker) as reader:
        async with house(SCRIPT, config=config) as home:
            for name in ("lobby", "hall"):
                async with home.speaker(f"stream={name}") as client:
                    await client.speak(audio_of(SCRIPT), pace=None)
                    await client.say(type="end")
                    await client.closed()
        await reader.until_last("home/captions/n/status", b"offline")
        topics = {message.topic.removeprefix("home/captions/n/") for message in reader.heard}
        assert topics == {"status", "speech", "lag", "hall/final", "hall/speech"}
        assert texts(reader.on("hall/final")) == SAID
        words = reader.on("hall/final")[0].json()["words"]
        assert [word["text"] for word in words] == SAID[0].split()


async def test_garbage_on_our_topics_harms_nobody(broker: Mosquitto) -> None:
    with reading(broker) as reader:
        rubbish = ("captiond/n/status", "captiond/n/hall/final", "homeassistant/status", "captiond/n/command")
        for topic in rubbish:
            reader.client.publish(topic, b"\xff{not json", qos=1, retain=True).wait_for_publish(10)
        async with house(SCRIPT, config=told(broker)) as home, home.speaker("stream=hall") as client:
            await reader.until_last("n/status", b"online")
            known = len(reader.on("n/status"))
            reader.client.publish("homeassistant/status", b"\x00" * 70_000, qos=1)
            reader.client.publish("captiond/n/status", b"offline", qos=1, retain=True)
            await reader.until("n/status", known + 2)
            assert [one.payload for one in reader.on("n/status")[known:]] == [b"offline", b"online"]
            await client.speak(audio_of(SCRIPT), pace=None)
            await client.say(type="end")
            await client.closed()
            await reader.until("hall/final", 3)
        assert texts(reader.on("hall/final")[1:]) == SAID


async def test_captions_go_on_while_the_broker_is_down_from_the_start(broker: Mosquitto) -> None:
    broker.kill()
    async with house(SCRIPT, config=told(broker)) as home, home.speaker("stream=hall") as client:
        assert (await home.get("/readyz")).status == 200
        await client.speak(audio_of(SCRIPT), pace=None)
        await client.say(type="end")
        await client.closed()
        assert client.texts() == SAID
        broker.start()
        with reading(broker) as reader:
            await reader.until_last("n/status", b"online")
            await reader.until("hall/final", 2)
            assert texts(reader.on("hall/final")) == SAID
            assert reader.on("hall/partial") == []
            assert (await home.get("/readyz")).status == 200
