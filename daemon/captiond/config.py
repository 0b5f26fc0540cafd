"""Configuration: what can be set, with its default and its range. One frozen ``Config``, a struct a table.

``config.toml`` in the repository says what each key means. Wrong together is a ``ConfigError`` that names
the keys. Knows no file, no socket and no engine; milliseconds stay milliseconds here.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from captiond_engine.errors import ConfigError
from captiond_engine.vad.detector import open_detector
from msgspec import Meta, Struct

from captiond.containers import media
from captiond.decoding_config import DecodingConfig, check_decoding

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
OptionalMilliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
Bytes = Annotated[int, Meta(ge=1_024, le=268_435_456)]
WindowChoice = Literal["auto", "full", "fitted"]
FileFormat = Literal["jsonl", "srt", "vtt", "txt"]
# Paths: variables and ~ are filled in, relative ones are taken from the configuration's folder.
FilePath = Annotated[str, Meta(extra={"path": "file"})]  # must be there
FolderPath = Annotated[str, Meta(extra={"path": "folder"})]  # is made where it is not there

STREAM_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
StreamName = Annotated[str, Meta(pattern=f"^{STREAM_NAME.pattern}$")]
# One or more levels of an MQTT topic, no wildcards; names that begin with $ are the broker's own.
TOPIC_PREFIX = re.compile(r"(?!\$)[^\x00-\x1f\x7f+#/]+(/[^\x00-\x1f\x7f+#/]+)*")


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765
    tokens_file: FilePath = ""
    insecure: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cert: FilePath = ""
    key: FilePath = ""


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)] = "base.en"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    language: str = ""
    window_partial: WindowChoice = "auto"
    window_final: WindowChoice = "auto"
    batch: Annotated[int, Meta(ge=0, le=256)] = 0


class SegmentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    silence_ms: Annotated[int, Meta(ge=100, le=5_000)] = 500
    early_silence_ms: Annotated[int, Meta(ge=0, le=5_000)] = 0
    unfinished_silence_ms: Annotated[int, Meta(ge=0, le=5_000)] = 0
    pre_roll_ms: Annotated[int, Meta(ge=0, le=2_000)] = 300
    post_roll_ms: Annotated[int, Meta(ge=20, le=2_000)] = 200
    min_speech_ms: Annotated[int, Meta(ge=0, le=2_000)] = 150
    max_segment_ms: Annotated[int, Meta(ge=2_000, le=29_000)] = 25_000
    partial_step_ms: Annotated[int, Meta(ge=100, le=10_000)] = 250
    commit: Literal["auto", "local-agreement", "align-att"] = "auto"
    commit_hold_ms: Annotated[int, Meta(ge=0, le=5_000)] = 0
    show_probability: Annotated[float, Meta(ge=0, le=1)] = 0.8
    vad: Literal["webrtc", "silero"] = "webrtc"
    vad_aggressiveness: Annotated[int, Meta(ge=0, le=3)] = 2


class TranscribeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of ``captiond transcribe``."""

    batch: Annotated[int, Meta(ge=1, le=256)] = 4
    pack: Literal["auto", "on", "off"] = "auto"


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    read_ahead_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 30_000
    resume_ms: OptionalMilliseconds = 30_000
    lag_warn_ms: Milliseconds = 3_000
    max_streams: Count = 16
    load: Annotated[float, Meta(ge=0, le=10)] = 0.8
    max_subscribers: Count = 256
    connections: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    connections_per_address: Count = 128
    accepts_per_s: Count = 50
    message_bytes: Bytes = 1_048_576
    queue_facts: Annotated[int, Meta(ge=8, le=10_000)] = 64
    queue_bytes: Bytes = 1_048_576
    stall_ms: Milliseconds = 5_000
    idle_ms: OptionalMilliseconds = 600_000
    ping_ms: Milliseconds = 20_000
    handshake_ms: Milliseconds = 10_000
    drain_ms: Milliseconds = 8_000


class HistoryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    finals: Annotated[int, Meta(ge=0, le=1_000)] = 1_000
    streams: Annotated[int, Meta(ge=0, le=10_000)] = 64


class PrivacyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suppressed_text: bool = False


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class MqttConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Captions to a broker; off while ``host`` is empty."""

    host: str = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    version: Literal["auto", "5", "3.1.1"] = "auto"
    tls: bool = False
    ca: FilePath = ""
    cert: FilePath = ""
    key: FilePath = ""
    username: str = ""
    password_file: FilePath = ""
    client_id: Annotated[str, Meta(max_length=128)] = ""
    keepalive_ms: Annotated[int, Meta(ge=5_000, le=3_600_000)] = 30_000
    base: str = "captiond"
    node: str = ""
    streams: tuple[str, ...] = ()
    partials: bool = True
    words: bool = False
    outbox_finals: Annotated[int, Meta(ge=1, le=100_000)] = 256
    discovery: bool = True
    discovery_prefix: str = "homeassistant"


class FilesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finals written to files, one a format for each opening of a stream; off while ``folder`` is empty."""

    folder: FolderPath = ""
    formats: Annotated[tuple[FileFormat, ...], Meta(min_length=1)] = ("jsonl",)
    streams: tuple[StreamName, ...] = ()
    words: bool = False
    rotate_mb: Annotated[int, Meta(ge=0, le=100_000)] = 0
    rotate_daily: Literal["off", "utc", "local"] = "off"
    keep_files: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    mode: Annotated[str, Meta(pattern="^0?6[046][046]$")] = "0640"
    fsync: bool = False


class SourceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One ``[[source]]``: audio that the daemon fetches by itself. What every kind has."""

    name: str
    language: str = ""
    prompt: str = ""


class FileSource(SourceConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="file"):
    path: Annotated[FilePath, Meta(min_length=1)]
    pace: Literal["realtime", "fast"] = "realtime"
    repeat: bool = False


class MicrophoneSource(SourceConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microphone"):
    device: str | int = ""
    channel: Annotated[int, Meta(ge=0, le=64)] = 0


class NetworkSource(SourceConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="network"):
    url: Annotated[str, Meta(min_length=1)]
    username: str = ""
    password_file: FilePath = ""
    timeout_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 15_000


AnySource = FileSource | MicrophoneSource | NetworkSource
SOURCE_KINDS: dict[str, type[SourceConfig]] = {
    str(shape.__struct_config__.tag): shape for shape in (FileSource, MicrophoneSource, NetworkSource)
}


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    decoding: DecodingConfig = DecodingConfig()
    segment: SegmentConfig = SegmentConfig()
    transcribe: TranscribeConfig = TranscribeConfig()
    limits: LimitsConfig = LimitsConfig()
    history: HistoryConfig = HistoryConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    log: LogConfig = LogConfig()
    mqtt: MqttConfig = MqttConfig()
    files: FilesConfig = FilesConfig()
    source: tuple[AnySource, ...] = ()


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check(config: Config, where: str) -> None:
    """What no single key can say by itself. Raises ConfigError, which begins with ``where``."""
    server = config.server
    if not is_loopback(server.host) and not server.tokens_file and not server.insecure:
        raise ConfigError(
            f'{where}: server.host = "{server.host}" would let the network in without a token.',
            advice="Set server.tokens_file, or say server.insecure = true.",
        )
    if config.segment.post_roll_ms > config.segment.silence_ms:
        raise ConfigError(
            f"{where}: segment.post_roll_ms ({config.segment.post_roll_ms}) is longer than "
            f"segment.silence_ms ({config.segment.silence_ms}).",
            advice="What is kept after speech lies within the silence that ends it.",
        )
    if bool(server.cert) != bool(server.key):
        missing = "server.key" if server.cert else "server.cert"
        raise ConfigError(f"{where}: {missing} is missing.", advice="TLS needs server.cert and server.key.")
    check_decoding(config.decoding, config.model.name, where)
    try:
        open_detector(config.segment.vad, config.segment.vad_aggressiveness)
    except ConfigError as error:
        message = f"{where}: segment.vad: {error.message}"
        raise ConfigError(message, advice=error.advice, code=error.code) from error
    _check_mqtt(config.mqtt, where)
    for source in config.source:
        if isinstance(source, NetworkSource):
            _check_network(source, where)
    names = [source.name for source in config.source]
    for number, name in enumerate(names):
        if not STREAM_NAME.fullmatch(name):
            raise ConfigError(
                f'{where}: source[{number}].name: "{name}" cannot be the name of a stream.',
                advice="Use 1 to 64 letters, digits, dots, dashes or underscores.",
            )
        if names.count(name) > 1:
            raise ConfigError(
                f'{where}: two sources are named "{name}".', advice="Every stream needs its own name."
            )
    if len(names) > config.limits.max_streams:
        raise ConfigError(
            f"{where}: {len(names)} sources, but limits.max_streams is {config.limits.max_streams}."
        )


def _check_network(source: NetworkSource, where: str) -> None:
    fault = media.url_fault(source.url)
    if fault is None and source.username and "@" in source.url.partition("//")[2].partition("/")[0]:
        fault = "it names a user, and so does username"
    if fault:  # the address is not repeated: it may hold a password
        raise ConfigError(f"{where}: source {source.name}: url: {fault}.")
    if source.password_file and not source.username:
        raise ConfigError(f"{where}: source {source.name}: username is missing.")


def _check_mqtt(mqtt: MqttConfig, where: str) -> None:
    for key in ("base", "discovery_prefix"):
        value = getattr(mqtt, key)
        if not TOPIC_PREFIX.fullmatch(value) or len(value) > 200:
            raise ConfigError(
                f'{where}: mqtt.{key}: "{value}" cannot begin a topic.',
                advice="Use names with single slashes between them, without + and #.",
            )
    if mqtt.node and not STREAM_NAME.fullmatch(mqtt.node):
        raise ConfigError(
            f'{where}: mqtt.node: "{mqtt.node}" cannot be the name of a node.',
            advice="Use 1 to 64 letters, digits, dots, dashes or underscores.",
        )
    for key, needed in (("cert", "key"), ("key", "cert"), ("password_file", "username")):
        if getattr(mqtt, key) and not getattr(mqtt, needed):
            raise ConfigError(
                f"{where}: mqtt.{needed} is missing.", advice=f"mqtt.{key} is nothing without it."
            )
    for key in ("ca", "cert"):
        if getattr(mqtt, key) and not mqtt.tls:
            raise ConfigError(f"{where}: mqtt.{key} is set, but mqtt.tls is false.")
