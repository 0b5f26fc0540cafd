"""What ``[mqtt]`` may say: names that are safe in topics, files that are there, and what belongs together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from captiond import wire
from captiond.app import App
from captiond.config_file import load
from captiond.mqtt import topics
from captiond.mqtt.home_assistant import config_payload, config_topic, device_id
from captiond.mqtt.topics import Topics
from captiond_engine.errors import EXIT_CONFIG, ConfigError

from tests.daemon.house import configured, scripted_engine


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["mqtt.base=a/+/b"], "mqtt.base"),
        (["mqtt.base=#"], "mqtt.base"),
        (["mqtt.base=/captiond"], "mqtt.base"),
        (["mqtt.base=captiond/"], "mqtt.base"),
        (["mqtt.base=$SYS/captiond"], "mqtt.base"),
        (["mqtt.base="], "mqtt.base"),
        (["mqtt.base=" + "b" * 300], "mqtt.base"),
        (["mqtt.discovery_prefix=home//assistant"], "mqtt.discovery_prefix"),
        (["mqtt.node=a/b"], "mqtt.node"),
        (["mqtt.node=+"], "mqtt.node"),
        (["mqtt.node=living room"], "mqtt.node"),
        (["mqtt.password_file=p"], "mqtt.username"),
        (["mqtt.tls=true", "mqtt.cert=c"], "mqtt.key"),
        (["mqtt.ca=ca.pem"], "mqtt.tls"),
        (["mqtt.keepalive_ms=10"], "mqtt.keepalive_ms"),
        (['mqtt.version="4"'], "mqtt.version"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_key(settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(None, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "captiond", "password_file": "nothing"},
        {"username": "captiond", "password_file": "empty"},
        {"tls": True, "ca": "nothing"},
        {"tls": True, "ca": "empty"},
        {"tls": True, "cert": "empty", "key": "empty"},
        {"host": "a..b"},
    ],
)
async def test_a_file_that_cannot_be_used_ends_the_daemon_at_its_start(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n")
    files = {"password_file", "ca", "cert", "key"}
    chosen = {key: str(tmp_path / value) if key in files else value for key, value in settings.items()}
    with pytest.raises(ConfigError, match="mqtt") as refused:
        App(configured(mqtt={"host": "127.0.0.1", **chosen}), lambda progress: scripted_engine(()))
    assert refused.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize(
    ("host", "node"),
    [("desk", "desk"), ("desk.example.org", "desk.example.org"), ("my desk/+#", "my-desk"), ("", "captiond")],
)
def test_the_name_of_the_machine_is_one_level_of_a_topic(
    host: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics.socket, "gethostname", lambda: host)
    assert topics.host_name() == node


def test_different_nodes_are_different_devices() -> None:
    pairs = [("captiond", "a.b"), ("captiond", "a_b"), ("captiond", "a-b"), ("captiond/a", "b")]
    names = [device_id(Topics(base, node)) for base, node in pairs]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in names)


def test_a_discovery_topic_is_one_that_home_assistant_reads() -> None:
    topic = config_topic("homeassistant", Topics("captiond", "desk.example.org"))
    assert topic == "homeassistant/device/captiond_2f_desk_2e_example_2e_org/config"


# What Home Assistant's schemas take (schemas.py, sensor.py and binary_sensor.py of its MQTT integration,
# 2024.11 and later); a device or origin with any other key is refused as a whole.
DEVICE_KEYS = {"identifiers", "manufacturer", "model", "name", "sw_version"}
ORIGIN_KEYS = {"name", "sw_version", "support_url"}
SHARED_KEYS = {
    *("device", "origin", "components", "qos", "encoding"),
    *("availability_topic", "payload_available", "payload_not_available"),
}
ENTITY_KEYS = {
    *("platform", "unique_id", "name", "icon", "state_topic", "value_template", "json_attributes_topic"),
    *("force_update", "device_class", "payload_on", "payload_off", "unit_of_measurement", "state_class"),
    *("entity_category",),
}


def test_discovery_is_what_home_assistant_takes() -> None:
    told = json.loads(config_payload(Topics("captiond", "desk"), ["mic.1", "mic_1"]))
    assert set(told) <= SHARED_KEYS
    assert set(told["device"]) <= DEVICE_KEYS
    assert set(told["origin"]) <= ORIGIN_KEYS
    assert told["device"]["identifiers"]
    assert told["origin"]["name"] == "captiond"
    assert told["availability_topic"] == "captiond/desk/status"
    components = told["components"].values()
    assert len(components) == 7
    assert all(set(component) <= ENTITY_KEYS for component in components)
    assert {component["platform"] for component in components} == {"sensor", "binary_sensor"}
    assert len({component["unique_id"] for component in components}) == 7
    assert told["components"]["caption"]["state_topic"] == "captiond/desk/+/final"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Hello.", "Hello."),
        ("w" * 255, "w" * 255),
        ("w" * 256, "w" * 254 + "…"),
        ("word " * 60, " ".join(["word"] * 50) + "…"),
    ],
)
def test_a_long_caption_fits_into_a_state(text: str, shown: str) -> None:
    event = wire.Final(segment=1, text=text, start_ms=0, end_ms=1, language="en", stream="a", seq=1)
    template = json.loads(config_payload(Topics("captiond", "n"), []))["components"]["caption"][
        "value_template"
    ]
    rendered = jinja2.Template(template).render(value_json=json.loads(wire.encode(event)))
    assert rendered == shown
    assert len(rendered) <= 255
