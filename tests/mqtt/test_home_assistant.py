"""Home Assistant is told of the node when we come, and again when it comes."""

from __future__ import annotations

from typing import Any

from tests.daemon.house import audio_of, configured, house
from tests.mqtt.broker import Mosquitto, reading
from tests.sim.scripted import say

SCRIPT = say("turn on the lights")


def config_of(broker: Mosquitto, **changes: Any) -> Any:
    return configured(mqtt={"host": "127.0.0.1", "port": broker.port, "node": "n", **changes})


async def test_the_node_is_announced_again_when_home_assistant_starts(broker: Mosquitto) -> None:
    with reading(broker) as reader:
        reader.client.publish("homeassistant/status", b"online", qos=1, retain=True)
        async with house(SCRIPT, config=config_of(broker)) as home:
            first = await reader.until("captiond_2f_n/config")
            await reader.until_last("n/speech", b"OFF")
            states = len(reader.on("n/speech"))
            reader.client.publish("homeassistant/status", b"offline", qos=1, retain=True)
            reader.client.publish("homeassistant/status", b"online", qos=1, retain=True)
            second = await reader.until("captiond_2f_n/config", 2)
            await reader.until("n/speech", states + 1)
            assert first.payload == second.payload
            async with home.speaker("stream=hall") as client:
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
            await reader.until("hall/final")
        assert len(reader.on("captiond_2f_n/config")) == 2, "once when we came, once when it came"
    with reading(broker) as late:
        assert (await late.until("captiond_2f_n/config")).retain


async def test_its_topics_are_where_the_entities_look(broker: Mosquitto) -> None:
    with reading(broker) as reader:
        async with house(SCRIPT, config=config_of(broker, discovery_prefix="ha")) as home:
            told = (await reader.until("ha/device/captiond_2f_n/config")).json()
            async with home.speaker("stream=hall") as client:
                await client.speak(audio_of(SCRIPT), pace=None)
                await client.say(type="end")
                await client.closed()
            await reader.until("hall/final")
            await reader.until_last("n/speech", b"OFF")
        topics = {message.topic for message in reader.heard}
        wanted = {component["state_topic"] for component in told["components"].values()}
        assert {topic.replace("+", "hall") for topic in wanted} | {told["availability_topic"]} <= topics
        assert set(reader.payloads("n/speech")) == {
            told["components"]["speech"]["payload_on"].encode(),
            told["components"]["speech"]["payload_off"].encode(),
        }
        assert reader.on("n/lag")[0].json() == {"type": "lag", "v": 1, "behind_ms": 0, "level": "ok"}
