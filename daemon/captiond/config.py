"""Configuration: a TOML file and ``--set`` in, one frozen ``Config`` out.

Every key has a default, a range and a meaning that ``config.toml`` in the repository documents. An
unknown key, a wrong type or a wrong value is a ``ConfigError`` that names the key. Knows no socket and
no engine; milliseconds stay milliseconds here.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from captiond_engine.errors import ConfigError
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
OptionalMilliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
Bytes = Annotated[int, Meta(ge=1_024, le=268_435_456)]
WindowChoice = Literal["auto", "full", "fitted"]

STREAM_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765
    tokens_file: str = ""
    insecure: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cert: str = ""
    key: str = ""


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)] = "base.en"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    language: str = ""
    window_partial: WindowChoice = "auto"
    window_final: WindowChoice = "auto"
    batch: Annotated[int, Meta(ge=1, le=256)] = 1


class SegmentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    silence_ms: Annotated[int, Meta(ge=100, le=5_000)] = 500
    pre_roll_ms: Annotated[int, Meta(ge=0, le=2_000)] = 300
    post_roll_ms: Annotated[int, Meta(ge=20, le=2_000)] = 200
    min_speech_ms: Annotated[int, Meta(ge=0, le=2_000)] = 150
    max_segment_ms: Annotated[int, Meta(ge=2_000, le=29_000)] = 25_000
    partial_step_ms: Annotated[int, Meta(ge=100, le=10_000)] = 500
    vad_aggressiveness: Annotated[int, Meta(ge=0, le=3)] = 2


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    read_ahead_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 30_000
    resume_ms: OptionalMilliseconds = 30_000
    lag_warn_ms: Milliseconds = 3_000
    max_streams: Count = 16
    max_subscribers: Count = 256
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


class SourceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[source]]``: audio that the daemon fetches by itself."""

    name: str
    kind: Literal["file"] = "file"
    path: Annotated[str, Meta(min_length=1)]
    pace: Literal["realtime", "fast"] = "realtime"
    repeat: bool = False
    language: str = ""
    prompt: str = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    segment: SegmentConfig = SegmentConfig()
    limits: LimitsConfig = LimitsConfig()
    history: HistoryConfig = HistoryConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    log: LogConfig = LogConfig()
    source: tuple[SourceConfig, ...] = ()


def load(path: Path | None = None, settings: Sequence[str] = ()) -> Config:
    """The configuration of ``path`` (None: the defaults) with ``a.b=c`` settings laid over it.

    Relative paths in the file are taken from the file's folder. Raises ConfigError.
    """
    data = _read(path) if path else {}
    for setting in settings:
        _apply(data, setting)
    where = str(path) if path else "the configuration"
    _refuse_unknown(data, Config, "", where)
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error))}.") from None
    _check(config, where)
    return _resolve(config, path.parent) if path else config


def check_files(config: Config) -> None:
    """Look at the files that ``config`` names, as ``config check`` does. Raises ConfigError."""
    server = config.server
    named = {"server.tokens_file": server.tokens_file, "server.cert": server.cert, "server.key": server.key}
    named |= {f"source {source.name}: path": source.path for source in config.source}
    for key, path in named.items():
        if path and not Path(path).is_file():
            raise ConfigError(f"{key}: there is no file {path}.")


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def to_toml(config: Config) -> str:
    """``config`` as TOML that ``load`` reads back to an equal value."""
    lines: list[str] = []
    tables: dict[str, object] = msgspec.to_builtins(config)
    for name, table in tables.items():
        for entry in [table] if isinstance(table, dict) else _entries(table):
            lines.append(f"[{name}]" if isinstance(table, dict) else f"[[{name}]]")
            lines += [f"{key} = {toml_value(value)}" for key, value in entry.items()]
            lines.append("")
    return "\n".join(lines)


def _entries(table: object) -> list[dict[str, object]]:
    """The entries of an array of tables."""
    return [entry for entry in table if isinstance(entry, dict)] if isinstance(table, list | tuple) else []


def toml_value(value: object) -> str:
    """A string, number, boolean or list of strings as TOML."""
    # A JSON string, number, boolean or list of strings reads the same in TOML.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}).",
            advice="Give another file with --config, or none for the defaults.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML ({error}).") from None


def _apply(data: dict[str, object], setting: str) -> None:
    """Lay one ``a.b=c`` over ``data``. A value that is no TOML value is a bare string."""
    key, equals, text = setting.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(
            f'--set "{setting}": expected table.key=value.', advice="For example server.port=9000."
        )
    try:
        value: object = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table: object = data
    for part in parts[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f'--set "{setting}": {".".join(parts[:-1])} is not a table.')
    table[parts[-1]] = value


def _refuse_unknown(data: object, shape: type[Struct], path: str, where: str) -> None:
    if not isinstance(data, dict):
        return  # the wrong type is reported by the conversion
    known = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, value in data.items():
        full = f"{path}{key}"
        if key not in known:
            near = _nearest(key, full, known, path)
            raise ConfigError(
                f"{where}: there is no key {full}.",
                advice=f"Did you mean {near}?" if near else f"Known here: {', '.join(known)}.",
            )
        if isinstance(known[key], type) and issubclass(known[key], Struct):
            _refuse_unknown(value, known[key], f"{full}.", where)
        elif key == "source" and isinstance(value, list):
            for number, entry in enumerate(value):
                _refuse_unknown(entry, SourceConfig, f"source[{number}].", where)


def _nearest(key: str, full: str, known: dict[str, type], path: str) -> str:
    """The known key most like ``key``: of the same table, else of any table, else ''."""
    everywhere = {
        f"{table.name}.{field.name}": field.name
        for table in msgspec.structs.fields(Config)
        if isinstance(table.type, type) and issubclass(table.type, Struct)
        for field in msgspec.structs.fields(table.type)
    }
    same = [name for name, last in everywhere.items() if last == key]
    close = same or [path + name for name in difflib.get_close_matches(key, known, n=1, cutoff=0.6)]
    return (close or difflib.get_close_matches(full, everywhere, n=1, cutoff=0.75) or [""])[0]


def _explain(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.server.port`" with the key in front."""
    text, _, place = message.partition(" - at ")
    key = place.strip("`").removeprefix("$.").removeprefix("$")
    plain = text.replace("`", "").replace("Object missing", "is missing")
    return f"{key or 'top level'}: {plain[:1].lower()}{plain[1:]}"


def _check(config: Config, where: str) -> None:
    """What no single key can say by itself."""
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


def _resolve(config: Config, folder: Path) -> Config:
    def full(path: str) -> str:
        return str(folder / path) if path else ""

    server = msgspec.structs.replace(
        config.server,
        tokens_file=full(config.server.tokens_file),
        cert=full(config.server.cert),
        key=full(config.server.key),
    )
    source = tuple(msgspec.structs.replace(entry, path=full(entry.path)) for entry in config.source)
    return msgspec.structs.replace(config, server=server, source=source)
