"""The decoder graph: a whole greedy decode in one call, K/V cache in place, no host round trip a token.

Prompt in, tokens and log-probabilities out. Prefill, loop, suppression and the stop at end-of-text are
inside. Prompts of unequal length are padded on the left; masks and positions are made on the host
(``prompt_arrays``), because comparisons of broadcast operands inside a symbolic graph were seen to go wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, Dim, Graph, TensorType, TensorValue, ops
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.cache import Seat
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank

BLOCKED = np.float32(-1e30)  # additive mask: finite, so that a fully masked row gives no NaN


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """One decode as both kinds of decoder take it: a prompt each row, where start-of-transcript stands in
    it, the seat that the row listens to, the text context, most new tokens, end-of-text and no-speech. All
    sizes have been checked."""

    prompts: Sequence[Sequence[int]]
    starts: Sequence[int]
    seats: Sequence[Seat]
    context: int
    max_new: int
    end_of_text: int
    no_speech: int


@dataclass(frozen=True, slots=True)
class PromptArrays:
    """Host-made inputs of one decode. B rows, P the longest prompt, T the text context, S the most positions.

    ``tokens`` int64 [B, P] padded on the left · ``positions`` int64 [B, P] · ``next_positions`` int64 [B] ·
    ``prefill_mask`` float32 [B, 1, P, P] · ``step_mask`` float32 [B, 1, 1, T] · ``start_rows`` float32
    [B, 1, P], one at the start-of-transcript token · ``seats`` int64 [B] · ``heard_mask`` float32
    [B, 1, 1, S].
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    next_positions: NDArray[np.int64]
    prefill_mask: Float32Array
    step_mask: Float32Array
    start_rows: Float32Array
    seats: NDArray[np.int64]
    heard_mask: Float32Array


def prompt_arrays(decode: DecodeInputs) -> PromptArrays:
    """Arrays for prompts and audio of unequal length."""
    prompts, starts, context, pad = decode.prompts, decode.starts, decode.context, decode.end_of_text
    heard = np.array([seat.positions for seat in decode.seats])
    rows, longest = len(prompts), max(len(prompt) for prompt in prompts)
    tokens = np.full((rows, longest), pad, np.int64)
    positions = np.zeros((rows, longest), np.int64)
    prefill_mask = np.full((rows, 1, longest, longest), BLOCKED, np.float32)
    step_mask = np.zeros((rows, 1, 1, context), np.float32)
    start_rows = np.zeros((rows, 1, longest), np.float32)
    causal = np.tril(np.ones((longest, longest), bool))
    for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        left = longest - len(prompt)
        tokens[row, left:] = prompt
        positions[row, left:] = np.arange(len(prompt))
        allowed = causal & (np.arange(longest) >= left)
        np.fill_diagonal(allowed, True)  # a padding row sees itself, so that its softmax is defined
        prefill_mask[row, 0][allowed] = 0.0
        step_mask[row, 0, 0, :left] = BLOCKED
        start_rows[row, 0, left + start] = 1.0
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    seats = np.array([seat.index for seat in decode.seats], np.int64)
    beyond = np.arange(heard.max()) >= heard[:, None]
    heard_mask = np.where(beyond, BLOCKED, np.float32(0))[:, None, None].astype(np.float32)
    return PromptArrays(tokens, positions, lengths, prefill_mask, step_mask, start_rows, seats, heard_mask)


def prompt_inputs(decode: DecodeInputs, device: Device) -> list[Buffer]:
    """The first inputs of the graph, up to the suppression masks."""
    arrays = prompt_arrays(decode)
    on_device = [getattr(arrays, field.name) for field in fields(PromptArrays)]
    control = [np.array(decode.end_of_text, np.int64), np.array([decode.no_speech], np.int64)]
    before = [Buffer.from_numpy(np.ascontiguousarray(array)).to(device) for array in on_device]
    after = [Buffer.from_numpy(array).to(device) for array in control]
    return [*before, Buffer.from_numpy(np.array(decode.max_new, np.int64)), *after]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The graph's inputs by name, in their order."""

    tokens: TensorValue
    positions: TensorValue
    next_positions: TensorValue
    prefill_mask: TensorValue
    step_mask: TensorValue
    start_rows: TensorValue
    seats: TensorValue
    heard_mask: TensorValue
    max_new: TensorValue
    end_of_text: TensorValue
    no_speech: TensorValue
    suppress_first: TensorValue
    suppress: TensorValue
    out_tokens: BufferValue
    out_log_probabilities: BufferValue
    keys: list[BufferValue]
    values: list[BufferValue]
    cross: list[BufferValue]


def _input_types(config: WhisperConfig, device: DeviceRef, kept: DType) -> list[TensorType | BufferType]:
    def tensor(dtype: DType, *shape: int | str, on: DeviceRef = device) -> TensorType:
        return TensorType(dtype, shape, device=on)

    heads, context = config.n_text_head, config.n_text_ctx
    cache = BufferType(kept, ("B", heads, context, HEAD_WIDTH), device=device)
    return [
        tensor(I64, "B", "P"),
        tensor(I64, "B", "P"),
        tensor(I64, "B"),
        tensor(F32, "B", 1, "P", "P"),
        tensor(F32, "B", 1, 1, context),
        tensor(F32, "B", 1, "P"),
        tensor(I64, "B"),
        tensor(F32, "B", 1, 1, "S"),
        tensor(I64, on=CPU),
        tensor(I64),
        tensor(I64, 1),
        tensor(F32, config.n_vocab),
        tensor(F32, config.n_vocab),
        BufferType(I64, ("B", context), device=device),
        BufferType(F32, ("B", context), device=device),
        *[cache] * (2 * config.n_text_layer),
        *[BufferType(kept, ("W", heads, config.n_audio_ctx, HEAD_WIDTH), device=device)]
        * (2 * config.n_text_layer),
    ]


def _read_inputs(config: WhisperConfig, graph: Graph) -> _Inputs:
    depth = config.n_text_layer
    names = [field.name for field in fields(_Inputs)]
    tensors = [layers.tensor_of(value) for value in graph.inputs[:13]]
    buffers = [layers.buffer_of(value) for value in graph.inputs[13:]]
    return _Inputs(
        **dict(zip(names, [*tensors, *buffers[:2]], strict=False)),
        keys=buffers[2 : 2 + depth],
        values=buffers[2 + depth : 2 + 2 * depth],
        cross=buffers[2 + 2 * depth :],
    )


def build(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef, kept: DType = F32
) -> tuple[Graph, WeightBank]:
    """The greedy decode graph; inputs as ``_Inputs``. ``kept``: type of products, caches and seats.

    Gives steps int64 [], sum of log-probabilities [B], no-speech probability [B, 1], first logits [B, V]
    (before suppression). Tokens and their log-probabilities are left in the two output buffers.
    """
    bank = WeightBank(tensors, device, kept)
    with Graph("whisper_decode", input_types=_input_types(config, device, kept)) as graph:
        inputs = _read_inputs(config, graph)
        network = _Network(config, bank, inputs)
        first_logits, no_speech = network.prefill()
        steps, total = _greedy_loop(network, inputs, first_logits, device)
        graph.output(steps, total, no_speech, first_logits)
    return graph, bank


class _Network:
    """The decoder's layers over the cache of one graph."""

    def __init__(self, config: WhisperConfig, bank: WeightBank, inputs: _Inputs) -> None:
        self.config, self.bank, self.inputs = config, bank, inputs
        self.rows, self.prompt = inputs.tokens.shape
        self.prompt_tokens = ops.cast(ops.shape_to_tensor([self.prompt])[0], I64)
        self.heard = [self._heard(buffer) for buffer in inputs.cross]

    def _heard(self, buffer: BufferValue) -> TensorValue:
        """What each row hears of one layer's keys or values: [W, H, S_max, D] to [B, H, S, D]."""
        positions = self.inputs.heard_mask.shape[3]
        end = ops.cast(ops.shape_to_tensor([positions])[0], I64)
        span = (slice(ops.constant(0, I64, device=CPU), end), positions)
        used = ops.slice_tensor(ops.buffer_load(buffer), [slice(None), slice(None), span, slice(None)])
        return ops.gather(used, self.inputs.seats, axis=0)

    def prefill(self) -> tuple[TensorValue, TensorValue]:
        """Run the prompt; logits after its last token [B, V], no-speech probability [B, 1]."""
        inputs, width = self.inputs, self.config.n_text_state
        x = self._embed(inputs.tokens, inputs.positions)
        start = ops.constant(0, I64, device=CPU)
        x = self._blocks(x, (slice(start, self.prompt_tokens), self.prompt), None, inputs.prefill_mask)
        last = ops.slice_tensor(
            x, [slice(None), (slice(self.prompt_tokens - 1, self.prompt_tokens), 1), slice(None)]
        )
        chosen = ops.concat([last, inputs.start_rows @ x], axis=1)  # [B, 2, E]
        logits = self._logits(ops.reshape(chosen, [self.rows * 2, width]))
        logits = ops.reshape(logits, [self.rows, 2, self.config.n_vocab])
        at_start = ops.softmax(logits[:, 1])
        return logits[:, 0], ops.gather(at_start, inputs.no_speech, axis=1)

    def step(self, token: TensorValue, done_tokens: TensorValue) -> TensorValue:
        """One token [B] after ``done_tokens`` (CPU scalar) generated ones; logits [B, V]."""
        inputs = self.inputs
        at = self.prompt_tokens + done_tokens
        offset = ops.broadcast_to(ops.reshape(done_tokens.to(self.bank.device), [1]), [self.rows])
        x = self._embed(
            ops.reshape(token, [self.rows, 1]), ops.reshape(inputs.next_positions + offset, [self.rows, 1])
        )
        heard = (slice(ops.constant(0, I64, device=CPU), at + 1), "cached")
        mask = ops.slice_tensor(inputs.step_mask, [slice(None), slice(None), slice(None), heard])
        x = self._blocks(x, (slice(at, at + 1), 1), heard, mask)
        return self._logits(ops.reshape(x, [self.rows, self.config.n_text_state]))

    def _embed(self, tokens: TensorValue, positions: TensorValue) -> TensorValue:
        table = self.bank.weight("decoder.token_embedding.weight")
        places = self.bank.weight("decoder.positional_embedding")
        return ops.gather(table, tokens, axis=0) + ops.gather(places, positions, axis=0)

    def _logits(self, x: TensorValue) -> TensorValue:
        return layers.exact_product(self.bank, x, "decoder.token_embedding.weight")

    def _blocks(
        self,
        x: TensorValue,
        write: tuple[slice, Dim | int],
        read: tuple[slice, str] | None,
        mask: TensorValue,
    ) -> TensorValue:
        """All layers; K/V of ``x`` are written at ``write``; attention reads ``read``, or ``x`` alone."""
        inputs, bank = self.inputs, self.bank
        for layer in range(self.config.n_text_layer):
            block = f"decoder.blocks.{layer}"
            normed = layers.layer_norm(bank, x, f"{block}.attn_ln")
            q, k, v = layers.project_qkv(bank, normed, f"{block}.attn", self.config.n_text_head)
            cache_k, cache_v = inputs.keys[layer], inputs.values[layer]
            place = [slice(None), slice(None), write, slice(None)]
            ops.buffer_store_slice(cache_k, k, place)
            ops.buffer_store_slice(cache_v, v, place)
            if read is not None:
                span = [slice(None), slice(None), read, slice(None)]
                k = ops.slice_tensor(ops.buffer_load(cache_k), span)
                v = ops.slice_tensor(ops.buffer_load(cache_v), span)
            mixed = layers.join_heads(layers.attend(q, k, v, mask, split=bank.split))
            x = x + layers.linear(bank, mixed, f"{block}.attn.out")
            normed = layers.layer_norm(bank, x, f"{block}.cross_attn_ln")
            q = layers.split_heads(
                layers.as_type(layers.linear(bank, normed, f"{block}.cross_attn.query"), bank.dtype),
                self.config.n_text_head,
            )
            k, v = self.heard[2 * layer : 2 * layer + 2]
            mixed = layers.join_heads(layers.attend(q, k, v, inputs.heard_mask, split=bank.split))
            x = x + layers.linear(bank, mixed, f"{block}.cross_attn.out")
            x = layers.mlp(bank, x, block)
        return layers.layer_norm(bank, x, "decoder.ln")


def _greedy_loop(
    network: _Network, inputs: _Inputs, first_logits: TensorValue, device: DeviceRef
) -> tuple[TensorValue, TensorValue]:
    """Pick and append until all rows are done or ``max_new`` is reached; steps, summed log-probabilities."""
    rows = network.rows
    nothing = ops.broadcast_to(ops.constant(0.0, F32, device=device), [rows])
    end = ops.broadcast_to(inputs.end_of_text, [rows])

    def pick(logits: TensorValue) -> tuple[TensorValue, TensorValue]:
        token = ops.reshape(ops.argmax(logits, axis=-1), [rows])
        return token, ops.reshape(ops.max(ops.logsoftmax(logits), axis=-1), [rows])

    def store(step: TensorValue, token: TensorValue, log_probability: TensorValue) -> None:
        place = [slice(None), (slice(step, step + 1), 1)]
        ops.buffer_store_slice(inputs.out_tokens, ops.reshape(token, [rows, 1]), place)
        ops.buffer_store_slice(inputs.out_log_probabilities, ops.reshape(log_probability, [rows, 1]), place)

    def goes_on(step: TensorValue, token: TensorValue, done: TensorValue, total: TensorValue) -> TensorValue:
        all_done = ops.reshape(ops.min(ops.cast(done, DType.int32), axis=0), []).to(CPU) > 0
        return ops.logical_and(step < inputs.max_new, ops.logical_not(all_done))

    def body(
        step: TensorValue, token: TensorValue, done: TensorValue, total: TensorValue
    ) -> list[TensorValue]:
        chosen, log_probability = pick(network.step(token, step - 1) + inputs.suppress)
        chosen = ops.where(done, end, chosen)
        log_probability = ops.where(done, nothing, log_probability)
        store(step, chosen, log_probability)
        return [step + 1, chosen, ops.logical_or(done, ops.equal(chosen, end)), total + log_probability]

    token, log_probability = pick(first_logits + inputs.suppress + inputs.suppress_first)
    store(ops.constant(0, I64, device=CPU), token, log_probability)
    one = ops.constant(1, I64, device=CPU)
    state = ops.while_loop([one, token, ops.equal(token, end), log_probability], goes_on, body)
    return state[0], state[3]
