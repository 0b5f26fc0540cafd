"""Configuration files: a TOML file and ``--set`` in, one checked ``Config`` out, and back to TOML.

An unknown key, a wrong type or a wrong value is a ``ConfigError`` that names the key, and the nearest one
that there is. Knows what can be set from ``config`` alone.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from captiond_engine.errors import ConfigError
from msgspec import Struct

from captiond.config import SOURCE_KINDS, Config, SourceConfig, check

T = TypeVar("T", bound=Struct)

DEFAULT_SOURCE = "file"  # the kind of a [[source]] that names none


def load(path: Path | None = None, settings: Sequence[str] = ()) -> Config:
    """The configuration of ``path`` (None: the defaults) with ``a.b=c`` settings laid over it.

    Relative paths in the file are taken from the file's folder. Raises ConfigError.
    """
    data = _read(path) if path else {}
    for setting in settings:
        _apply(data, setting)
    for entry in _entries(data.get("source")):
        entry.setdefault("kind", DEFAULT_SOURCE)
    where = str(path) if path else "the configuration"
    _refuse_unknown(data, Config, "", where)
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error))}.") from None
    check(config, where)
    return _resolve(config, path.parent) if path else config


def check_files(config: Config) -> None:
    """Look at the files that ``config`` names, as ``config check`` does. Raises ConfigError."""
    for key, kind, path in paths(config):
        if path and kind == "file" and not Path(path).is_file():
            raise ConfigError(f"{key}: there is no file {path}.")


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
    if issubclass(shape, SourceConfig):
        known["kind"] = str
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
                _refuse_unknown(entry, _source_shape(entry, number, where), f"source[{number}].", where)


def _source_shape(entry: object, number: int, where: str) -> type[Struct]:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(kind, str) and kind in SOURCE_KINDS:
        return SOURCE_KINDS[kind]
    if isinstance(entry, dict):
        raise ConfigError(
            f"{where}: source[{number}].kind: there is no kind {kind!r} of source.",
            advice=f"It is one of {', '.join(SOURCE_KINDS)}.",
        )
    return SourceConfig


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


def paths(config: Config) -> Iterator[tuple[str, str, str]]:
    """Every path that ``config`` holds: its key, "file" or "folder", and its value."""
    for table in msgspec.structs.fields(Config):
        value = getattr(config, table.name)
        for struct in value if isinstance(value, tuple) else (value,):
            where = f"source {struct.name}: " if isinstance(struct, SourceConfig) else f"{table.name}."
            for name, kind in path_fields(type(struct)):
                yield where + name, kind, getattr(struct, name)


def path_fields(shape: type[Struct]) -> list[tuple[str, str]]:
    """Names of the fields that are paths, each with "file" or "folder"."""
    found = []
    for field in msgspec.structs.fields(shape):
        extra = [meta.extra or {} for meta in getattr(field.type, "__metadata__", ())]
        found += [(field.name, str(each["path"])) for each in extra if "path" in each]
    return found


def _resolve(config: Config, folder: Path) -> Config:
    def resolved(struct: T) -> T:
        changed = {
            name: str(folder / os.path.expandvars(Path(getattr(struct, name)).expanduser()))
            for name, _ in path_fields(type(struct))
            if getattr(struct, name)
        }
        return msgspec.structs.replace(struct, **changed)

    tables: dict[str, Any] = {
        table.name: tuple(map(resolved, value)) if isinstance(value, tuple) else resolved(value)
        for table in msgspec.structs.fields(Config)
        for value in (getattr(config, table.name),)
    }
    return Config(**tables)
