"""One connection to a broker: aiomqtt's client, and what a daemon needs of it beyond that.

aiomqtt keeps the broker's answer to a PUBLISH to itself; waits ten seconds for a goodbye, even when it is
cancelled; and says goodbye after a fault too, so that the last will is not told. Takes: messages. Gives: the
broker's word that it has them, or an error that says what is wrong. Knows no captions.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import aiomqtt
from aiomqtt import MqttCodeError, MqttError
from paho.mqtt.reasoncodes import ReasonCode

from captiond.mqtt.broker import Broker

_SILENT = logging.getLogger("captiond.mqtt.paho")  # its errors reach us as exceptions too, and are told once
_SILENT.setLevel(logging.CRITICAL)

ANSWER_S = 10.0  # for every answer of the broker
MESSAGES = 64  # of the broker that may wait to be read

# Reason codes of MQTT 5, section 2.4; paho gives those of 3.1.1 as the same.
_UNSUPPORTED_VERSION = 132
_NOT_LET_IN = {133: "client_id", 134: "password", 135: "not authorized", 138: "banned"}
_TAKEN_OVER = 142
_LOST = {128: "the connection was lost", 139: "it is shutting down", 141: "it has not answered"}


class NotAcceptedError(Exception):
    """The broker does not take what was published there, and says why."""


class Link(aiomqtt.Client):
    """An ``async with`` from connect to goodbye. Left by an exception, the broker tells the last will."""

    def __init__(
        self, broker: Broker, client_id: str, version: Literal["5", "3.1.1"], will: aiomqtt.Will
    ) -> None:
        newer = version == "5"
        super().__init__(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if newer else aiomqtt.ProtocolVersion.V311,
            clean_session=None if newer else True,
            will=will,
            logger=_SILENT,
            timeout=ANSWER_S,
            keepalive=broker.keepalive_s,
            max_queued_incoming_messages=MESSAGES,
            tls_context=broker.tls,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}

    async def tell(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publish, and wait until it is written (QoS 0) or confirmed (QoS 1).

        Raises NotAcceptedError where the broker refuses it, MqttError where nobody knows.
        """
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc:
            raise MqttCodeError(info.rc, "Could not publish")
        if info.is_published():
            return
        answer = self._answers[info.mid] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_S):
                reason = await answer
        except TimeoutError:
            raise MqttError("the broker does not answer") from None
        finally:
            del self._answers[info.mid]
        if reason.is_failure:
            raise NotAcceptedError(str(reason))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, props: Any) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    async def __aenter__(self) -> Link:
        try:
            await super().__aenter__()
        except BaseException:
            self._hang_up()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await super().__aexit__(kind, error, trace)
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the socket without a goodbye."""
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # has been told by another way
        self._client._sock_close()  # paho has no public way that says no goodbye


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no connection. ``refused``: trying again soon would not help."""

    reason: str
    refused: bool = False
    taken_over: bool = False
    unsupported_version: bool = False


def trouble_of(error: BaseException) -> Trouble:
    """What a fault of a link means, in words. Of several at once, the one that says most."""
    codes, words = [], []
    for each in _all(error):
        code = getattr(getattr(each, "rc", None), "value", None)
        if isinstance(code, int):
            codes.append(code)
        words.append(str(each))
    if _UNSUPPORTED_VERSION in codes:
        return Trouble("it does not know this version of MQTT", refused=True, unsupported_version=True)
    if _TAKEN_OVER in codes:
        return Trouble("another client has connected under the same name", taken_over=True)
    for code, what in _NOT_LET_IN.items():
        if code in codes:
            return Trouble(f"it does not let us in ({what})", refused=True)
    for code, what in _LOST.items():
        if code in codes:
            return Trouble(what)
    return Trouble(re.sub(r"^\[.*?\] ", "", words[-1]) if words else "no reason given")


def _all(error: BaseException) -> list[BaseException]:
    """``error``, what it consists of, and what caused it."""
    inner = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [error.__cause__]
    found = [] if isinstance(error, BaseExceptionGroup) else [error]
    for each in inner:
        if each is not None:
            found += _all(each)
    return found
