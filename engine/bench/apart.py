"""A contender in a process of its own, that does one round when it is told to and sleeps in between.

Takes an entry, a case and a folder with its files; gives seconds, tokens and memory. So nobody is measured
beside the threads, allocator or math library of another one, and its memory is its own.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from engine.bench.cases import Case, case_of, weights_of, windows
from engine.bench.contenders import Contender, Entry, UnavailableError, open_contender
from engine.bench.export import write_formats

MIB = 1 << 20
T = TypeVar("T")


class EndedError(Exception):
    """A contender's process ended before its time; what it said of that stands on standard error."""


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of each step for all rows, of the processor in all of them, and what the rows said.

    ``peak_mib``: the most that this process has had resident so far, loading included; ``resident_mib``: now.
    """

    mel_s: float
    encode_s: float
    decode_s: float
    cpu_s: float
    tokens: list[list[int]]
    peak_mib: float
    resident_mib: float

    @property
    def whole_s(self) -> float:
        return self.mel_s + self.encode_s + self.decode_s


@dataclass(frozen=True, slots=True)
class Ready:
    """A contender that can take part, or why it cannot."""

    detail: str = ""
    load_s: float = 0.0
    missing: str = ""


class Apart:
    """One contender's process. Use as a context; ``ready`` says then whether it takes part."""

    def __init__(self, entry: Entry, case: Case, folder: Path) -> None:
        self.entry, self.name = entry, entry.name
        context = multiprocessing.get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(entry, case, folder, self._theirs))
        self.ready = Ready()

    def __enter__(self) -> Apart:
        self._process.start()
        self._theirs.close()  # so that its end is noticed
        try:
            self.ready = self._hear(Ready)  # the next one starts only then
        except EndedError as error:
            self.ready = Ready(missing=f"failed: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it has ended already
            self._connection.send(0)
        self._process.join()
        self._connection.close()

    def round(self, rows: int) -> Round:
        """All of ``rows`` windows at once. Raises EndedError."""
        with suppress(BrokenPipeError):
            self._connection.send(rows)
        return self._hear(Round)

    def _hear(self, kind: type[T]) -> T:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise EndedError(f"its process ended with {self._process.exitcode}") from error
        if not isinstance(answer, kind):
            raise TypeError(f"{self.name} answered {answer!r}")
        return answer


def _serve(entry: Entry, case: Case, folder: Path, connection: Connection) -> None:
    began = time.perf_counter()
    try:
        contender = open_contender(entry, case, folder)
    except UnavailableError as error:
        connection.send(Ready(missing=str(error)))
        return
    connection.send(Ready(contender.detail, time.perf_counter() - began))
    with suppress(EOFError):  # nobody asks any more
        while rows := connection.recv():
            connection.send(one_round(contender, case, rows))


def one_round(contender: Contender, case: Case, rows: int) -> Round:
    """Audio in, tokens out, ``rows`` windows at once."""
    pcm = windows(rows)
    cpu_began = time.process_time()
    features, mel_s = _timed(lambda: contender.features(pcm))
    encoded, encode_s = _timed(lambda: contender.encode(features))
    tokens, decode_s = _timed(lambda: contender.decode(encoded))
    cpu_s = time.process_time() - cpu_began
    if [len(row) for row in tokens] != [case.new_tokens] * rows:
        raise RuntimeError(f"{[len(row) for row in tokens]} tokens; {case.new_tokens} a row were asked for")
    return Round(mel_s, encode_s, decode_s, cpu_s, tokens, _memory_mib("VmHWM"), _memory_mib("VmRSS"))


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def _memory_mib(name: str) -> float:
    """A line of ``/proc/self/status`` (proc(5)), in MiB; 0 where there is none."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return round(int(found[1]) * 1024 / MIB, 1) if found else 0.0


def prepared(name: str, new_tokens: int, taking_part: list[Entry], folder: Path) -> Case:
    """The case, with the files that ``taking_part`` load in ``folder`` and captiond's graphs compiled.

    In a process of its own, which ends: compiling and converting count for nobody's memory. Raises
    EndedError.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_prepare, args=(name, new_tokens, taking_part, folder, theirs))
    process.start()
    theirs.close()
    try:
        case = ours.recv()
    except EOFError as error:
        raise EndedError(f"{name} could not be prepared; why stands above") from error
    finally:
        process.join()
    if not isinstance(case, Case):
        raise TypeError(f"{case!r} is no case")
    return case


def _prepare(
    name: str, new_tokens: int, taking_part: list[Entry], folder: Path, connection: Connection
) -> None:
    config, tensors, tokenizer = weights_of(name)
    case = case_of(name, config, tokenizer, new_tokens)
    for file in sorted({entry.file for entry in taking_part}):
        try:
            write_formats(folder, config, tensors, [file])
        except ImportError as error:  # whoever wants it is not installed either, and says so
            print(f"  {file}: not written ({error})", file=sys.stderr)
    for entry in taking_part:
        if entry.kind == "captiond":
            try:
                open_contender(entry, case, folder)
            except UnavailableError as error:
                print(f"  {entry.name}: {error}", file=sys.stderr)
    connection.send(case)
