"""A model on the measured device, its two ways of decoding, and the clock.

``Lab`` builds models from stored graphs and compiles nothing unless it is told to, so that a part that lacks
its graph is skipped and says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from captiond_engine.decoding.rules import Suppression
from captiond_engine.progress import silent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import GraphCompiler, plain
from captiond_engine.whisper.loading import build_with, make_step_decoder, plain_choice
from captiond_engine.whisper.model import Encoding, Prompt, WhisperModel
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.step_state import Said
from max._mlir_context import ensure_default_mlir_context
from max.driver import Device

from engine.bench.gpu.cases import Case, case_of
from engine.bench.gpu.compiling import key_of

NEW_TOKENS = 50


class Skipped(Exception):
    """Why a part was not measured."""


@dataclass
class Lab:
    """Models of one device, built once each. ``left_s``: seconds that may still be used."""

    device: Device
    left_s: Callable[[], float]
    compile_here: bool = False
    _cases: dict[str, Case] = field(default_factory=dict)
    _built: dict[tuple[str, Precision], Subject] = field(default_factory=dict)

    def subject(self, size: str, precision: Precision) -> Subject:
        """The model, ready. Raises Skipped where its graphs are not stored."""
        key = (size, precision)
        if key not in self._built:
            self._need(size, precision, "encode", "decode")
            compiler = GraphCompiler(self.device, GraphStore(), silent)
            case = self._cases.setdefault(size, case_of(size))
            rules = Suppression.of(case.config.n_vocab)
            choice = plain_choice(precision)
            with ensure_default_mlir_context():
                model, error = build_with(choice, compiler, case.config, case.tensors, None, rules)
            if model is None:
                raise Skipped(f"the known-answer run is off by {error:.3g}")
            self._built[key] = Subject(case, precision, model, compiler, error, self)
        return self._built[key]

    def _need(self, size: str, precision: Precision, *kinds: str) -> None:
        if self.compile_here:
            return
        store = GraphStore()
        for kind in kinds:
            if store.load(key_of(size, kind, precision, self.device)) is None:
                raise Skipped(f"{size}: the {plain(kind, precision)} graph was not compiled in time")

    def steps(self, subject: Subject) -> StepDecoder:
        self._need(subject.case.name, subject.precision, "step", "listen")
        return make_step_decoder(
            subject.compiler, subject.case.config, subject.case.tensors, subject.precision
        )

    def forget(self, size: str) -> None:
        """Give the memory of a size back."""
        self._cases.pop(size, None)
        for key in [key for key in self._built if key[0] == size]:
            del self._built[key]


@dataclass
class Subject:
    """One model being measured. ``error``: of the known-answer run, relative to the largest value."""

    case: Case
    precision: Precision
    model: WhisperModel
    compiler: GraphCompiler
    error: float
    lab: Lab
    _steps: StepDecoder | None = None

    @property
    def steps(self) -> StepDecoder:
        if self._steps is None:
            self._steps = self.lab.steps(self)
        return self._steps

    def rules(self) -> Suppression:
        """End-of-text may not be said, so that all decodes are equally long."""
        return Suppression.of(self.case.config.n_vocab, always=[self.model._control_tokens()[0]])

    def loop(self, encoding: Encoding, tokens: int = NEW_TOKENS) -> list[list[int]]:
        """The whole greedy loop as one graph."""
        prompts = [Prompt(self.case.prompt)] * encoding.rows
        answer = self.model.greedy(
            encoding, prompts, max_new_tokens=tokens, suppression=self._kept_rules(self.rules)
        )
        return answer.tokens

    def step_by_step(self, encoding: Encoding, tokens: int = NEW_TOKENS, look_every: int = 8) -> Said:
        """The step graph, recorded where the device can."""
        rules = self._kept_rules(self.rules)
        return self.steps.greedy(
            [self.case.prompt] * encoding.rows,
            [0] * encoding.rows,
            (self.model._seats, encoding.seats),
            tokens,
            (rules.first, rules.always),
            self.model._control_tokens(),
            look_every=look_every,
        )

    def _kept_rules(self, make: Callable[[], Suppression]) -> Suppression:
        if not hasattr(self, "_rules"):
            self._rules = make()
        return self._rules

    def encode(self, mels: Float32Array) -> Encoding:
        encoding = self.model.encode(mels)
        wait(self.lab.device)
        return encoding


def wait(device: Device) -> None:
    """Until the device has done what it was given."""
    if not device.is_host:
        device.synchronize()


def median_ms(call: Callable[[], Any], rounds: int, warm: int = 2) -> float:
    """Median milliseconds of ``call``, which waits for its own end; ``warm`` calls are not counted."""
    taken = []
    for turn in range(rounds + warm):
        began = time.perf_counter()
        call()
        if turn >= warm:
            taken.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(taken), 3)


def agreement(mine: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> dict[str, float]:
    """Share of texts that are equal, and of tokens that are before the first difference."""
    whole = sum(list(a) == list(b) for a, b in zip(mine, theirs, strict=True))
    before = sum(
        next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in zip(mine, theirs, strict=True)
    )
    tokens = sum(map(len, theirs))
    return {"texts": round(whole / len(theirs), 3), "tokens": round(before / max(1, tokens), 3)}


def largest_difference(mine: Float32Array, theirs: Float32Array) -> float:
    """Largest absolute difference."""
    return float(np.abs(np.asarray(mine) - np.asarray(theirs)).max())
