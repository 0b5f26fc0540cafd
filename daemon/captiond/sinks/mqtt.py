"""``[mqtt]``: captions to a broker that may be away, and to Home Assistant through it.

Takes: the configuration and every event. Gives: one connection after another, each with its last will, until
the daemon stops; then what is left, and ``offline``. The daemon is ready without the broker: what waits for
it is bounded, and trouble is told once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from contextlib import suppress
from typing import Literal

import aiomqtt

from captiond.config import Config
from captiond.context import Context
from captiond.health import Health
from captiond.mqtt import home_assistant
from captiond.mqtt.box import MqttBox
from captiond.mqtt.broker import broker_of
from captiond.mqtt.delivery import OFFLINE, ONLINE, Delivery, Pace
from captiond.mqtt.link import Link, Trouble, trouble_of
from captiond.mqtt.outbox import Outbox
from captiond.mqtt.states import States
from captiond.mqtt.topics import topics_of

log = logging.getLogger(__name__)

PACE = Pace()
SHORT_LIVES = 5  # connections in a row that ended at once, before we think of a client of the same name


def wanted(config: Config) -> bool:
    """Whether there is a broker. Raises ConfigError where its files cannot be used."""
    if config.mqtt.host:
        broker_of(config.mqtt)
    return bool(config.mqtt.host)


async def run(context: Context, health: Health) -> None:
    """Until the daemon stops. Never raises for what a broker does."""
    sink = MqttSink(context, health, PACE)
    context.hub.attach(sink.box, "mqtt")
    try:
        await sink.run()
    finally:
        context.hub.detach(sink.box)
        sink.close()


class MqttSink:
    """One daemon's connections to its broker, one at a time."""

    def __init__(self, context: Context, health: Health, pace: Pace) -> None:
        mqtt, metrics = context.config.mqtt, context.metrics
        self._health = health
        self._pace = pace
        self._broker = broker_of(mqtt)
        self._topics = topics_of(mqtt)
        self._connected = metrics.mqtt_connected
        self._outbox = Outbox(mqtt.outbox_finals, self._tell_lost)
        self._lost = metrics.mqtt_lost
        metrics.mqtt_outbox.set_function(self._outbox.__len__)
        states = States()
        states.show(self._topics.status, ONLINE, retain=True)
        announcement = ""
        if mqtt.discovery:
            announcement = home_assistant.config_topic(mqtt.discovery_prefix, self._topics)

        def follow() -> list[str]:
            """The configured streams, which a reload may have changed; Home Assistant is told of them."""
            names = [source.name for source in context.config.source]
            names = [name for name in names if not mqtt.streams or name in mqtt.streams]
            if announcement:
                payload = home_assistant.config_payload(self._topics, names)
                states.show(announcement, payload, retain=True)
            return names

        self.box = MqttBox(
            mqtt,
            self._topics,
            self._outbox,
            states,
            follow=follow,
            epoch_of=lambda stream: context.hub.feed(stream).epoch,
        )
        self._delivery = Delivery(
            topics=self._topics,
            outbox=self._outbox,
            states=states,
            pace=pace,
            finished=self.box.finished,
            birth_topic=f"{mqtt.discovery_prefix}/status" if mqtt.discovery else "",
            announcement=announcement,
        )
        self._client_id = mqtt.client_id or f"captiond-{self._topics.node}"
        self._suffix = ""
        self._auto_version = mqtt.version == "auto"
        self._version: Literal["5", "3.1.1"] = "5" if mqtt.version == "auto" else mqtt.version
        self._told = ""  # the trouble that was told last
        self._told_connected = False
        self._short_lives = 0
        self._losing = False
        self._began: float | None = None  # the connection that is there, or was

    async def run(self) -> None:
        """Until the daemon stops and everything is delivered, or cannot be."""
        self._health.ok()
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(self._connect(), name="mqtt connecting")
            await self.box.finished.wait()
            if self._began is None and not len(self._outbox):
                connecting.cancel()  # there is no broker, and nothing for it

    async def _connect(self) -> None:
        """One connection after another; the last is tried when the daemon stops."""
        tries = 0
        settle = False
        loop = asyncio.get_running_loop()
        while True:
            last = self.box.finished.is_set()
            trouble = await self._connection(settle=settle)
            if trouble is None:
                return
            lasted_s = None if self._began is None else loop.time() - self._began
            self._began = None
            settle = settle or not trouble.unsupported_version
            if lasted_s is not None and lasted_s >= self._pace.stable_s:
                tries, self._told, self._losing = 0, "", False
            self._tell(trouble)
            self._suspect_namesake(trouble, lasted_s)
            if last or (self.box.finished.is_set() and not len(self._outbox)):
                return
            if trouble.unsupported_version and self._auto_version and self._version == "5":
                self._version = "3.1.1"
                continue
            await self._pause(tries, trouble)
            tries += 1

    async def _connection(self, *, settle: bool) -> Trouble | None:
        """One connection, from its beginning to its end. None: everything is delivered."""
        trouble: Trouble | None = None
        will = aiomqtt.Will(self._topics.status, OFFLINE, qos=1, retain=True)
        try:
            async with Link(self._broker, self._client_id + self._suffix, self._version, will) as link:
                self._began = asyncio.get_running_loop().time()
                self._connected.set(1)
                self._tell_connected()
                await self._delivery.run(link, settle=settle)
        except* (aiomqtt.MqttError, OSError) as group:
            trouble = trouble_of(group)
        finally:
            self._connected.set(0)
        return trouble

    async def _pause(self, tries: int, trouble: Trouble) -> None:
        """Wait before the next try, with full jitter so that a fleet does not come back at once."""
        most_s = min(self._pace.longest_s, self._pace.shortest_s * 2 ** min(tries + 1, 16))
        least_s = self._pace.shortest_s
        if trouble.refused:
            least_s, most_s = self._pace.longest_s / 2, self._pace.longest_s
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(least_s, most_s)):
                await self.box.finished.wait()

    def _tell(self, trouble: Trouble) -> None:
        """Once for each kind of trouble, until a connection has lasted."""
        said = f"The MQTT broker {self._broker.address} cannot be used: {trouble.reason}."
        self._health.degraded(said)
        if trouble.reason != self._told:
            self._told, self._told_connected = trouble.reason, False
            log.warning("%s It is tried again from time to time.", said)

    def _tell_connected(self) -> None:
        self._health.ok()
        if not self._told_connected:
            self._told_connected = True
            log.info("connected to the MQTT broker %s (MQTT %s)", self._broker.address, self._version)

    def _suspect_namesake(self, trouble: Trouble, lasted_s: float | None) -> None:
        """Two clients of one name throw each other out for ever: we take another name."""
        # MQTT 5 could say so, but not every broker does; one that is away in between is in trouble itself.
        short = lasted_s is not None and lasted_s < self._pace.stable_s
        self._short_lives = self._short_lives + 1 if short else 0
        if trouble.taken_over or self._short_lives >= SHORT_LIVES:
            self._short_lives = 0
            self._suffix = f"-{secrets.token_hex(3)}"
            log.warning(
                "another client seems to use the MQTT name %s; we are %s%s from now on. "
                "If it is another captiond, give it its own mqtt.node.",
                self._client_id,
                self._client_id,
                self._suffix,
            )

    def _tell_lost(self, count: int) -> None:
        self._lost.inc(count)
        if not self._losing:
            self._losing = True
            log.warning("finals give way to newer ones: the outbox for the MQTT broker is full")

    def close(self) -> None:
        """The daemon ends."""
        count = self._outbox.give_up()
        if count:
            log.warning("%d finals were not delivered to the MQTT broker", count)
