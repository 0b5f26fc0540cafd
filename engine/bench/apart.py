"""A contender in a process of its own, that does one round when it is told to and sleeps in between.

Takes a case's name and a contender's, gives seconds and tokens. So nobody is measured beside the threads,
allocator or math library of another one.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from captiond_engine.models import BUNDLED
from captiond_engine.types import PromptSpec
from captiond_engine.whisper.loading import build_model
from captiond_engine.whisper.packed import PRECISIONS
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import read_checkpoint
from max.driver import CPU

from engine.bench.contenders import Captiond, Case, Contender, CTranslate2, OpenAIWhisper
from tests.parity import seeded


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of one encode and one decode of all rows, and the first row's tokens."""

    encode_s: float
    decode_s: float
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part: ``kind`` captiond, openai-whisper or ctranslate2; ``threads`` 0: its own choice."""

    kind: str
    precision: str
    threads: int = 0

    @property
    def name(self) -> str:
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.kind} ({self.precision}{threads})"


def entries(threads: int, rows: int) -> list[Entry]:
    """captiond in each precision and its peers; with several rows those that take a batch."""
    counts = sorted({1, threads})
    ours = [Entry("captiond", precision) for precision in PRECISIONS]
    torch = [Entry("openai-whisper", "float32", threads)] if rows == 1 else []
    peers = [Entry("ctranslate2", precision, count) for precision in ("float32", "int8") for count in counts]
    return [*ours, *torch, *peers]


def case_of(name: str) -> Case:
    """``demo-en``, or seeded random weights at a real size."""
    if name == "demo-en":
        checkpoint = read_checkpoint(BUNDLED / name)
        tokenizer = WhisperTokenizer.from_hugging_face(BUNDLED / name, checkpoint.config)
        config, tensors = checkpoint.config, checkpoint.tensors
    else:
        config, tensors = seeded.config_of(name), seeded.tensors_of(name)
        tokenizer = WhisperTokenizer.from_published(config)
    prompt, _ = tokenizer.prompt(PromptSpec(), language="en")
    return Case(name, config, tensors, tuple(prompt), (tokenizer.end_of_text,))


def _contender(entry: Entry, case: Case, folder: Path) -> Contender:
    if entry.kind == "openai-whisper":
        return OpenAIWhisper(case, entry.threads)
    if entry.kind == "ctranslate2":
        return CTranslate2(case, folder, entry.precision, entry.threads)
    precision = next(one for one in PRECISIONS if one == entry.precision)
    model = build_model(
        case.config, case.tensors, CPU(), precision=precision, progress=lambda e: print(e.message)
    )
    if model.precision != precision:
        raise SystemExit(f"{precision} does not run here")
    return Captiond(case, model)


class Apart:
    """One contender's process. Use as a context."""

    def __init__(self, entry: Entry, case: str, folder: Path, rows: int) -> None:
        self.name = entry.name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(entry, case, folder, rows, theirs))

    def __enter__(self) -> Apart:
        self._process.start()
        self._connection.recv()  # ready: the next one starts only then
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.send(False)
        self._process.join()

    def round(self) -> Round:
        self._connection.send(True)
        answer: Round = self._connection.recv()
        return answer


def _serve(entry: Entry, name: str, folder: Path, rows: int, connection: Connection) -> None:
    case = case_of(name)
    contender = _contender(entry, case, folder)
    mels = np.concatenate([seeded.mels(1)] * rows)
    connection.send(True)
    while connection.recv():
        encoded, encode_s = _timed(lambda: contender.encode(mels))
        tokens, decode_s = _timed(lambda: contender.decode(encoded))  # noqa: B023  # called at once
        connection.send(Round(encode_s, decode_s, tokens))


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began
