"""From a checkpoint on disk to a model on a device, proven before use.

Takes a path, gives a WhisperModel. A stored graph is believed only after a known-answer run agrees with the
NumPy twin: a graph compiled for another processor was seen to load and compute silently wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU, Accelerator, Buffer, Device, accelerator_count
from max.dtype import DType

from captiond_engine.decoding.rules import Suppression, suppression_for
from captiond_engine.errors import DeviceError, ModelError
from captiond_engine.progress import Progress, ProgressEvent, silent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import decoder, reference, row_decoder
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.decoder import DecodeInputs
from captiond_engine.whisper.graphs import (
    PLAIN_TYPES,
    ROW_DECODERS,
    ROW_ENCODERS,
    GraphCompiler,
    GraphStore,
    graph_key,
    plain,
)
from captiond_engine.whisper.model import CHECK_HOPS, CHECK_TOKENS, Prompt, WhisperModel
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.wakeups import rare_wakeups
from captiond_engine.whisper.weights import Checkpoint, expected_shapes

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
        return WhisperTokenizer.from_hugging_face(checkpoint.path, checkpoint.config)
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
                raise
            compiler.progress(ProgressEvent("compile", f"the kernels do not compile here: {trouble}"))
        else:
            if found is not None:
                if choice.precision != precision:
                    instead = f"decoding in {choice.precision} with the plain graph, not in {precision}"
                    compiler.progress(ProgressEvent("check", instead))
                return found
            compiler.progress(ProgressEvent("check", f"the {choice.kind} graph is off by {error:.2g} here"))
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
    return DecoderChoice(*kinds, decoder.prompt_inputs, precision)


def decoders(device: Device, precision: Precision) -> list[DecoderChoice]:
    """The ways of decoding on ``device``, the best first; the last one works everywhere, in float32.

    A GPU has no int8 here: bfloat16 is the nearest.
    """
    exact = plain_choice("float32")
    if device.label != "cpu":
        return [exact] if precision == "float32" else [plain_choice("bfloat16"), exact]
    kinds = ROW_DECODERS[precision], ROW_ENCODERS[precision]
    return [DecoderChoice(*kinds, row_decoder.prompt_inputs, precision, by_rows=True), exact]


def build_with(
    choice: DecoderChoice,
    compiler: GraphCompiler,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    tokenizer: WhisperTokenizer | None,
    rules: Suppression,
) -> tuple[WhisperModel | None, float]:
    """A model with this decoder, or None, and how far it is off. Stored graphs that are off are made anew."""
    error = float("inf")
    for attempt in range(2):
        with (
            ensure_default_mlir_context()
        ):  # graphs want it; only the thread that imported MAX has entered it
            made = {kind: compiler.make(kind, config, tensors) for kind in (choice.encode_kind, choice.kind)}
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
        if error <= TOLERANCE[choice.precision]:
            return model, error
        if attempt or not compiler.from_store:
            break
        for kind in compiler.from_store:
            compiler.store.forget(graph_key(kind, config, compiler.device))
    return None, error


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


def known_answer_error(model: WhisperModel, tensors: dict[str, Float32Array]) -> float:
    """Largest difference to the NumPy twin, relative to the largest value; what is not finite counts 1e9.

    Looked at: encoder output, logits after a prompt, and the log-probability of a token after that.
    """
    config = model.config
    rng = np.random.default_rng(20_26)
    mel = rng.standard_normal((config.n_mels, CHECK_HOPS)).astype(np.float32) * np.float32(0.4)
    tokens = tuple(int(token) for token in rng.integers(0, config.n_vocab, CHECK_TOKENS))
    encoding = model.encode(mel[None])
    assert encoding.encoded is not None  # one window
    answer = model.greedy(
        encoding, [Prompt(tokens)], max_new_tokens=2, suppression=Suppression.of(config.n_vocab)
    )
    expected = reference.encode(config, tensors, mel)
    said = answer.tokens[0]
    logits = reference.logits(config, tensors, expected, (*tokens, *said[:1]))[-2:]
    shifted = logits[1] - logits[1].max()
    second = shifted[said[1:]] - np.log(np.exp(shifted).sum())  # empty where the first ended the text
    pairs = [
        (encoding.encoded.to_numpy()[0], expected),
        (answer.first_logits.to_numpy()[0], logits[0]),
        (np.array(answer.log_probabilities[0][1:]), second),
    ]
    errors = [
        float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6)) for got, want in pairs if want.size
    ]
    return max(error if np.isfinite(error) else 1e9 for error in errors)


def _check_all_used(config: WhisperConfig, used: set[str]) -> None:
    unused = expected_shapes(config).keys() - used
    if unused:
        raise ModelError(f"The graphs do not use {', '.join(sorted(unused)[:6])}.", code="graph_incomplete")
