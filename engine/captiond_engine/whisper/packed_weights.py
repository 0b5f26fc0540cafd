"""The decoder's weights as its kernels take them: packed linear layers and norms, declared in a graph.

Takes checkpoint tensors, gives graph weights by block. Knows no kernel and no order of computing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from max.graph import DeviceRef, TensorValue, Weight

from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.packed import pack, unpack


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """One linear layer's weights in the graph: packed words, scales, bias."""

    weights: Weight
    scales: Weight
    bias: Weight

    @property
    def values(self) -> list[TensorValue]:
        return [self.weights, self.scales, self.bias]


class PackedBank(WeightBank):
    """A WeightBank that packs linear layers for the kernels."""

    def __init__(self, tensors: dict[str, Float32Array], device: DeviceRef, precision: Precision) -> None:
        super().__init__(tensors, device)
        self.precision = precision

    def linear(self, *names: str) -> PackedLinear:
        """Linear layers ``names`` as one, their outputs one after the other. A missing bias is zero."""
        matrices = [self.take(f"{name}.weight") for name in names]
        biases = [
            self.take(f"{name}.bias") if f"{name}.bias" in self.tensors else np.zeros(len(matrix), np.float32)
            for name, matrix in zip(names, matrices, strict=True)
        ]
        packed = pack(np.concatenate(matrices), self.precision)
        bias = np.zeros_like(packed.scales)
        bias[: sum(map(len, biases))] = np.concatenate(biases)
        name = "+".join(names)
        return PackedLinear(
            self.kept(f"{name}.packed", packed.weights),
            self.kept(f"{name}.scales", packed.scales),
            self.kept(f"{name}.bias", bias),
        )

    def rounded(self, name: str) -> tuple[Weight, Weight]:
        """A linear layer's weights as bfloat16 beside those of ``linear``, and how far a row is off at most:
        the greatest length of a row less what became of it, [1]."""
        matrix = self.take(f"{name}.weight")
        packed = pack(matrix, "bfloat16")
        off = np.linalg.norm(matrix - unpack(packed, len(matrix)), axis=1).max()
        error = np.array([np.nextafter(np.float32(off), np.float32(np.inf))], np.float32)
        return self.kept(f"{name}.rounded", packed.weights), self.kept(f"{name}.error", error)

    def norm(self, name: str) -> Weight:
        """Scale and shift of a layer norm, [2, E]."""
        return self.kept(name, np.stack([self.take(f"{name}.weight"), self.take(f"{name}.bias")]))


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """Weights of one decoder block."""

    self_norm: Weight
    qkv: PackedLinear
    self_out: PackedLinear
    cross_norm: Weight
    query: PackedLinear
    cross_out: PackedLinear
    mlp_norm: Weight
    widen: PackedLinear
    narrow: PackedLinear

    @classmethod
    def of(cls, bank: PackedBank, name: str) -> PackedBlock:
        return cls(
            bank.norm(f"{name}.attn_ln"),
            bank.linear(*(f"{name}.attn.{part}" for part in ("query", "key", "value"))),
            bank.linear(f"{name}.attn.out"),
            bank.norm(f"{name}.cross_attn_ln"),
            bank.linear(f"{name}.cross_attn.query"),
            bank.linear(f"{name}.cross_attn.out"),
            bank.norm(f"{name}.mlp_ln"),
            bank.linear(f"{name}.mlp.0"),
            bank.linear(f"{name}.mlp.2"),
        )
