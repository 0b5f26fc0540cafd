"""The encoder graph for CPUs: that of ``encoder``, its attention by this package's kernels.

With int8 weights its linear layers are kernels too: all positions of all windows are rows of one product,
rounded to bytes, and threads share them. In float32 MAX's own product of matrices is the faster one. Inputs,
outputs and seats are those of ``encoder``, so that either can take the other's place.
"""

from __future__ import annotations

from max.dtype import DType
from max.graph import Graph, TensorValue, ops

from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import encoder, layers
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.kernels import KERNELS, Kernels
from captiond_engine.whisper.layers import CPU, F32, WeightBank
from captiond_engine.whisper.packed_weights import PackedBank
from captiond_engine.whisper.sketch import library


def build(
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    precision: Precision,
    kernels: Kernels,
    kept: DType = F32,
) -> tuple[Graph, WeightBank]:
    """The graph of ``encoder.build``. Not float32: attention is rounded where the processor can; with int8
    the blocks' linear layers are, as the decoder's."""
    bank = PackedBank(tensors, CPU, precision)
    kind = _ByteBlocks if precision == "int8" else _Blocks
    blocks = kind(config, bank, kernels, rounded=precision != "float32")
    types = encoder.input_types(config, CPU, kept)
    with Graph("whisper_row_encode", input_types=types, **library(KERNELS)) as graph:
        encoder.fill(blocks, graph, kept)
    return graph, bank


class _Blocks(encoder.Blocks):
    """Attention is a kernel."""

    def __init__(self, config: WhisperConfig, bank: PackedBank, kernels: Kernels, *, rounded: bool) -> None:
        super().__init__(config, bank)
        self.packed, self.kernels = bank, kernels
        self.halves = int(rounded and kernels.halves)

    def attention(self, x: TensorValue, block: str) -> TensorValue:
        normed = layers.layer_norm(self.bank, x, f"{block}.attn_ln")
        mixed = self.attend(layers.joined_qkv(self.bank, normed, f"{block}.attn"))
        return x + layers.linear(self.bank, mixed, f"{block}.attn.out")

    def attend(self, qkv: TensorValue) -> TensorValue:
        """Self-attention, [B, S, 3 E] to [B, S, E]; queries in parts, so that no thread is idle for long."""
        windows, positions, _ = qkv.shape
        shape = (F32, windows, positions, self.config.n_audio_state)
        parts = {"PARTS": self.kernels.hands, "HALVES": self.halves}
        [mixed] = self.kernels.call("captiond_encoder_attention", [qkv], shape, **parts)
        return mixed


class _ByteBlocks(_Blocks):
    """Linear layers are kernels as well."""

    def attention(self, x: TensorValue, block: str) -> TensorValue:
        mixed = self.attend(self._project(x, f"{block}.attn_ln", f"{block}.attn", ("query", "key", "value")))
        return self._add(x, mixed, f"{block}.attn.out")

    def mlp(self, x: TensorValue, block: str) -> TensorValue:
        wide = self._project(x, f"{block}.mlp_ln", f"{block}.mlp", ("0",), after="_gelu")
        return self._add(x, wide, f"{block}.mlp.2")

    def heard(self, x: TensorValue, encoded: TensorValue, attention: str) -> tuple[TensorValue, TensorValue]:
        joined = self._project(x, "encoder.ln_post", attention, ("key", "value"))
        key, value = ops.split(joined, [self.config.n_audio_state] * 2, axis=-1)
        return key, value

    def _project(
        self, x: TensorValue, norm: str, name: str, parts: tuple[str, ...], *, after: str = ""
    ) -> TensorValue:
        """Layers ``parts`` of ``norm(x)``, side by side: [B, S, E] to [B, S, N]."""
        layer = self.packed.linear(*(f"{name}.{part}" for part in parts))
        outputs = sum(len(self.bank.tensors[f"{name}.{part}.weight"]) for part in parts)
        rows, counts = _rows(x)
        y = self.kernels.project(rows, self.packed.norm(norm), layer, counts, outputs, after=after)
        return ops.reshape(y, [*x.shape[:2], outputs])

    def _add(self, x: TensorValue, y: TensorValue, name: str) -> TensorValue:
        (rows, counts), (more, _) = _rows(x), _rows(y)
        return ops.reshape(self.kernels.add(rows, more, self.packed.linear(name), counts), x.shape)


def _rows(x: TensorValue) -> tuple[TensorValue, TensorValue]:
    """[B, S, E] as rows [B * S, E], and their number, int32 [1]."""
    count = x.shape[0] * x.shape[1]
    number = ops.reshape(ops.cast(ops.shape_to_tensor([count])[0], DType.int32), [1])
    return ops.reshape(x, [count, x.shape[2]]), number
