"""From a checkpoint on disk to a model on a device, proven before use.

Takes a path, gives a WhisperModel. A stored graph is believed only after a known-answer run agrees with the
NumPy twin: a graph compiled for another processor was seen to load and compute silently wrong numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple

from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU, Accelerator, Buffer, Device, accelerator_count
from max.dtype import DType
from max.engine import Model

from captiond_engine.decoding.rules import Suppression, suppression_for
from captiond_engine.errors import DeviceError, ModelError
from captiond_engine.progress import Progress, ProgressEvent, silent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import decode_inputs, row_decoder
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.decode_inputs import DecodeInputs
from captiond_engine.whisper.graph_store import Facts, GraphStore
from captiond_engine.whisper.graphs import PLAIN_TYPES, ROW_DECODERS, ROW_ENCODERS, GraphCompiler, plain
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.model import WhisperModel
from captiond_engine.whisper.proof import known_answer_error
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.wakeups import rare_wakeups
from captiond_engine.whisper.weights import Checkpoint, expected_shapes

SHIPPED = "running the graphs that came with captiond; 'captiond models compile' makes this machine's own"
# Relative to the largest value. float32 gives 1e-5; a graph that is wrong is off by more than 1.
TOLERANCE: dict[Precision, float] = {"float32": 2e-2, "bfloat16": 5e-2, "int8": 2e-1}


def choose_device(name: str) -> Device:
    """``cpu``, ``gpu`` or ``auto`` (the GPU where there is one). Raises DeviceError."""
    if name not in ("auto", "cpu", "gpu"):
        raise DeviceError(
            f"Device {name!r} is not known.", advice="Choose auto, cpu or gpu.", code="device_unknown"
        )
    has_gpu = name != "cpu" and accelerator_count() > 0
    if name == "gpu" and not has_gpu:
        raise DeviceError(
            "No GPU that MAX can use was found.",
            advice="Check the driver, or use --set model.device=cpu.",
            code="device_missing",
        )
    if not has_gpu:
        return CPU()
    try:
        found = Accelerator()
        why = "" if found.is_compatible else f"MAX does not run on {found.architecture_name}"
    except (RuntimeError, ValueError) as error:  # a driver that is too old, or a device that is taken
        why = str(error)
    if why:
        raise DeviceError(
            f"The GPU that was found cannot be used: {why}.",
            advice="Check the driver, or use --set model.device=cpu.",
            code="device_unusable",
        )
    return found


def tokenizer_of(checkpoint: Checkpoint) -> WhisperTokenizer:
    """The tokenizer that belongs to a checkpoint."""
    if checkpoint.path.is_dir():
        return WhisperTokenizer.from_hugging_face(checkpoint.path, checkpoint.config, checkpoint.generation)
    return WhisperTokenizer.from_published(checkpoint.config)


def load_model(
    checkpoint: Checkpoint,
    device: Device,
    *,
    precision: Precision = "float32",
    store: GraphStore | None = None,
    progress: Progress = silent,
) -> WhisperModel:
    """A model ready to run. Compiles where nothing stored fits. Raises ModelError, DeviceError."""
    tokenizer = tokenizer_of(checkpoint)
    rules = suppression_for(tokenizer, checkpoint.config.n_vocab, checkpoint.generation)
    return build_model(
        checkpoint.config,
        checkpoint.tensors,
        device,
        tokenizer,
        rules,
        precision=precision,
        store=store,
        progress=progress,
    )


class OwnGraph(NamedTuple):
    """A graph of this machine's own; ``stored``: what the store knows of it, None where it cannot keep it."""

    kind: str
    origin: str
    stored: Facts | None


def own_graphs(
    checkpoint: Checkpoint,
    device: Device,
    *,
    precision: Precision = "float32",
    store: GraphStore | None = None,
    progress: Progress = silent,
) -> list[OwnGraph]:
    """The graphs of a model, compiled for this machine where they are not stored yet, and proven.

    Raises ModelError, DeviceError.
    """
    compiler = GraphCompiler(device, store or GraphStore(), progress, shipped=None)
    config, rules = checkpoint.config, Suppression.of(checkpoint.config.n_vocab)
    with ensure_default_mlir_context():
        _build_proven(compiler, config, checkpoint.tensors, None, rules, precision)
    return [
        OwnGraph(kind, origin, compiler.store.facts(compiler.facts[kind].key))
        for kind, origin in compiler.origins.items()
    ]


def build_model(
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    device: Device,
    tokenizer: WhisperTokenizer | None = None,
    suppression: Suppression | None = None,
    *,
    precision: Precision = "float32",
    store: GraphStore | None = None,
    progress: Progress = silent,
) -> WhisperModel:
    """A model from tensors in memory; without a tokenizer it can be run by tokens only."""
    with ensure_default_mlir_context():  # MAX enters it only in the thread that imported MAX
        compiler = GraphCompiler(device, store or GraphStore(), progress)
        return _build_proven(
            compiler, config, tensors, tokenizer, suppression or Suppression.of(config.n_vocab), precision
        )


def _build_proven(
    compiler: GraphCompiler,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    tokenizer: WhisperTokenizer | None,
    rules: Suppression,
    precision: Precision,
) -> WhisperModel:
    """Graphs that gave the known answer, made by the first decoder that can be compiled and gives it."""
    error = float("inf")
    for choice in decoders(compiler.device, precision):
        try:
            found, error = build_with(choice, compiler, config, tensors, tokenizer, rules)
        except (RuntimeError, ValueError) as trouble:
            if choice.kind == "decode":
                raise DeviceError(
                    f"The model's graphs could not be compiled here: {trouble}.",
                    advice="It takes about 2 GB of memory, and room where CAPTIOND_CACHE_DIR lies.",
                    code="compile_failed",
                ) from trouble
            compiler.progress(ProgressEvent("compile", f"the kernels do not compile here: {trouble}"))
        else:
            if found is not None:
                if choice.precision != precision:
                    instead = f"decoding in {choice.precision} with the plain graph, not in {precision}"
                    compiler.progress(ProgressEvent("check", instead))
                if "shipped" in compiler.origins.values():
                    compiler.progress(ProgressEvent("check", SHIPPED))
                return found
    raise ModelError(
        f"The compiled graphs compute wrong numbers here (off by {error:.2g} of the largest value).",
        advice="Please report this with the processor's name and the version of max.",
        code="graph_wrong",
    )


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """One way of decoding: its kind of graph, its first inputs, and the precision of its weights."""

    kind: str
    encode_kind: str  # the encoder that leaves K/V as this decoder takes them
    prompt_inputs: Callable[[DecodeInputs, Device], list[Buffer]]
    precision: Precision
    by_rows: bool = False

    @property
    def cached(self) -> DType:
        """Type of the decoder's own K/V: kernels over rows keep float32, plain graphs their precision."""
        return PLAIN_TYPES["float32" if self.by_rows else self.precision]


def plain_choice(precision: Precision) -> DecoderChoice:
    """MAX's own operations, float32 or bfloat16: what a device other than a CPU decodes with."""
    kinds = plain("decode", precision), plain("encode", precision)
    return DecoderChoice(*kinds, decode_inputs.prompt_inputs, precision)


def decoders(device: Device, precision: Precision) -> list[DecoderChoice]:
    """The ways of decoding on ``device``, the best first; the last one works everywhere, in float32.

    A GPU has no int8 here: bfloat16 is the nearest.
    """
    exact = plain_choice("float32")
    if device.label != "cpu":
        return [exact] if precision == "float32" else [plain_choice("bfloat16"), exact]
    kinds = ROW_DECODERS[precision], ROW_ENCODERS[precision]
    return [DecoderChoice(*kinds, row_decoder.prompt_inputs, precision, by_rows=True), exact]


def kinds_of(device: Device, precision: Precision) -> tuple[str, str]:
    """The kinds of graphs that a model is made of on ``device``: encoder and decoder."""
    choice = decoders(device, precision)[0]
    return choice.encode_kind, choice.kind


def build_with(
    choice: DecoderChoice,
    compiler: GraphCompiler,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    tokenizer: WhisperTokenizer | None,
    rules: Suppression,
) -> tuple[WhisperModel | None, float]:
    """A model with this decoder, or None, and how far it is off. Stored graphs that are off are made anew."""
    made: dict[str, tuple[Model, WeightBank]] = {}
    while True:
        with ensure_default_mlir_context():  # only the thread that imported MAX has entered it
            for kind in (choice.encode_kind, choice.kind):
                made[kind] = made.get(kind) or compiler.make(kind, config, tensors)
        _check_all_used(config, made[choice.encode_kind][1].used | made[choice.kind][1].used)
        model = WhisperModel(
            config,
            tokenizer,
            rules,
            compiler.device,
            made[choice.encode_kind],
            made[choice.kind],
            choice.prompt_inputs,
            choice.precision,
            row_decoder.kept_type(choice.precision),
            choice.cached,
        )
        compiler.progress(ProgressEvent("check", "checking the graphs against a known answer"))
        with rare_wakeups() if compiler.device.is_host else nullcontext():
            error = known_answer_error(model, tensors)
        tolerance = TOLERANCE[choice.precision]
        if error.worst <= tolerance:
            for _, bank in made.values():
                bank.release()
            return model, error.worst
        # With a wrong encoder a decoder has nothing to go by; with a right one its K/V may still be wrong.
        encode_kind = choice.encode_kind
        suspects = [encode_kind] if error.encoder > tolerance else [choice.kind, encode_kind]
        compiler.progress(ProgressEvent("check", f"the {suspects[0]} graph is off by {error.worst:.2g} here"))
        wrong = next((kind for kind in suspects if compiler.distrust(kind)), None)
        if wrong is None:
            return None, error.worst
        del made[wrong]


def make_step_decoder(
    compiler: GraphCompiler,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    precision: Precision,
    *,
    record: bool | None = None,
) -> StepDecoder:
    """The decoder that runs pass by pass over the seats of a plain model of ``precision``.

    Compiled only here, where it is wanted. ``record``: as for StepDecoder; by default all but CPUs do.
    """
    with ensure_default_mlir_context():
        (step, bank), (listen, _) = (
            compiler.make(plain(kind, precision), config, tensors) for kind in ("step", "listen")
        )
    return StepDecoder(
        config,
        compiler.device,
        (step, bank),
        listen,
        PLAIN_TYPES[precision],
        record=not compiler.device.is_host if record is None else record,
    )


def return_memory() -> None:
    """Give back to the system what loading took and freed (malloc_trim(3)), where there is such a call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _check_all_used(config: WhisperConfig, used: set[str]) -> None:
    unused = expected_shapes(config).keys() - used
    if unused:
        raise ModelError(f"The graphs do not use {', '.join(sorted(unused)[:6])}.", code="graph_incomplete")
