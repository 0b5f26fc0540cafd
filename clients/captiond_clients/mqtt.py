"""Listening through an MQTT broker: the events of one node or of all, each final exactly once.

    async for event in listen_mqtt("mqtt://broker.local", node="hall"): ...

Takes a broker's address and what to listen to; gives the events that a daemon publishes. The broker keeps
finals for a reader that loses its connection, and may bring one twice: by its epoch and number a final that
was told is not told again. Knows no daemon's address, terminal or file.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import aiomqtt
import msgspec
from msgspec.structs import replace
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from captiond_clients.connection import Backoff
from captiond_clients.errors import ClientError, ProtocolError, RefusedError, UnreachableError
from captiond_clients.events import Event, Final, Partial, StreamClosed, Suppressed, parse

_SILENT = logging.getLogger("captiond_clients.mqtt.paho")  # its errors reach us as exceptions too
_SILENT.setLevel(logging.CRITICAL)

DEFAULT_MQTT_URL = "mqtt://127.0.0.1:1883"
ANY = "+"
ANSWER_S = 5.0
KEEPALIVE_S = 30
# A daemon that lost its broker waits 2 s on its new connection, so that readers are there before its finals.
LONGEST_DELAY_S = 1.0
SESSION_S = 300  # how long the broker keeps finals for us while we are away (MQTT 5)
LIMIT_MESSAGES = 10_000  # that wait to be read
LIMIT_EPOCHS = 4_096  # streams whose newest number is remembered

Trouble = Callable[[ClientError], None]

# Reason codes of MQTT 5, section 2.4; paho gives those of 3.1.1 as the same.
_UNSUPPORTED_VERSION = 132
_NOT_LET_IN = frozenset((133, 134, 135, 138))


async def listen_mqtt(
    url: str = DEFAULT_MQTT_URL,
    *,
    base: str = "captiond",
    node: str = ANY,
    stream: str = "*",
    events: Literal["all", "final"] = "all",
    ca: str | None = None,
    patience_s: float = math.inf,
    on_trouble: Trouble | None = None,
    on_connected: Callable[[str], None] | None = None,
) -> AsyncGenerator[Event, None]:
    """Partials and finals as they are published; there is no history.

    ``url``: ``mqtt://`` or ``mqtts://``, with user and password where the broker asks for them; ``ca``: the
    certificates to trust. ``node`` ``+``: of all nodes, streams are then named ``node/stream``. A node that
    goes away closes its streams (``StreamClosed`` with the reason ``offline``); events that no daemon has
    sent have an empty ``wire``. ``on_connected`` is called with the broker's address whenever we listen.

    Raises UnreachableError when the broker does not answer (later losses are waited for, ``patience_s`` at
    most) and RefusedError when it does not let us in.
    """
    broker = _broker(url, ca)
    reader = _Reader(base.strip("/"), node, ANY if stream == "*" else stream)
    topics = reader.topics(events)
    backoff = Backoff(patience_s, longest_s=LONGEST_DELAY_S)
    identifier = f"captiond-listen-{token_hex(6)}"
    version = aiomqtt.ProtocolVersion.V5
    connected_once = False
    while True:
        try:
            async with _client(broker, identifier, version, fresh=not connected_once) as client:
                _check(await client.subscribe(topics, properties=None), topics)
                connected_once = True
                if on_connected is not None:
                    on_connected(broker.address)
                async for message in client.messages:
                    backoff.news()
                    if len(client.messages) >= LIMIT_MESSAGES - 1:
                        raise RefusedError(
                            "slow_reader", "Captions come faster than they are read; some were left out."
                        )
                    for event in reader.read(message):
                        yield event
        except aiomqtt.MqttError as error:
            code = _code(error)
            if code == _UNSUPPORTED_VERSION and version == aiomqtt.ProtocolVersion.V5:
                version = aiomqtt.ProtocolVersion.V311
                continue
            failure = _failure(broker, error, code)
        if not connected_once or isinstance(failure, RefusedError):
            raise failure
        await backoff.wait(failure, on_trouble)


async def each_event(show: Callable[[Event], None], url: str, **choices: Any) -> None:
    """Calls ``show`` with every event of ``listen_mqtt``, until cancelled."""
    async with aclosing(listen_mqtt(url, **choices)) as events:
        async for event in events:
            show(event)


class _Reader:
    """Messages in, the events that are news out."""

    def __init__(self, base: str, node: str, stream: str) -> None:
        self._levels = base.count("/") + 1
        self._node, self._stream = node, stream
        self._root = f"{base}/{node}"
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()  # finals told, by stream and epoch
        self._open: dict[str, dict[int, None]] = {}  # segments of each stream of which a partial was told

    def topics(self, events: Literal["all", "final"]) -> list[tuple[str, int]]:
        partial = [(f"{self._root}/{self._stream}/partial", 0)] if events == "all" else []
        return [(f"{self._root}/{self._stream}/final", 1), *partial, (f"{self._root}/status", 1)]

    def read(self, message: aiomqtt.Message) -> Iterator[Event]:
        """What a message tells. What others may have put there, and what is retained, tells nothing."""
        node, *rest = message.topic.value.split("/")[self._levels :]
        payload = message.payload
        if not isinstance(payload, bytes):
            return
        if rest == ["status"]:
            if payload == b"offline" and not message.retain:
                yield from self._node_gone(node)
            return
        told = None if message.retain else _told(payload)
        if told is None or len(rest) != 2:
            return
        event, epoch = told
        if self._node == ANY:
            event = replace(event, stream=f"{node}/{rest[0]}")
        if rest[1] == "final" and isinstance(event, Final) and self._is_news(event, epoch):
            self._open.get(event.stream or "", {}).pop(event.segment, None)
            yield event
        elif rest[1] == "partial" and isinstance(event, Partial) and self._is_ahead(event, epoch):
            yield from self._left_open(event)
            yield event

    def _is_news(self, event: Final, epoch: str) -> bool:
        """False for what was told before. Without an epoch nobody knows."""
        if not epoch:
            return True
        if not self._is_ahead(event, epoch):
            return False
        key = (event.stream or "", epoch)
        self._newest[key] = event.seq
        self._newest.move_to_end(key)
        if len(self._newest) > LIMIT_EPOCHS:
            self._newest.popitem(last=False)
        return True

    def _is_ahead(self, event: Event, epoch: str) -> bool:
        return event.seq > self._newest.get((event.stream or "", epoch), -1)

    def _left_open(self, event: Partial) -> Iterator[Event]:
        """Segments that gave no caption: over MQTT nobody says so, but others have begun since."""
        segments = self._open.setdefault(event.stream or "", {})
        for segment in [known for known in segments if known < event.segment - 1]:
            del segments[segment]
            yield Suppressed(
                type="transcript.suppressed", stream=event.stream, segment=segment, reason="unknown"
            )
        segments[event.segment] = None

    def _node_gone(self, node: str) -> Iterator[Event]:
        prefix = f"{node}/" if self._node == ANY else ""
        for stream in [name for name in self._open if name.startswith(prefix)]:
            if self._open.pop(stream):
                yield StreamClosed(type="stream.closed", stream=stream, reason="offline")


class _Envelope(msgspec.Struct):
    epoch: str = ""


def _told(payload: bytes) -> tuple[Event, str] | None:
    """The event of a payload and the epoch of its number; None where it is none."""
    try:
        return parse(payload.decode()), msgspec.json.decode(payload, type=_Envelope).epoch
    except (ProtocolError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class _Broker:
    host: str
    port: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def _broker(url: str, ca: str | None) -> _Broker:
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        # The address may hold a password, so it is not repeated.
        raise RefusedError(
            "bad_url", "This is no address of an MQTT broker.", advice=f"Say {DEFAULT_MQTT_URL}."
        )
    secure = parts.scheme == "mqtts"
    try:
        tls = ssl.create_default_context(cafile=ca) if secure else None
    except OSError as error:
        raise RefusedError("bad_certificate", f"{ca}: cannot be used ({error}).") from None
    return _Broker(
        host=parts.hostname,
        port=port or (8883 if secure else 1883),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=tls,
    )


def _client(
    broker: _Broker, identifier: str, version: aiomqtt.ProtocolVersion, *, fresh: bool
) -> aiomqtt.Client:
    """``fresh``: the broker has kept nothing for us yet. Only MQTT 5 forgets a session by itself."""
    newer = version == aiomqtt.ProtocolVersion.V5
    options: dict[str, Any] = {}
    if newer:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_S
        options = {"clean_start": fresh, "properties": properties}
    return aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        identifier=identifier,
        protocol=version,
        clean_session=None if newer else True,
        timeout=ANSWER_S,
        logger=_SILENT,
        keepalive=KEEPALIVE_S,
        max_queued_incoming_messages=LIMIT_MESSAGES,
        tls_context=broker.tls,
        **options,
    )


def _check(answers: Any, topics: list[tuple[str, int]]) -> None:
    """Raises RefusedError where the broker does not let us read."""
    for (topic, _), answer in zip(topics, answers, strict=False):
        if (answer if isinstance(answer, int) else answer.value) >= 128:
            raise RefusedError("forbidden", f"The broker does not let us read {topic}.")


def _code(error: aiomqtt.MqttError) -> int | None:
    """The broker's reason, where it has given one."""
    for each in (error, error.__cause__):
        value = getattr(getattr(each, "rc", None), "value", None)
        if isinstance(value, int):
            return value
    return None


def _failure(broker: _Broker, error: aiomqtt.MqttError, code: int | None) -> ClientError:
    if code in _NOT_LET_IN:
        why = f"The MQTT broker at {broker.address} does not let us in ({error})."
        return RefusedError("unauthorized", why, advice="Say mqtt://USER:PASSWORD@HOST.")
    return UnreachableError(f"The MQTT broker at {broker.address} does not answer ({error}).")
