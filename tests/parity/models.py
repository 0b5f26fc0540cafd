"""The models that several tests share, compiled once a run (and kept on disk between runs)."""

from __future__ import annotations

import os
from functools import cache

from captiond_engine.decoding.rules import suppression_for
from captiond_engine.models import BUNDLED
from captiond_engine.progress import ProgressEvent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper.graphs import ROW_DECODERS, GraphCompiler, GraphStore
from captiond_engine.whisper.loading import (
    build_model,
    build_with,
    decoders,
    load_model,
    make_step_decoder,
    plain_choice,
    tokenizer_of,
)
from captiond_engine.whisper.model import WhisperModel
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.weights import Checkpoint, read_checkpoint
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU

from tests.parity import seeded


def tell(event: ProgressEvent) -> None:
    """Compiling takes minutes the first time; say so even when pytest captures."""
    estimate = f", about {event.estimate_s:.0f} s" if event.estimate_s and not event.done else ""
    os.write(2, f"\n[{event.stage}] {event.message}{estimate}\n".encode())


@cache
def bundled_checkpoint() -> Checkpoint:
    return read_checkpoint(BUNDLED / "demo-en")


@cache
def bundled_model() -> WhisperModel:
    return load_model(bundled_checkpoint(), CPU(), progress=tell)


@cache
def bundled_decoded_by(kind: str) -> WhisperModel:
    """The bundled model with one of the decoders that a CPU has: ``decode`` is the plain graph."""
    checkpoint, precisions = bundled_checkpoint(), {kind: name for name, kind in ROW_DECODERS.items()}
    rules = suppression_for(tokenizer_of(checkpoint), checkpoint.config.n_vocab, checkpoint.generation)
    choices = decoders(CPU(), precisions.get(kind, "float32"))
    choice = next(choice for choice in choices if choice.kind == kind)
    compiler = GraphCompiler(CPU(), GraphStore(), tell)
    tokenizer = tokenizer_of(checkpoint)
    with ensure_default_mlir_context():
        found, error = build_with(choice, compiler, checkpoint.config, checkpoint.tensors, tokenizer, rules)
    assert found is not None, f"{kind} is off by {error}"
    return found


@cache
def bundled_plain(precision: Precision) -> WhisperModel:
    """The bundled model by MAX's own operations alone, as a device other than a CPU runs it."""
    checkpoint, compiler = bundled_checkpoint(), GraphCompiler(CPU(), GraphStore(), tell)
    tokenizer = tokenizer_of(checkpoint)
    rules = suppression_for(tokenizer, checkpoint.config.n_vocab, checkpoint.generation)
    found, error = build_with(
        plain_choice(precision), compiler, checkpoint.config, checkpoint.tensors, tokenizer, rules
    )
    assert found is not None, f"{precision} is off by {error}"
    return found


@cache
def bundled_steps(precision: Precision = "float32") -> StepDecoder:
    checkpoint, compiler = bundled_checkpoint(), GraphCompiler(CPU(), GraphStore(), tell)
    return make_step_decoder(compiler, checkpoint.config, checkpoint.tensors, precision)


@cache
def seeded_tensors(size: str) -> dict[str, Float32Array]:
    return seeded.tensors_of(size)


@cache
def seeded_model(size: str, precision: Precision = "float32") -> WhisperModel:
    config, tensors = seeded.config_of(size), seeded_tensors(size)
    return build_model(config, tensors, CPU(), precision=precision, progress=tell)


def sizes() -> list[str]:
    """Seeded sizes to test: CAPTIOND_PARITY_SIZES, or tiny alone, as each other one compiles for minutes."""
    return os.environ.get("CAPTIOND_PARITY_SIZES", "tiny").replace(",", " ").split()
