"""``captiond doctor`` and what it reaches: the port, a daemon, its page, the broker, microphones."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from captiond.capture.portaudio import PortAudio
from captiond.config import Config
from captiond.doctor import network, sound

from tests.daemon.fake_sounddevice import FakeDevice, FakeSounddevice
from tests.daemon.findings import config_of, only, told
from tests.daemon.house import house
from tests.mqtt.broker import Mosquitto, free_port, needs_mosquitto


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Whom a broker knows: me, by the word sesame."""
    path = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-c", "-b", path, "me", "sesame"], check=True)
    return path


async def test_the_port_is_free_or_somebody_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(server={"port": free_port()})
    told(only(network.port(config)), "ok", "free")
    told(only(network.port(config_of(server={"port": 0}))), "ok")
    with socket.create_server(("127.0.0.1", config.server.port)):
        monkeypatch.setattr(network, "ANSWER_S", 0.2)
        told(only(await asyncio.to_thread(network.port, config)), "fail", "server.port", "in use")
    told(only(network.port(config_of(server={"host": "192.0.2.1", "port": 9}))), "fail", "server.host")


async def test_a_daemon_that_answers_says_how_it_is() -> None:
    async with house() as home:
        port = int(home.netloc.rpartition(":")[2])
        config = config_of(server={"port": port})
        told(only(await asyncio.to_thread(network.port, config)), "ok", "is ready", "16 more would fit")
        told(only(await asyncio.to_thread(network.page, config)), "ok", "shows it")
        home.app.readiness.degrade("files", "The disk is full.")
        told(only(await asyncio.to_thread(network.port, config)), "warn", "The disk is full.")
        home.app.readiness.block("device", "The device is away.")
        told(only(await asyncio.to_thread(network.port, config)), "warn", "not ready", "The device is away.")
        hidden = config_of(server={"host": "localhost", "port": port, "cert": "x", "key": "y"})
        told(only(await asyncio.to_thread(network.port, hidden)), "fail", "in use")


async def test_pages_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "pages_folder", lambda: None)
    told(only(network.page(Config())), "fail", "not installed")


@needs_mosquitto
async def test_a_broker_lets_us_in_or_does_not(tmp_path: Path, users: Path) -> None:
    (tmp_path / "secret").write_text("sesame")
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {users}")
    broker.start()
    try:
        mqtt = {"host": "127.0.0.1", "port": broker.port}
        told(only(await network.broker(config_of(mqtt=mqtt))), "fail", "does not let us in", "mqtt.host")
        mqtt |= {"username": "me", "password_file": str(tmp_path / "secret")}
        told(only(await network.broker(config_of(mqtt=mqtt))), "ok", "lets us in")
    finally:
        broker.stop()
    gone = only(await network.broker(config_of(mqtt=mqtt)))
    told(gone, "fail", "refused")
    assert gone.exit_code == 69
    (tmp_path / "secret").write_text("")
    told(only(await network.broker(config_of(mqtt=mqtt))), "fail", "mqtt.password_file")
    assert await network.broker(Config()) == []


async def test_a_broker_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mqtt = {"host": "127.0.0.1", "port": silent.getsockname()[1]}
        found = only(await network.broker(config_of(mqtt=mqtt)))
    told(found, "fail", "no answer")
    assert found.exit_code == 69


async def test_a_microphone_that_is_not_there_is_told_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = FakeSounddevice(FakeDevice(name="Desk", channels=2))
    monkeypatch.setattr(sound, "PortAudio", lambda: PortAudio(lambda: library))

    def microphone(**choice: Any) -> Config:
        return config_of(source=[{"kind": "microphone", "name": "desk", **choice}])

    told(only(await sound.microphones(Config())), "ok", "1 input")
    told(only(await sound.microphones(microphone(device="Desk", channel=2))), "ok", "Desk")
    told(only(await sound.microphones(microphone(device="Door"))), "fail", "source desk", "Door", "Desk")
    told(only(await sound.microphones(microphone(channel=3))), "fail", "no channel 3")

    def missing() -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(sound, "PortAudio", lambda: PortAudio(missing))
    told(only(await sound.microphones(microphone())), "fail", "libportaudio2")
    told(only(await sound.microphones(Config())), "warn", "libportaudio2")
