"""How to reach the broker: ``[mqtt]`` in, with the files that it names read; an address and secrets out.

Raises ConfigError for what cannot be used. Knows no connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from captiond_engine.errors import ConfigError

from captiond.config import MqttConfig


@dataclass(frozen=True, slots=True)
class Broker:
    """How to reach it. ``keepalive_s``: of silence, before it is asked whether it is there."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None = field(repr=False)
    keepalive_s: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def broker_of(mqtt: MqttConfig) -> Broker:
    """How to reach the broker of the configuration. Raises ConfigError for files that cannot be used."""
    try:
        mqtt.host.encode("idna")
    except UnicodeError:
        raise ConfigError(f'mqtt.host: "{mqtt.host}" cannot be the name of a host.') from None
    return Broker(
        host=mqtt.host,
        port=mqtt.port or (8883 if mqtt.tls else 1883),
        tls=_tls(mqtt) if mqtt.tls else None,
        username=mqtt.username or None,
        password=_password(mqtt.password_file) if mqtt.password_file else None,
        keepalive_s=max(1, mqtt.keepalive_ms // 1000),
    )


def _tls(mqtt: MqttConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=mqtt.ca or None)
        if mqtt.cert:
            context.load_cert_chain(mqtt.cert, mqtt.key)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt.ca, mqtt.cert or mqtt.key cannot be used: {error}.",
            advice="They are PEM files; the key has no password.",
        ) from None
    return context


def _password(path: str) -> str:
    try:
        password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file: {path} cannot be read ({error}).") from None
    if not password:
        raise ConfigError(f"mqtt.password_file: {path} is empty.")
    return password
