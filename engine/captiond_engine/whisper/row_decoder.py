"""The decoder graph for CPUs: the greedy decode of ``decoder``, over rows, made of this package's kernels.

A row is (token, slot, position, wants): see ``kernels/__init__.mojo``. Prompts of all slots are one pass of
rows, unequal as they are; each further pass has one row for each slot that goes on. Each slot names the seat
that it listens to, and how many positions were heard there. Outputs, caches and seats are those of
``decoder``, so that either can take the other's place; with weights that are not float32 seats are bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.graph import BufferType, BufferValue, Graph, TensorType, TensorValue, ops
from numpy.typing import NDArray

from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.decode_inputs import DecodeInputs
from captiond_engine.whisper.kernels import KERNELS, Kernels
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank
from captiond_engine.whisper.packed_weights import PackedBank, PackedBlock
from captiond_engine.whisper.sketch import library

I32 = DType.int32
WANTED, START = 1, 2  # as in kernels/tokens.mojo


def prompt_rows(prompts: Sequence[Sequence[int]], starts: Sequence[int], context: int) -> NDArray[np.int32]:
    """Rows int32 [R, 4] of ``prompts``, one slot each; ``starts``: where start-of-transcript stands in them.

    Raises DeviceError where a prompt is longer than the text context: nothing past it may reach a kernel.
    """
    rows = []
    for slot, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        if len(prompt) >= context:
            raise DeviceError(f"A prompt of {len(prompt)} tokens leaves no room in {context} positions.")
        for position, token in enumerate(prompt):
            wants = WANTED * (position == len(prompt) - 1) + START * (position == start)
            rows.append((token, slot, position, wants))
    return np.array(rows, np.int32)


def prompt_inputs(decode: DecodeInputs, device: Device) -> list[Buffer]:
    """The first inputs of the graph, up to the suppression masks. Raises DeviceError."""
    rows = prompt_rows(decode.prompts, decode.starts, decode.context)
    longest = max(len(prompt) for prompt in decode.prompts)
    if longest + decode.max_new > decode.context:
        raise DeviceError(
            f"{decode.max_new} tokens after a prompt of {longest} do not fit in {decode.context} positions."
        )
    arrays = (
        rows,
        np.array([len(rows), 0, decode.max_new], np.int32),
        np.zeros(len(decode.prompts), np.float32),
        np.array([(seat.index, seat.positions) for seat in decode.seats], np.int32),
        np.array([decode.end_of_text], np.int32),
        np.array([decode.no_speech], np.int32),
    )
    return [Buffer.from_numpy(array).to(device) for array in arrays]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The graph's inputs by name, in their order."""

    rows: TensorValue
    counts: TensorValue
    slots: TensorValue
    seats: TensorValue
    end_of_text: TensorValue
    no_speech: TensorValue
    suppress_first: TensorValue
    suppress: TensorValue
    out_tokens: BufferValue
    out_log_probabilities: BufferValue
    attended: BufferValue
    keys: list[BufferValue]
    values: list[BufferValue]
    cross: list[BufferValue]


def kept_type(precision: Precision) -> DType:
    """Of the encoder's K/V in their seats: with rounded weights half as many bytes for each token."""
    return F32 if precision == "float32" else DType.bfloat16


def _input_types(config: WhisperConfig, precision: Precision) -> list[TensorType | BufferType]:
    heads, context, depth = config.n_text_head, config.n_text_ctx, config.n_text_layer
    return [
        TensorType(I32, ("R", 4), CPU),
        TensorType(I32, (3,), CPU),
        TensorType(F32, ("B",), CPU),
        TensorType(I32, ("B", 2), CPU),
        TensorType(I32, (1,), CPU),
        TensorType(I32, (1,), CPU),
        TensorType(F32, (config.n_vocab,), CPU),
        TensorType(F32, (config.n_vocab,), CPU),
        BufferType(I64, ("B", context), CPU),
        BufferType(F32, ("B", context), CPU),
        BufferType(F32, ("B", context, len(config.aligned_by), config.n_audio_ctx), CPU),
        *[BufferType(F32, ("B", heads, context, HEAD_WIDTH), CPU)] * (2 * depth),
        *[BufferType(kept_type(precision), ("W", heads, config.n_audio_ctx, HEAD_WIDTH), CPU)] * (2 * depth),
    ]


def _read_inputs(config: WhisperConfig, graph: Graph) -> _Inputs:
    depth = config.n_text_layer
    tensors = [layers.tensor_of(value) for value in graph.inputs[:8]]
    buffers = [layers.buffer_of(value) for value in graph.inputs[8:]]
    return _Inputs(
        **dict(zip((field.name for field in fields(_Inputs)), tensors, strict=False)),
        out_tokens=buffers[0],
        out_log_probabilities=buffers[1],
        attended=buffers[2],
        keys=buffers[3 : 3 + depth],
        values=buffers[3 + depth : 3 + 2 * depth],
        cross=buffers[3 + 2 * depth :],
    )


def build(
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    precision: Precision,
    kernels: Kernels,
) -> tuple[Graph, WeightBank]:
    """The greedy decode graph; inputs as ``_Inputs``, outputs as ``decoder.build``."""
    bank = PackedBank(tensors, CPU, precision)
    types = _input_types(config, precision)
    with Graph("whisper_row_decode", input_types=types, **library(KERNELS)) as graph:
        inputs = _read_inputs(config, graph)
        passes = _Passes(config, bank, inputs, kernels)
        next_rows, logits, silence = passes.prompt()
        sums, counts = passes.loop(next_rows, logits)
        graph.output(ops.reshape(counts[1:2], []), sums, silence, logits)
    return graph, bank


class _Passes:
    """The decoder's layers as calls of kernels."""

    def __init__(self, config: WhisperConfig, bank: PackedBank, inputs: _Inputs, kernels: Kernels) -> None:
        self.config, self.inputs, self.kernels = config, inputs, kernels
        self.slots = inputs.slots.shape[0]
        self.places = bank.weight("decoder.positional_embedding")
        self.vocabulary = bank.linear("decoder.token_embedding")
        self.last_norm = bank.norm("decoder.ln")
        # What a token reads most of is the vocabulary: of float32 only what may matter (kernels/likely.mojo).
        self.rounded = bank.rounded("decoder.token_embedding") if bank.precision == "float32" else None
        self.blocks = [PackedBlock.of(bank, f"decoder.blocks.{n}") for n in range(config.n_text_layer)]

    def prompt(self) -> tuple[TensorValue, TensorValue, TensorValue]:
        """All prompts in one pass: wanted rows [B, 4], their logits [B, V], no-speech probability [B, 1]."""
        inputs, slots, width = self.inputs, self.slots, self.config.n_text_state
        x = self._layers(inputs.rows, inputs.counts)
        chosen, rows, counts = self.kernels.call(
            "captiond_wanted", [x, inputs.rows], (F32, 2 * slots, width), (I32, slots, 4), (I32, 1)
        )
        both = self._logits(chosen, counts)
        [silence] = self.kernels.call(
            "captiond_probability", [both, counts, inputs.no_speech], (F32, slots, 1)
        )
        wanted = slice(0, ops.shape_to_tensor([slots])[0])
        return rows, ops.slice_tensor(both, [(wanted, slots), slice(None)]), silence

    def loop(self, rows: TensorValue, logits: TensorValue) -> tuple[TensorValue, TensorValue]:
        """Choose and append until no row goes on; summed log-probabilities [B] and counts."""
        inputs = self.inputs
        slots = ops.broadcast_to(ops.cast(self.slots_count(), I32), [1])
        counts = ops.concat([slots, inputs.counts[1:]])
        state = self._choose(logits, rows, counts, inputs.slots, first=True)

        def goes_on(rows: TensorValue, counts: TensorValue, sums: TensorValue) -> TensorValue:
            return ops.reshape(counts[0:1], []) > 0

        def body(rows: TensorValue, counts: TensorValue, sums: TensorValue) -> list[TensorValue]:
            logits = self._likely(self._layers(rows, counts), counts)
            return self._choose(logits, rows, counts, sums, first=False)

        _, counts, sums = ops.while_loop(state, goes_on, body)
        return sums, counts

    def slots_count(self) -> TensorValue:
        return ops.shape_to_tensor([self.slots])

    def _choose(
        self, logits: TensorValue, rows: TensorValue, counts: TensorValue, sums: TensorValue, *, first: bool
    ) -> list[TensorValue]:
        inputs = self.inputs
        return self.kernels.call(
            "captiond_choose",
            [
                logits,
                inputs.suppress,
                inputs.suppress_first,
                inputs.end_of_text,
                rows,
                counts,
                sums,
                inputs.out_tokens,
                inputs.out_log_probabilities,
            ],
            (I32, self.slots, 4),
            (I32, 3),
            (F32, self.slots),
            FIRST=int(first),
        )

    def _layers(self, rows: TensorValue, counts: TensorValue) -> TensorValue:
        """Embedding and all blocks: rows [R, 4] to [R, E]."""
        count, width, inputs = rows.shape[0], self.config.n_text_state, self.inputs
        vocabulary = [self.vocabulary.weights, self.vocabulary.scales]
        [x] = self.kernels.call(
            "captiond_embed", [rows, counts, *vocabulary, self.places], (F32, count, width)
        )
        for n, block in enumerate(self.blocks):
            qkv = self.kernels.project(x, block.self_norm, block.qkv, counts, 3 * width)
            cache = [inputs.keys[n], inputs.values[n]]
            [mixed] = self.kernels.call(
                "captiond_self_attention", [qkv, rows, counts, *cache], (F32, count, width)
            )
            x = self.kernels.add(x, mixed, block.self_out, counts)
            query = self.kernels.project(x, block.cross_norm, block.query, counts, width)
            heard = [inputs.seats, self._watched(n), *inputs.cross[2 * n : 2 * n + 2], inputs.attended]
            [mixed] = self.kernels.call(
                "captiond_cross_attention", [query, rows, counts, *heard], (F32, count, width)
            )
            x = self.kernels.add(x, mixed, block.cross_out, counts)
            wide = self.kernels.project(x, block.mlp_norm, block.widen, counts, 4 * width, after="_gelu")
            x = self.kernels.add(x, wide, block.narrow, counts)
        return x

    def _watched(self, layer: int) -> TensorValue:
        """Where the weights of this layer's heads are kept, int32 [H]; -1: nowhere."""
        places = np.full(self.config.n_text_head, -1, np.int32)
        for place, (of, head) in enumerate(self.config.aligned_by):
            if of == layer:
                places[head] = place
        return ops.constant(places, I32, device=CPU)

    def _likely(self, x: TensorValue, counts: TensorValue) -> TensorValue:
        """Logits [R, V] for choosing the likeliest token, under the mask that holds for every token."""
        if self.rounded is None:
            return self._logits(x, counts)
        values = [x, self.last_norm, *self.vocabulary.values, *self.rounded, self.inputs.suppress, counts]
        [logits] = self.kernels.call("captiond_likely_logits", values, (F32, x.shape[0], self.config.n_vocab))
        return logits

    def _logits(self, x: TensorValue, counts: TensorValue) -> TensorValue:
        return self.kernels.project(x, self.last_norm, self.vocabulary, counts, self.config.n_vocab)
