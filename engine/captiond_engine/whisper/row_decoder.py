"""The decoder graph for CPUs: the greedy decode of ``decoder``, over rows, made of this package's kernels.

A row is (token, slot, position, wants): see ``kernels/__init__.mojo``. Prompts of all slots are one pass of
rows, unequal as they are; each further pass has one row for each slot that goes on. Outputs, caches and the
encoder's cross K/V are those of ``decoder``, so that either can take the other's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.graph import BufferType, BufferValue, Dim, Graph, TensorType, TensorValue, Weight, ops
from numpy.typing import NDArray

import captiond_engine
from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.decoder import DecodeInputs
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank
from captiond_engine.whisper.packed_weights import PackedBank, PackedBlock, PackedLinear
from captiond_engine.whisper.sketch import library

KERNELS = Path(str(captiond_engine.__file__)).parent / "kernels"
I32 = DType.int32
HANDS = 1  # threads that share large layers
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
        np.array([decode.end_of_text], np.int32),
        np.array([decode.no_speech], np.int32),
    )
    return [Buffer.from_numpy(array).to(device) for array in arrays]


def kernel_source() -> bytes:
    """The text of all kernels, for the key of a stored graph."""
    return b"".join(path.read_bytes() for path in sorted(KERNELS.glob("*.mojo")))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The graph's inputs by name, in their order."""

    rows: TensorValue
    counts: TensorValue
    slots: TensorValue
    end_of_text: TensorValue
    no_speech: TensorValue
    suppress_first: TensorValue
    suppress: TensorValue
    out_tokens: BufferValue
    out_log_probabilities: BufferValue
    keys: list[BufferValue]
    values: list[BufferValue]
    cross: list[TensorValue]


def _input_types(config: WhisperConfig) -> list[TensorType | BufferType]:
    heads, context, depth = config.n_text_head, config.n_text_ctx, config.n_text_layer
    return [
        TensorType(I32, ("R", 4), CPU),
        TensorType(I32, (3,), CPU),
        TensorType(F32, ("B",), CPU),
        TensorType(I32, (1,), CPU),
        TensorType(I32, (1,), CPU),
        TensorType(F32, (config.n_vocab,), CPU),
        TensorType(F32, (config.n_vocab,), CPU),
        BufferType(I64, ("B", context), CPU),
        BufferType(F32, ("B", context), CPU),
        *[BufferType(F32, ("B", heads, context, HEAD_WIDTH), CPU)] * (2 * depth),
        *[TensorType(F32, ("B", heads, "S", HEAD_WIDTH), CPU)] * (2 * depth),
    ]


def _read_inputs(config: WhisperConfig, graph: Graph) -> _Inputs:
    depth = config.n_text_layer
    buffers = [layers.buffer_of(value) for value in graph.inputs[7 : 9 + 2 * depth]]
    tensors = [layers.tensor_of(value) for value in graph.inputs[:7]]
    return _Inputs(
        **dict(zip((field.name for field in fields(_Inputs)), tensors, strict=False)),
        out_tokens=buffers[0],
        out_log_probabilities=buffers[1],
        keys=buffers[2 : 2 + depth],
        values=buffers[2 + depth :],
        cross=[layers.tensor_of(value) for value in graph.inputs[9 + 2 * depth :]],
    )


def build(
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    precision: Precision,
    lanes: int,
    hands: int = HANDS,
) -> tuple[Graph, WeightBank]:
    """The greedy decode graph; inputs as ``_Inputs``, outputs as ``decoder.build``.

    ``lanes``: width of the kernels' vectors, see ``cpu.lanes``; ``hands``: threads, 1 or 2.
    """
    bank = PackedBank(tensors, CPU, precision)
    with Graph("whisper_row_decode", input_types=_input_types(config), **library(KERNELS)) as graph:
        inputs = _read_inputs(config, graph)
        passes = _Passes(config, bank, inputs, lanes, hands)
        next_rows, logits, silence = passes.prompt()
        sums, counts = passes.loop(next_rows, logits)
        graph.output(ops.reshape(counts[1:2], []), sums, silence, logits)
    return graph, bank


class _Passes:
    """The decoder's layers as calls of kernels."""

    def __init__(
        self, config: WhisperConfig, bank: PackedBank, inputs: _Inputs, lanes: int, hands: int
    ) -> None:
        self.config, self.inputs, self.lanes, self.hands = config, inputs, lanes, hands
        self.slots = inputs.slots.shape[0]
        self.places = bank.weight("decoder.positional_embedding")
        self.vocabulary = bank.linear("decoder.token_embedding")
        self.last_norm = bank.norm("decoder.ln")
        kept = F32 if bank.precision == "float32" else DType.bfloat16  # half as many bytes for each token
        self.heard = [ops.cast(cross, kept) for cross in inputs.cross]
        self.blocks = [PackedBlock.of(bank, f"decoder.blocks.{n}") for n in range(config.n_text_layer)]

    def prompt(self) -> tuple[TensorValue, TensorValue, TensorValue]:
        """All prompts in one pass: wanted rows [B, 4], their logits [B, V], no-speech probability [B, 1]."""
        inputs, slots, width = self.inputs, self.slots, self.config.n_text_state
        x = self._layers(inputs.rows, inputs.counts)
        chosen, rows, counts = self._call(
            "captiond_wanted", [x, inputs.rows], (F32, 2 * slots, width), (I32, slots, 4), (I32, 1)
        )
        both = self._logits(chosen, counts)
        [silence] = self._call("captiond_probability", [both, inputs.no_speech], (F32, slots, 1))
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
            logits = self._logits(self._layers(rows, counts), counts)
            return self._choose(logits, rows, counts, sums, first=False)

        _, counts, sums = ops.while_loop(state, goes_on, body)
        return sums, counts

    def slots_count(self) -> TensorValue:
        return ops.shape_to_tensor([self.slots])

    def _choose(
        self, logits: TensorValue, rows: TensorValue, counts: TensorValue, sums: TensorValue, *, first: bool
    ) -> list[TensorValue]:
        inputs = self.inputs
        return self._call(
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
        [x] = self._call("captiond_embed", [rows, counts, *vocabulary, self.places], (F32, count, width))
        for n, block in enumerate(self.blocks):
            qkv = self._project(x, block.self_norm, block.qkv, counts, 3 * width)
            cache = [inputs.keys[n], inputs.values[n]]
            [mixed] = self._call("captiond_self_attention", [qkv, rows, counts, *cache], (F32, count, width))
            x = self._add(x, mixed, block.self_out, counts)
            query = self._project(x, block.cross_norm, block.query, counts, width)
            heard = self.heard[2 * n : 2 * n + 2]
            [mixed] = self._call(
                "captiond_cross_attention", [query, rows, counts, *heard], (F32, count, width)
            )
            x = self._add(x, mixed, block.cross_out, counts)
            wide = self._project(x, block.mlp_norm, block.widen, counts, 4 * width, after="_gelu")
            x = self._add(x, wide, block.narrow, counts)
        return x

    def _project(
        self,
        x: TensorValue,
        norm: Weight,
        layer: PackedLinear,
        counts: TensorValue,
        outputs: int,
        *,
        after: str = "",
    ) -> TensorValue:
        """A linear layer of ``norm(x)``; ``after``: "" or "_gelu"."""
        values = [x, norm, *layer.values, counts]
        [y] = self._call(f"captiond_norm_project{after}", values, (F32, x.shape[0], outputs))
        return y

    def _add(self, x: TensorValue, y: TensorValue, layer: PackedLinear, counts: TensorValue) -> TensorValue:
        """``x`` plus a linear layer of ``y``."""
        [total] = self._call("captiond_project_add", [y, x, *layer.values, counts], (F32, *x.shape))
        return total

    def _logits(self, x: TensorValue, counts: TensorValue) -> TensorValue:
        return self._project(x, self.last_norm, self.vocabulary, counts, self.config.n_vocab)

    def _call(
        self,
        name: str,
        values: Sequence[TensorValue | BufferValue],
        *shapes: tuple[DType | Dim | int, ...],
        **parameters: int,
    ) -> list[TensorValue]:
        """One kernel; ``shapes``: type and dimensions of each of its results."""
        types = [TensorType(dtype, shape, CPU) for dtype, *shape in shapes]
        call = ops.inplace_custom if any(isinstance(v, BufferValue) for v in values) else ops.custom
        if name != "captiond_embed":
            parameters["WIDTH"] = self.lanes
        if "project" in name or "cross" in name:
            parameters["HANDS"] = self.hands
        found = call(name, device=CPU, values=values, out_types=types, parameters=parameters)
        return [layers.tensor_of(value) for value in found]
