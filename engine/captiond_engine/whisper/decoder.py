"""The decoder graph: a whole greedy decode in one call, K/V cache in place, no host round trip a token.

Prompt in, tokens and log-probabilities out. Prefill, loop, suppression and the stop at end-of-text are
inside. Prompts of unequal length are padded on the left; masks and positions are made on the host
(``decode_inputs``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, Dim, Graph, TensorType, TensorValue, ops

from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank


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
    attended: BufferValue
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
        BufferType(F32, ("B", context, len(config.aligned_by), config.n_audio_ctx), device=device),
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
        **dict(zip(names, [*tensors, *buffers[:3]], strict=False)),
        keys=buffers[3 : 3 + depth],
        values=buffers[3 + depth : 3 + 2 * depth],
        cross=buffers[3 + 2 * depth :],
    )


def build(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef, kept: DType = F32
) -> tuple[Graph, WeightBank]:
    """The greedy decode graph; inputs as ``_Inputs``. ``kept``: type of products, caches and seats.

    Gives steps int64 [], sum of log-probabilities [B], no-speech probability [B, 1], first logits [B, V]
    (before suppression). Tokens, their log-probabilities and the attention of the heads that align text
    and audio are left in the output buffers; with P the longest prompt, at [T] what was read there, padding
    included.
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
            self._keep_attention(layer, q, k, write)
            mixed = layers.join_heads(layers.attend(q, k, v, inputs.heard_mask, split=bank.split))
            x = x + layers.linear(bank, mixed, f"{block}.cross_attn.out")
            x = layers.mlp(bank, x, block)
        return layers.layer_norm(bank, x, "decoder.ln")

    def _keep_attention(
        self, layer: int, q: TensorValue, k: TensorValue, write: tuple[slice, Dim | int]
    ) -> None:
        """What the layer's heads that align text and audio heed, [B, P, 1, S] each, into ``attended``."""
        positions = self.inputs.heard_mask.shape[3]
        end = ops.cast(ops.shape_to_tensor([positions])[0], I64)
        span = (slice(ops.constant(0, I64, device=CPU), end), positions)
        for place, (of, head) in enumerate(self.config.aligned_by):
            if of == layer:
                one = slice(None), slice(head, head + 1)
                shares = layers.attention(q[one], k[one], self.inputs.heard_mask, split=self.bank.split)
                ops.buffer_store_slice(
                    self.inputs.attended,
                    ops.transpose(shares, 1, 2),
                    [slice(None), write, slice(place, place + 1), span],
                )


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
