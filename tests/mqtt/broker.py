"""A real Mosquitto on a free port, and a plain paho client that keeps everything it hears.

Takes: a folder and lines of configuration. Gives: a broker that can be killed and come back on its port.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

PATIENCE_S = 60.0
# Debian keeps it where ordinary users do not look.
PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(PROGRAM is None, reason="needs a broker: apt-get install mosquitto")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Mosquitto:
    """``lines`` go into its configuration as they are."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._path = folder / f"mosquitto-{self.port}.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(*lines)

    def configure(self, *lines: str) -> None:
        """For the next start."""
        # Without a user it would change into one that cannot read the test's folder.
        common = [f"listener {self.port} 127.0.0.1", "user root", "log_type all", "log_dest stdout"]
        chosen = lines or ("allow_anonymous true",)
        self._path.write_text("\n".join([*common, *chosen]) + "\n")

    def start(self) -> None:
        """Until it answers."""
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "-c", self._path], stdout=self.log.open("ab"), stderr=subprocess.STDOUT
        )
        while self._process.poll() is None:
            with socket.socket() as knocking:
                if knocking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(0.02)
        raise AssertionError(f"mosquitto ended: {self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: nothing is written, nobody is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    @property
    def log(self) -> Path:
        return self._path.with_suffix(".log")


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool

    def json(self) -> Any:
        return json.loads(self.payload)


class Reader:
    """Subscribes and keeps what comes, in order, over all reconnects. ``options`` are paho's."""

    def __init__(self, port: int, *topics: str, username: str = "", password: str = "") -> None:
        self.heard: list[Heard] = []
        self._news = threading.Condition()
        self._subscribed = 0
        self._topics = [(topic, 1) for topic in topics or ("#",)]
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        if username:
            self.client.username_pw_set(username, password)
        self.client.on_connect = lambda client, *_: client.subscribe(self._topics)
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._wait(lambda: self._subscribed > 0, "a subscription")

    def _on_subscribe(self, *_: object) -> None:
        with self._news:
            self._subscribed += 1
            self._news.notify_all()

    def _on_message(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        told = Heard(message.topic, message.payload, message.qos, message.retain, message.dup)
        with self._news:
            self.heard.append(told)
            self._news.notify_all()

    def _wait(self, there: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(there, PATIENCE_S), f"no {what} among {self.heard}"

    def on(self, topic: str) -> list[Heard]:
        """What came on ``topic``; of several levels the last ones are enough."""
        with self._news:
            return [told for told in self.heard if f"/{told.topic}".endswith(f"/{topic}")]

    def payloads(self, topic: str) -> list[bytes]:
        return [told.payload for told in self.on(topic)]

    async def until(self, topic: str, count: int = 1) -> Heard:
        """The ``count``-th message on ``topic``."""
        await asyncio.to_thread(self._wait, lambda: len(self.on(topic)) >= count, topic)
        return self.on(topic)[count - 1]

    async def until_last(self, topic: str, payload: bytes) -> None:
        """Until ``payload`` is the newest on ``topic``."""
        there = lambda: self.payloads(topic)[-1:] == [payload]  # noqa: E731
        await asyncio.to_thread(self._wait, there, f"{payload!r} on {topic}")

    async def again(self) -> None:
        """Until it has subscribed once more."""
        count = self._subscribed
        await asyncio.to_thread(self._wait, lambda: self._subscribed > count, "subscription")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def reading(broker: Mosquitto, *topics: str, **options: str) -> Iterator[Reader]:
    reader = Reader(broker.port, *topics, **options)
    try:
        yield reader
    finally:
        reader.close()
