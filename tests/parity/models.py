"""The models that several tests share, compiled once a run (and kept on disk between runs)."""

from __future__ import annotations

import os
from functools import cache, lru_cache

from captiond_engine.decoding.rules import Suppression, default_suppression, suppression_for
from captiond_engine.models import BUNDLED
from captiond_engine.progress import ProgressEvent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import ROW_DECODERS, GraphCompiler
from captiond_engine.whisper.loading import (
    build_with,
    decoders,
    load_model,
    make_step_decoder,
    plain_choice,
    tokenizer_of,
)
from captiond_engine.whisper.model import WhisperModel
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import Checkpoint, read_checkpoint
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU

from tests.parity import seeded

# Rounded precisions whose whole model is compiled and compared; each costs two graphs.
PRECISIONS: tuple[Precision, ...] = tuple(
    name for name in ("bfloat16", "int8") if name in os.environ.get("CAPTIOND_PRECISIONS", "bfloat16 int8")
)


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
    checkpoint = bundled_checkpoint()
    tokenizer = tokenizer_of(checkpoint)
    rules = suppression_for(tokenizer, checkpoint.config.n_vocab, checkpoint.generation)
    return _decoded_by(kind, checkpoint.config, checkpoint.tensors, tokenizer, rules)


def _decoded_by(
    kind: str,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    tokenizer: WhisperTokenizer,
    rules: Suppression,
) -> WhisperModel:
    precisions = {kind: name for name, kind in ROW_DECODERS.items()}
    choices = decoders(CPU(), precisions.get(kind, "float32"))
    choice = next(choice for choice in choices if choice.kind == kind)
    compiler = GraphCompiler(CPU(), GraphStore(), tell)
    with ensure_default_mlir_context():
        found, error = build_with(choice, compiler, config, tensors, tokenizer, rules)
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


@lru_cache(maxsize=1)  # the larger sizes do not fit into memory all at once
def seeded_tensors(size: str) -> dict[str, Float32Array]:
    return seeded.tensors_of(size)


@lru_cache(maxsize=1)
def seeded_model(size: str, kind: str = "decode_float32") -> WhisperModel:
    """Random weights with the published vocabulary and no rules: every token may be said."""
    config = seeded.config_of(size)
    tokenizer, rules = seeded.tokenizer_of(size), Suppression.of(config.n_vocab)
    return _decoded_by(kind, config, seeded_tensors(size), tokenizer, rules)


@cache
def seeded_speaker(size: str) -> WhisperModel:
    """The same weights with the published multilingual vocabulary, so that options can be given as text."""
    config = seeded.config_of(size)
    tokenizer = seeded.tokenizer_of(size)
    rules = default_suppression(tokenizer, config.n_vocab)
    return _decoded_by("decode_float32", config, seeded_tensors(size), tokenizer, rules)


def sizes() -> list[str]:
    """Seeded sizes to test: CAPTIOND_PARITY_SIZES, or the smallest, as others compile for minutes."""
    return os.environ.get("CAPTIOND_PARITY_SIZES", "mini-v3").replace(",", " ").split()
