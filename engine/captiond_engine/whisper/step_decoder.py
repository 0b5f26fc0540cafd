"""The decoder graph of one pass, for devices other than a CPU: tokens [B, P] in, the next and logits out.

Takes prompts (P tokens) and single tokens (P = 1) alike; K/V caches are mutated in place. A host loop feeds
the chosen token back without looking at it, so nothing waits for the device; and as every place comes from
device memory, not from a number of the host, a device can record a pass of one size and replay it. Which
rows go on from which is an input, so that beams share the graph. Masks and places are rows of small tables
made on the host (``tables``): no comparison of broadcast operands inside.

``build_listen`` makes the graph that hands the seats' cross K/V to the rows, once for each decode.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, Dim, Graph, TensorType, TensorValue, ops
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.decode_inputs import BLOCKED
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank

TENSORS = 13  # before the buffers


@dataclass(frozen=True, slots=True)
class Tables:
    """Of positions 0 to T - 1, for passes of P tokens; a row is a position, a column a place in the cache.

    ``visible`` float32: 0 where the place is not after the position, else ``BLOCKED`` · ``offset`` int64:
    which of P tokens, the first of them at the position, belongs to the place · ``fresh`` bool: whether one
    does · ``same`` bool: whether the place is the position.
    """

    visible: Float32Array
    offset: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    same: NDArray[np.bool_]


def tables(context: int, tokens: int) -> Tables:
    """Tables [T, T] for a cache of ``context`` positions and passes of ``tokens``."""
    after = np.arange(context)[None] - np.arange(context)[:, None]
    visible = np.where(after > 0, BLOCKED, np.float32(0)).astype(np.float32)
    fresh = (after >= 0) & (after < tokens)
    return Tables(visible, np.where(fresh, after, 0).astype(np.int64), fresh, after == 0)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The graph's inputs by name, in their order.

    ``tokens`` int64 [B, P] · ``start`` int64 [B]: position of each row's first token · ``wanted`` int64 [R]:
    which of B * P tokens logits are wanted after, each row's last one first · ``parents`` int64 [B] ·
    ``bases`` int64 [B]: row * P · the tables · ``heard_mask`` float32 [B, 1, S] · ``no_speech`` int64 [1] ·
    ``suppress`` float32 [V] · ``steps`` int64 [P]: 0 to P - 1 · cross K/V [B, S, H, D], K and V of each
    layer · what was said and how likely, [B, T] · keys, then values, [B, T, H, D].
    """

    tokens: TensorValue
    start: TensorValue
    wanted: TensorValue
    parents: TensorValue
    bases: TensorValue
    visible: TensorValue
    offset: TensorValue
    fresh: TensorValue
    same: TensorValue
    heard_mask: TensorValue
    no_speech: TensorValue
    suppress: TensorValue
    steps: TensorValue
    cross: list[TensorValue]
    said: BufferValue
    said_log_probabilities: BufferValue
    keys: list[BufferValue]
    values: list[BufferValue]


def _input_types(config: WhisperConfig, device: DeviceRef, kept: DType) -> list[TensorType | BufferType]:
    def tensor(dtype: DType, *shape: int | str) -> TensorType:
        return TensorType(dtype, shape, device=device)

    heads, depth = config.n_text_head, config.n_text_layer
    return [
        tensor(I64, "B", "P"),
        tensor(I64, "B"),
        tensor(I64, "R"),
        tensor(I64, "B"),
        tensor(I64, "B"),
        tensor(F32, "T", "T"),
        tensor(I64, "T", "T"),
        tensor(DType.bool, "T", "T"),
        tensor(DType.bool, "T", "T"),
        tensor(F32, "B", 1, "S"),
        tensor(I64, 1),
        tensor(F32, config.n_vocab),
        tensor(I64, "P"),
        *[tensor(kept, "B", "S", heads, HEAD_WIDTH)] * (2 * depth),
        BufferType(I64, ("B", "T"), device=device),
        BufferType(F32, ("B", "T"), device=device),
        *[BufferType(kept, ("B", "T", heads, HEAD_WIDTH), device=device)] * (2 * depth),
    ]


def _read_inputs(config: WhisperConfig, graph: Graph) -> _Inputs:
    depth = config.n_text_layer
    names = [field.name for field in fields(_Inputs)]
    tensors = [layers.tensor_of(value) for value in graph.inputs[: TENSORS + 2 * depth]]
    buffers = [layers.buffer_of(value) for value in graph.inputs[TENSORS + 2 * depth :]]
    return _Inputs(
        **dict(zip(names[:TENSORS], tensors[:TENSORS], strict=True)),
        cross=tensors[TENSORS:],
        said=buffers[0],
        said_log_probabilities=buffers[1],
        keys=buffers[2 : 2 + depth],
        values=buffers[2 + depth :],
    )


def build(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef, kept: DType = F32
) -> tuple[Graph, WeightBank]:
    """One pass; inputs as ``_Inputs``. ``kept``: type of products and caches.

    Gives the likeliest token that ``suppress`` allows int64 [B, 1] and its position int64 [B], which are the
    next pass's tokens and start; logits float32 [R, V] before suppression; probability of no speech [R, 1].
    The token and its log-probability are also left in the said buffers, at the position of the token that
    was read last.
    """
    bank = WeightBank(tensors, device, kept)
    with Graph("whisper_step", input_types=_input_types(config, device, kept)) as graph:
        inputs = _read_inputs(config, graph)
        network = _Network(config, bank, inputs)
        graph.output(*network.choose(network.logits()))
    return graph, bank


class _Network:
    """The decoder's layers over caches [B, T, H, D]."""

    def __init__(self, config: WhisperConfig, bank: WeightBank, inputs: _Inputs) -> None:
        self.config, self.bank, self.inputs = config, bank, inputs
        self.rows, self.tokens = inputs.tokens.shape
        self.context = inputs.said.shape[1]
        self.flash = layers.has_flash(bank)
        grid = [self.rows, self.tokens]
        start = ops.broadcast_to(ops.reshape(inputs.start, [self.rows, 1]), grid)
        steps = ops.broadcast_to(ops.reshape(inputs.steps, [1, self.tokens]), grid)
        self.places = start + steps  # [B, P]
        self.visible = self._mask(ops.gather(inputs.visible, self.places, axis=0), self.context)
        self.hears = self._mask(
            ops.broadcast_to(inputs.heard_mask, [*grid, inputs.heard_mask.shape[2]]),
            inputs.heard_mask.shape[2],
        )
        sources = ops.gather(inputs.offset, inputs.start, axis=0)  # [B, T]
        bases = ops.reshape(inputs.bases, [self.rows, 1])
        self.sources = ops.reshape(
            sources + ops.broadcast_to(bases, [self.rows, self.context]), [self.rows * self.context]
        )
        self.fresh = ops.gather(inputs.fresh, inputs.start, axis=0)  # [B, T]

    def _mask(self, mask: TensorValue, places: Dim) -> TensorValue:
        """[B, P, S] as the attention that runs here wants it."""
        if self.flash:
            return layers.as_type(mask, self.bank.dtype)
        return ops.reshape(mask, [self.rows, 1, self.tokens, places])

    def logits(self) -> TensorValue:
        """Logits float32 [R, V] after the wanted tokens."""
        config, width = self.config, self.config.n_text_state
        table = self.bank.weight("decoder.token_embedding.weight")
        positions = self.bank.weight("decoder.positional_embedding")
        x = ops.gather(table, self.inputs.tokens, axis=0) + ops.gather(positions, self.places, axis=0)
        for layer in range(config.n_text_layer):
            x = self._block(x, layer)
        flat = ops.reshape(x, [self.rows * self.tokens, width])
        chosen = layers.layer_norm(self.bank, ops.gather(flat, self.inputs.wanted, axis=0), "decoder.ln")
        return layers.exact_product(self.bank, chosen, "decoder.token_embedding.weight")

    def _block(self, x: TensorValue, layer: int) -> TensorValue:
        bank, inputs, heads = self.bank, self.inputs, self.config.n_text_head
        block, width = f"decoder.blocks.{layer}", self.config.n_text_state
        normed = layers.layer_norm(bank, x, f"{block}.attn_ln")
        joined = layers.as_type(layers.joined_qkv(bank, normed, f"{block}.attn"), bank.dtype)
        q, k, v = (layers.heads_of(part, heads) for part in ops.split(joined, [width] * 3, axis=-1))
        k, v = self._remember(inputs.keys[layer], k), self._remember(inputs.values[layer], v)
        x = x + layers.linear(bank, self._attend(q, k, v, self.visible), f"{block}.attn.out")
        normed = layers.layer_norm(bank, x, f"{block}.cross_attn_ln")
        q = layers.as_type(layers.linear(bank, normed, f"{block}.cross_attn.query"), bank.dtype)
        k, v = inputs.cross[2 * layer : 2 * layer + 2]
        mixed = self._attend(layers.heads_of(q, heads), k, v, self.hears)
        x = x + layers.linear(bank, mixed, f"{block}.cross_attn.out")
        return layers.mlp(bank, x, block)

    def _attend(self, q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue) -> TensorValue:
        """[B, P, H, D] and [B, S, H, D] to [B, P, E]."""
        if self.flash:
            mixed = layers.flash(q, k, v, mask)
        else:
            q, k, v = (ops.transpose(one, 1, 2) for one in (q, k, v))
            mixed = ops.transpose(layers.attend(q, k, v, mask, split=self.bank.split), 1, 2)
        return ops.reshape(mixed, [self.rows, self.tokens, self.config.n_text_state])

    def _remember(self, cache: BufferValue, new: TensorValue) -> TensorValue:
        """Each row's cache [B, T, H, D]: its parent's, and the pass's own tokens in their places."""
        shape = cache.shape
        old = ops.gather(ops.buffer_load(cache), self.inputs.parents, axis=0)
        flat = ops.reshape(new, [self.rows * self.tokens, *shape[2:]])
        own = ops.reshape(ops.gather(flat, self.sources, axis=0), shape)
        fresh = ops.broadcast_to(ops.reshape(self.fresh, [self.rows, self.context, 1, 1]), shape)
        now = ops.where(fresh, own, old)
        ops.buffer_store(cache, now)
        return now

    def choose(self, logits: TensorValue) -> list[TensorValue]:
        """The outputs of ``build``; said buffers are written, those of parents handed on."""
        inputs, rows = self.inputs, self.rows
        end = ops.shape_to_tensor([rows])[0]
        first = ops.slice_tensor(logits, [(slice(0, end), rows), slice(None)]) + inputs.suppress
        token = ops.reshape(ops.argmax(first, axis=-1), [rows])
        log_probability = ops.reshape(ops.max(ops.logsoftmax(first), axis=-1), [rows])
        last = ops.slice_tensor(inputs.wanted, [(slice(0, end), rows)])
        place = ops.gather(ops.reshape(self.places, [rows * self.tokens]), last, axis=0)  # [B]
        here = ops.gather(inputs.same, place, axis=0)  # [B, T]
        for buffer, value in (
            (inputs.said, token),
            (inputs.said_log_probabilities, log_probability),
        ):
            old = ops.gather(ops.buffer_load(buffer), inputs.parents, axis=0)
            spread = ops.broadcast_to(ops.reshape(value, [rows, 1]), [rows, self.context])
            ops.buffer_store(buffer, ops.where(here, spread, old))
        silence = ops.gather(ops.softmax(logits), inputs.no_speech, axis=1)
        return [ops.reshape(token, [rows, 1]), place + 1, logits, silence]


def build_listen(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef, kept: DType = F32
) -> tuple[Graph, WeightBank]:
    """Graph ``(seats int64 [B], K, V [B, S, H, D] a layer, K, V [W, H, S_max, D] a layer) -> ()``.

    Copies what each row hears, positions 0 to S of its seat, to the first buffers. Takes no weight.
    """
    heads, count = config.n_text_head, 2 * config.n_text_layer
    cross = BufferType(kept, ("B", "S", heads, HEAD_WIDTH), device=device)
    seat = BufferType(kept, ("W", heads, config.n_audio_ctx, HEAD_WIDTH), device=device)
    types = [TensorType(I64, ("B",), device=device), *[cross] * count, *[seat] * count]
    with Graph("whisper_listen", input_types=types) as graph:
        seats = layers.tensor_of(graph.inputs[0])
        buffers = [layers.buffer_of(value) for value in graph.inputs[1:]]
        positions = buffers[0].shape[1]
        end = ops.cast(ops.shape_to_tensor([positions])[0], I64)
        span = (slice(ops.constant(0, I64, device=CPU), end), positions)
        for own, taken in zip(buffers[:count], buffers[count:], strict=True):
            used = ops.slice_tensor(ops.buffer_load(taken), [slice(None), slice(None), span, slice(None)])
            ops.buffer_store(own, ops.transpose(ops.gather(used, seats, axis=0), 1, 2))
        graph.output()
    return graph, WeightBank(tensors, device, kept)
