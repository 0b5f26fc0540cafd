"""The encoder graph: mel in, encoder output out; every decoder layer's cross-attention K/V go to seats.

The decoder's cross K/V are computed here, once per encoding, and stay on the device, in the caller's buffers.
"""

from __future__ import annotations

from max.dtype import DType
from max.graph import BufferType, DeviceRef, Graph, TensorType, TensorValue, ops

from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.layers import CPU, F32, I64, WeightBank


def build(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef, kept: DType = F32
) -> tuple[Graph, WeightBank]:
    """Graph ``(mel [B, C, N], seat int64 [], K, V [W, H, S_max, D] a layer) -> encoded [B, S, E]``.

    Rows go to the seats from ``seat`` on, of type ``kept``, in which products are computed too; positions 0
    to S. N is even and at most ``config.max_hops``; the host checks it and the seats, a larger one ends the
    process.
    """
    bank = WeightBank(tensors, device, kept)
    with Graph("whisper_encode", input_types=input_types(config, device, kept)) as graph:
        fill(Blocks(config, bank), graph, kept)
    return graph, bank


def input_types(config: WhisperConfig, device: DeviceRef, kept: DType) -> list[TensorType | BufferType]:
    """Mel, first seat, and every decoder layer's seats."""
    seats = BufferType(kept, ("W", config.n_text_head, config.n_audio_ctx, HEAD_WIDTH), device=device)
    return [
        TensorType(F32, ("B", config.n_mels, "N"), device=device),
        TensorType(I64, (), device=CPU),
        *[seats] * (2 * config.n_text_layer),
    ]


class Blocks:
    """The encoder's blocks, and what the decoder hears of them, by MAX's own operations."""

    def __init__(self, config: WhisperConfig, bank: WeightBank) -> None:
        self.config, self.bank = config, bank

    def attention(self, x: TensorValue, block: str) -> TensorValue:
        """The attention half of a block, residual included; [B, S, E] to [B, S, E]."""
        bank, heads = self.bank, self.config.n_audio_head
        normed = layers.layer_norm(bank, x, f"{block}.attn_ln")
        if layers.has_flash(bank):
            joined = layers.as_type(layers.joined_qkv(bank, normed, f"{block}.attn"), bank.dtype)
            parts = ops.split(joined, [heads * HEAD_WIDTH] * 3, axis=-1)
            mixed = layers.flash(*(layers.heads_of(part, heads) for part in parts))
            mixed = ops.reshape(mixed, x.shape)
        else:
            q, k, v = layers.project_qkv(bank, normed, f"{block}.attn", heads)
            mixed = layers.join_heads(layers.attend(q, k, v, split=bank.split))
        return x + layers.linear(bank, mixed, f"{block}.attn.out")

    def mlp(self, x: TensorValue, block: str) -> TensorValue:
        """The feed-forward half of a block, residual included; [B, S, E] to [B, S, E]."""
        return layers.mlp(self.bank, x, block)

    def heard(self, x: TensorValue, encoded: TensorValue, attention: str) -> tuple[TensorValue, TensorValue]:
        """Keys and values [B, S, E] of one decoder layer; ``encoded`` is the normed ``x``."""
        key = layers.linear(self.bank, encoded, f"{attention}.key", bias=False)
        return key, layers.linear(self.bank, encoded, f"{attention}.value")


def fill(blocks: Blocks, graph: Graph, kept: DType) -> None:
    """The whole graph: convolutions, ``blocks``, and keys and values to their seats."""
    config, bank = blocks.config, blocks.bank
    mel, seat = (layers.tensor_of(value) for value in graph.inputs[:2])
    x = _hear(config, bank, mel)
    for layer in range(config.n_audio_layer):
        x = blocks.mlp(blocks.attention(x, f"encoder.blocks.{layer}"), f"encoder.blocks.{layer}")
    encoded = layers.layer_norm(bank, x, "encoder.ln_post")
    rows, positions = encoded.shape[0], encoded.shape[1]
    count, heard = (ops.cast(ops.shape_to_tensor([dim])[0], I64) for dim in (rows, positions))
    start = ops.constant(0, I64, device=CPU)
    place = [(slice(seat, seat + count), rows), slice(None), (slice(start, heard), positions), slice(None)]
    for layer in range(config.n_text_layer):
        made = blocks.heard(x, encoded, f"decoder.blocks.{layer}.cross_attn")
        for value, buffer in zip(made, graph.inputs[2 + 2 * layer : 4 + 2 * layer], strict=True):
            split = ops.cast(layers.split_heads(value, config.n_text_head), kept)
            ops.buffer_store_slice(layers.buffer_of(buffer), split, place)
    graph.output(encoded)


def _hear(config: WhisperConfig, bank: WeightBank, mel: TensorValue) -> TensorValue:
    """Convolutions and positions; [B, C, N] to [B, S, E]."""
    x = ops.transpose(mel, 1, 2)
    x = ops.gelu(layers.convolve(bank, x, "encoder.conv1", stride=1))
    x = ops.gelu(layers.convolve(bank, x, "encoder.conv2", stride=2))
    rows, positions, _ = x.shape
    heard = slice(0, ops.shape_to_tensor([positions])[0])
    embedding = ops.slice_tensor(
        bank.weight("encoder.positional_embedding"), [(heard, positions), slice(None)]
    )
    return ops.rebind(x + embedding, [rows, positions, config.n_audio_state])
