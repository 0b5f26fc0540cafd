"""The encoder graph: mel in, encoder output and every decoder layer's cross-attention K/V out.

The decoder's cross K/V are computed here, once per encoding, and stay on the device.
"""

from __future__ import annotations

from max.graph import DeviceRef, Graph, TensorType, TensorValue, ops

from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.layers import F32, WeightBank

INPUTS = ("mel",)


def build(
    config: WhisperConfig, tensors: dict[str, Float32Array], device: DeviceRef
) -> tuple[Graph, WeightBank]:
    """Graph ``(mel [B, C, N]) -> encoded [B, S, E], then K, V [B, H, S, D] for each decoder layer``.

    N is even and at most ``config.max_hops``; the host checks, a larger one ends the process.
    """
    bank = WeightBank(tensors, device)
    mel_type = TensorType(F32, ("B", config.n_mels, "N"), device=device)
    with Graph("whisper_encode", input_types=[mel_type]) as graph:
        encoded = _encode(config, bank, layers.tensor_of(graph.inputs[0]))
        cross: list[TensorValue] = []
        for layer in range(config.n_text_layer):
            name = f"decoder.blocks.{layer}.cross_attn"
            key = layers.linear(bank, encoded, f"{name}.key", bias=False)
            value = layers.linear(bank, encoded, f"{name}.value")
            cross += [
                layers.split_heads(key, config.n_text_head),
                layers.split_heads(value, config.n_text_head),
            ]
        graph.output(encoded, *cross)
    return graph, bank


def _encode(config: WhisperConfig, bank: WeightBank, mel: TensorValue) -> TensorValue:
    """Convolutions, positions, blocks and the final norm; [B, C, N] to [B, S, E]."""
    x = ops.transpose(mel, 1, 2)
    x = ops.gelu(layers.convolve(bank, x, "encoder.conv1", stride=1))
    x = ops.gelu(layers.convolve(bank, x, "encoder.conv2", stride=2))
    rows, positions, _ = x.shape
    heard = slice(0, ops.shape_to_tensor([positions])[0])
    embedding = ops.slice_tensor(
        bank.weight("encoder.positional_embedding"), [(heard, positions), slice(None)]
    )
    x = ops.rebind(x + embedding, [rows, positions, config.n_audio_state])
    for layer in range(config.n_audio_layer):
        block = f"encoder.blocks.{layer}"
        normed = layers.layer_norm(bank, x, f"{block}.attn_ln")
        q, k, v = layers.project_qkv(bank, normed, f"{block}.attn", config.n_audio_head)
        mixed = layers.join_heads(layers.attend(q, k, v))
        x = x + layers.linear(bank, mixed, f"{block}.attn.out")
        x = layers.mlp(bank, x, block)
    return layers.layer_norm(bank, x, "encoder.ln_post")
