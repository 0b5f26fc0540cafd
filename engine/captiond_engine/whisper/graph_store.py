"""Compiled graphs on disk: one file each, proven whole before it is used, in a folder of bounded size.

A file is one line of JSON (``Facts``) and the bytes that MAX exported. Takes and gives bytes; knows no MAX,
no graph and no model. Nothing that happens to the folder is worse than a graph that is compiled again.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

try:
    import fcntl
except ImportError:  # not a Unix: two processes may compile the same graph at once
    fcntl = None  # type: ignore[assignment]

SUFFIX, WORK_PREFIX = ".graph", ".compiling."
MOST_BYTES = 1 << 30  # of all graphs together; the one that was used least recently goes first
UNUSED_S = 30 * 86_400.0  # after which a graph goes anyway: another version of MAX or captiond left it
_LEFTOVER = re.compile(rf"{re.escape(WORK_PREFIX)}|\.[0-9a-f]{{32}}\.")  # what is written, or worked in
_LEFTOVER_S = 86_400.0  # a file that is written for a day is nobody's any more
_LONGEST_LINE = 1 << 16
_LONGEST_TURN_S = 1_800.0  # of somebody else who compiles the same graph; a compile takes minutes


class Facts(msgspec.Struct, frozen=True):
    """What is known of a stored graph.

    ``key`` names all of the following: ``machine``: what it is for; ``max``: the version that compiled it;
    ``source``: digest of what it was compiled from. ``sha256`` and size are those of the compiled graph.
    """

    key: str
    kind: str
    config: dict[str, Any]
    machine: str
    max: str
    source: str
    sha256: str = ""
    size_bytes: int = 0
    took_s: float = 0.0

    def is_like(self, other: Facts) -> bool:
        """The same but perhaps for its source."""
        mine, theirs = ((f.kind, f.config, f.machine, f.max) for f in (self, other))
        return mine == theirs


def cache_folder() -> Path:
    """``$CAPTIOND_CACHE_DIR``, else ``$XDG_CACHE_HOME/captiond``, else ``~/.cache/captiond``."""
    if chosen := os.environ.get("CAPTIOND_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captiond"


def pack(facts: Facts, artifact: bytes) -> bytes:
    """The bytes of a file; digest and size are filled in."""
    digest = hashlib.sha256(artifact).hexdigest()
    whole = msgspec.structs.replace(facts, sha256=digest, size_bytes=len(artifact))
    return msgspec.json.encode(whole) + b"\n" + artifact


def unpack(content: bytes, key: str) -> tuple[Facts, memoryview]:
    """Facts and artifact of a file's bytes. Raises ValueError where they are not those of ``key``, whole."""
    facts, end = _read_facts(content[:_LONGEST_LINE])
    artifact = memoryview(content)[end:]
    if facts.key != key:
        raise ValueError("this is another graph")
    if hashlib.sha256(artifact).hexdigest() != facts.sha256:
        raise ValueError("the graph is not the one that was stored")
    return facts, artifact


def _read_facts(beginning: bytes) -> tuple[Facts, int]:
    end = beginning.find(b"\n") + 1
    try:
        return msgspec.json.decode(beginning[:end], type=Facts), end
    except msgspec.MsgspecError as error:
        raise ValueError("this is no stored graph") from error


class GraphStore:
    """A folder of graphs. What cannot be read is the same as nothing, what cannot be written costs time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "graphs"

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def load(self, key: str) -> memoryview | None:
        """The artifact of ``key``, or None."""
        path = self.path(key)
        try:
            _, artifact = unpack(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.forget(key)
            return None
        with suppress(OSError):
            os.utime(path)  # when it was used last
        return artifact

    def save(self, facts: Facts, artifact: bytes) -> Path | None:
        """Keep a graph under ``facts.key``, whole or not at all; where it lies, or None."""
        path = self.path(facts.key)
        temporary = self.folder / f".{facts.key}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(pack(facts, artifact))
            temporary.replace(path)
        except OSError:
            _remove(temporary)
            return None
        self.prune(keep=facts.key)
        return path

    def has(self, facts: Facts) -> bool:
        """Whether there is a graph of this kind and model for this machine and MAX, whatever its sources."""
        return any(stored.is_like(facts) for _, stored in self.entries())

    def forget(self, key: str) -> None:
        """Remove what is stored under ``key``, where it can be removed."""
        _remove(self.path(key))

    def facts(self, key: str) -> Facts | None:
        """What is known of the graph that is stored under ``key``."""
        try:
            with self.path(key).open("rb") as file:
                return _read_facts(file.read(_LONGEST_LINE))[0]
        except (OSError, ValueError):
            return None

    def entries(self) -> list[tuple[Path, Facts]]:
        """Every graph that is here and says what it is; not whether it is whole."""
        paths = [path for path in _files(self.folder) if path.suffix == SUFFIX]
        return [(path, facts) for path in paths if (facts := self.facts(path.stem)) is not None]

    def prune(self, *, keep: str = "") -> None:
        """Remove what is of no use any more, and then the least recently used until the rest is small enough.

        The graph of ``keep`` stays; files that are not the store's are left alone.
        """
        now, room = time.time(), MOST_BYTES
        kept, graphs = self.path(keep), []
        for path in _files(self.folder):
            with suppress(OSError):
                state = path.lstat()
                age_s = now - state.st_mtime
                if _LEFTOVER.match(path.name):
                    if age_s > _LEFTOVER_S:
                        _remove_leftover(path)
                elif path == kept:
                    room -= state.st_size
                elif path.suffix == SUFFIX:
                    graphs.append((age_s, state.st_size, path))
        for age_s, size, path in sorted(graphs):
            room -= size
            if room < 0 or age_s > UNUSED_S:
                _remove(path)

    @contextmanager
    def turn(
        self, key: str, waiting: Callable[[float], None], longest_s: float = _LONGEST_TURN_S
    ) -> Iterator[None]:
        """One process at a time for ``key``; calls ``waiting`` with the seconds so far, each
        second in which another one has its turn.

        Where a folder knows no locks, or somebody takes longer than ``longest_s``, all go on at once: what
        they store is good whoever comes last.
        """
        lock = _lock(self.folder / f".{key}.lock", waiting, longest_s)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)  # and with it the lock; the empty file stays


def _lock(path: Path, waiting: Callable[[float], None], longest_s: float) -> int | None:
    """A locked file's descriptor, or None where there is no such lock to be had."""
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    began = time.monotonic()
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.utime(descriptor)  # so that nobody takes the file for a leftover
                return descriptor
            except BlockingIOError:
                waited_s = time.monotonic() - began
                if waited_s >= longest_s:
                    break
                waiting(waited_s)
                time.sleep(1.0)
    except OSError:
        pass
    os.close(descriptor)
    return None


def read_shipped(path: Path, key: str) -> memoryview | None:
    """The artifact of a graph that came with captiond, compressed; None where it is not that of ``key``."""
    try:
        return unpack(lzma.decompress(path.read_bytes()), key)[1]
    except (OSError, lzma.LZMAError, ValueError):
        return None


def shipped_facts(path: Path) -> Facts | None:
    """What such a file says it is."""
    try:
        with lzma.open(path) as file:
            return _read_facts(file.read(_LONGEST_LINE))[0]
    except (OSError, lzma.LZMAError, EOFError, ValueError):
        return None


def work_folder(store: GraphStore, least_bytes: int) -> Path:
    """Where a compiler may write: the store's folder or the system's, the first that has room.

    Raises OSError where neither has.
    """
    reasons = []
    for folder in (store.folder, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=folder))
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        state = os.statvfs(made)
        free = state.f_bavail * state.f_frsize
        if free >= least_bytes:
            return made
        made.rmdir()
        reasons.append(f"{folder}: {free >> 20} MiB free")
    raise OSError(f"no room for the compiler, which needs {least_bytes >> 20} MiB ({'; '.join(reasons)})")


def _remove_leftover(path: Path) -> None:
    """A lock, a file half written, or a folder in which a compiler worked."""
    if path.is_dir() and path.name.startswith(WORK_PREFIX):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _remove(path)


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
