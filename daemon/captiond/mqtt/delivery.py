"""What happens on one connection, from ``online`` to ``offline``.

Takes: a link, the outbox and the states. Gives: finals one at a time, each confirmed before the next, so that
a lost connection can double at most one and never change their order; states beside them, so that a long
outbox does not hold them up. Raises what the link raises. Knows no reconnecting.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from captiond.mqtt import home_assistant
from captiond.mqtt.link import Link, NotAcceptedError
from captiond.mqtt.outbox import Outbox
from captiond.mqtt.states import States
from captiond.mqtt.topics import Topics

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
LIMIT_REFUSALS = 1_000  # topics of which it is remembered that they were told


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. ``settle_s``: readers have lost the broker too, and one that was killed has forgotten what
    they subscribed to, so on a new connection finals wait until the readers can be back."""

    shortest_s: float = 1.0
    longest_s: float = 30.0
    stable_s: float = 10.0  # a connection that has lasted so long was a good one
    settle_s: float = 2.0
    refused_s: float = 30.0  # until what the broker has refused is tried again


@dataclass
class Delivery:
    """One daemon's, for all its connections. ``announcement``: topic of the discovery payload, or empty."""

    topics: Topics
    outbox: Outbox
    states: States
    pace: Pace
    finished: asyncio.Event
    birth_topic: str = ""  # where Home Assistant says that it has started
    announcement: str = ""
    _refused: set[str] = field(default_factory=set)

    async def run(self, link: Link, *, settle: bool) -> None:
        """Until everything is out and the daemon stops. Raises MqttError when the connection is lost."""
        self.states.begin()
        self.outbox.release()
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(link), name="mqtt watching")
                await self._subscribe(link)
                retrying = tasks.create_task(self._retry(), name="mqtt retrying")
                async with asyncio.TaskGroup() as sending:
                    sending.create_task(self._send_states(link), name="mqtt states")
                    sending.create_task(self._send_finals(link, settle=settle), name="mqtt finals")
                await self._tell(link, self.topics.status, OFFLINE, retain=True)
                retrying.cancel()
                watching.cancel()
        finally:
            self.outbox.give_back()
            self.states.end()

    async def _subscribe(self, link: Link) -> None:
        """Before anything is announced: who starts in between hears the announcement, or is heard."""
        topics = [(topic, 1) for topic in (self.topics.status, self.birth_topic) if topic]
        answers = await link.subscribe(topics)
        for (topic, _), answer in zip(topics, answers, strict=False):
            if (answer if isinstance(answer, int) else answer.value) >= 128:
                self._tell_refused(topic, "may not be read")

    async def _watch(self, link: Link) -> None:
        """Reads what comes, and is the first to know when nothing comes any more.

        What is retained is old: it is what we or others have said before we came.
        """
        async for message in link.messages:
            topic, payload = message.topic.value, message.payload
            if message.retain:
                continue
            if topic == self.topics.status and payload != ONLINE:
                # The will of an earlier connection that the broker has buried late, or a namesake's.
                self.states.refresh(topic)
            elif topic == self.birth_topic and payload == home_assistant.BIRTH:
                for known in (self.announcement, self.topics.status, self.topics.speech, self.topics.lag):
                    self.states.refresh(known)

    async def _send_states(self, link: Link) -> None:
        while (message := await self.states.take()) is not None:
            await self._tell(link, message.topic, message.payload, qos=message.qos, retain=message.retain)
            self.states.confirm(message)

    async def _send_finals(self, link: Link, *, settle: bool) -> None:
        if settle:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.settle_s):
                    await self.finished.wait()
        while (final := await self.outbox.take()) is not None:
            if await self._tell(link, final.topic, final.payload):
                self.outbox.confirm()
            else:
                self.outbox.hold()

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(self.pace.refused_s)
            self.outbox.release()

    async def _tell(
        self, link: Link, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> bool:
        """Whether the broker takes it."""
        try:
            await link.tell(topic, payload, qos=qos, retain=retain)
        except NotAcceptedError as error:
            self._tell_refused(topic, str(error))
            return False
        if topic in self._refused:
            self._refused.discard(topic)
            log.info("the MQTT broker takes %s now", topic)
        return True

    def _tell_refused(self, topic: str, why: str) -> None:
        if topic not in self._refused and len(self._refused) < LIMIT_REFUSALS:
            self._refused.add(topic)
            log.warning("the MQTT broker refuses %s (%s); it is tried again from time to time", topic, why)
