"""What a configuration that was read anew changes: all of it, or nothing where something cannot be used.

Takes: the configuration that holds and the one that is wanted. Gives: the one that can hold without a
restart, and the keys that must wait for one. Raises ConfigError before anything has changed. Applies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from captiond.access import Access
from captiond.config import Config, check
from captiond.config_file import path_fields
from captiond.listener import tls_context
from captiond.sinks import SINKS

# What is bound, loaded or compiled once.
AT_THE_START = {
    "server": ("host", "port"),
    "model": ("name", "device", "precision", "window_partial", "window_final", "batch"),
    "decoding": ("task",),  # the model must know other languages
    "limits": ("message_bytes", "handshake_ms"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """``config``: what holds from now on. ``waiting``: keys that need a restart, and keep their value."""

    config: Config
    access: Access
    waiting: tuple[str, ...]


def prepare(running: Config, wanted: Config) -> Change:
    """How ``wanted`` can follow ``running``. Reads the files that are named in it; raises ConfigError."""
    config, waiting = keep_fixed(running, wanted)
    if waiting:
        check(config, "together with what needs a restart")
    tls_context(config.server)  # a pair that cannot be used must not reach the port
    check_sinks(config)
    return Change(config, Access(config.server), waiting)


def check_sinks(config: Config) -> None:
    """Whether the sinks can be run as configured. Raises ConfigError."""
    for wanted, _ in SINKS.values():
        wanted(config)


def keep_fixed(running: Config, wanted: Config) -> tuple[Config, tuple[str, ...]]:
    """``wanted`` with the values of ``running`` where only a restart changes them, and the keys of these."""
    waiting: list[str] = []
    for table, keys in AT_THE_START.items():
        old, new = getattr(running, table), getattr(wanted, table)
        kept = {key: getattr(old, key) for key in keys if getattr(old, key) != getattr(new, key)}
        waiting += [f"{table}.{key}" for key in kept]
        wanted = replace(wanted, **{table: replace(new, **kept)})
    if bool(running.server.cert) != bool(wanted.server.cert):  # TLS itself, not the pair's files
        waiting += ["server.cert", "server.key"]
        pair = {"cert": running.server.cert, "key": running.server.key}
        wanted = replace(wanted, server=replace(wanted.server, **pair))
    return wanted, tuple(waiting)


def fingerprint(table: Struct) -> tuple[object, ...]:
    """Equal as long as ``table`` and the files that it names are the same."""
    seen: list[object] = [table]
    for name, kind in path_fields(type(table)):
        path = getattr(table, name)
        if not path or kind != "file":
            continue
        try:
            found = Path(path).stat()
        except OSError as error:
            seen.append((path, error.errno))
        else:
            seen.append((path, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(seen)
