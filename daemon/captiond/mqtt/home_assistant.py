"""What Home Assistant is told of a node: one device with its sensors, from which it makes entities.

Takes: topics and the configured streams. Gives: the topic and the JSON of MQTT device discovery, which Home
Assistant knows since 2024.11 (home-assistant.io/integrations/mqtt, "device discovery payload"; schemas.py of
its MQTT integration). Knows no broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from captiond import __version__
from captiond.mqtt.topics import Topics

LONGEST_STATE = 255  # characters, of any entity in Home Assistant
BIRTH = b"online"  # what Home Assistant says on <prefix>/status when it has started

# A state holds the beginning of a long caption, cut between words; its attributes hold all of it.
_CAPTION = "{{ value_json.text | truncate(" + str(LONGEST_STATE) + ", false, '…', 0) }}"


def device_id(topics: Topics) -> str:
    """Letters, digits, dashes and underscores only: what a discovery topic may have there."""
    return _identifier(f"{topics.base}/{topics.node}")


def config_topic(prefix: str, topics: Topics) -> str:
    return f"{prefix}/device/{device_id(topics)}/config"


def config_payload(topics: Topics, streams: Iterable[str]) -> bytes:
    """The node's last caption, speech and lag, and caption and speech of each of ``streams``."""
    identifier = device_id(topics)
    components = {
        "caption": _caption("Last caption", topics.of("+", "final")),
        "speech": _speech("Speech", topics.speech),
        "lag": _lag(topics.lag),
    }
    for stream in streams:
        key = _identifier(stream)
        components[f"caption-{key}"] = _caption(f"{stream} caption", topics.of(stream, "final"))
        components[f"speech-{key}"] = _speech(f"{stream} speech", topics.of(stream, "speech"))
    device = {
        "identifiers": [identifier],
        "name": topics.node if topics.base == "captiond" else f"{topics.node} {topics.base}",
        "manufacturer": "captiond",
        "model": "captiond",
        "sw_version": __version__,
    }
    return msgspec.json.encode(
        {
            "device": device,
            "origin": {"name": "captiond", "sw_version": __version__},
            "components": {
                key: component | {"unique_id": f"{identifier}.{key}"} for key, component in components.items()
            },
            "availability_topic": topics.status,
            "payload_available": "online",
            "payload_not_available": "offline",
            "qos": 1,
        }
    )


def _caption(name: str, topic: str) -> dict[str, object]:
    return {
        "platform": "sensor",
        "name": name,
        "icon": "mdi:closed-caption-outline",
        "state_topic": topic,
        "value_template": _CAPTION,
        "json_attributes_topic": topic,
        "force_update": True,  # the same words said twice are two captions
    }


def _speech(name: str, topic: str) -> dict[str, object]:
    return {
        "platform": "binary_sensor",
        "name": name,
        "device_class": "sound",
        "state_topic": topic,
        "payload_on": "ON",
        "payload_off": "OFF",
    }


def _lag(topic: str) -> dict[str, object]:
    return {
        "platform": "sensor",
        "name": "Lag",
        "device_class": "duration",
        "unit_of_measurement": "ms",
        "state_class": "measurement",
        "entity_category": "diagnostic",
        "state_topic": topic,
        "value_template": "{{ value_json.behind_ms }}",
    }


def _identifier(name: str) -> str:
    """``name`` as an identifier, another for each name: what is not allowed is written as its code."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", name)
