"""The pieces that encoder and decoder graphs are made of: linear, norm, attention, convolution.

Takes and gives MAX graph values. A ``WeightBank`` declares each weight once and remembers the array that
feeds it. Formulae: openai-whisper ``model.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, DeviceRef, TensorValue, Weight, ops
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import HEAD_WIDTH

F32 = DType.float32
I64 = DType.int64
CPU = DeviceRef.CPU()
EPSILON = 1e-5
SCALE = HEAD_WIDTH**-0.5


class WeightBank:
    """Declares weights of the graph being built and keeps the arrays to feed them.

    ``registry`` goes to ``InferenceSession.init``; its arrays must outlive the compiled model.
    ``used`` names the checkpoint tensors taken, so that a loader can report what was left over.
    """

    def __init__(self, tensors: Mapping[str, Float32Array], device: DeviceRef) -> None:
        self.tensors = tensors
        self.device = device
        self.registry: dict[str, NDArray[Any]] = {}
        self.used: set[str] = set()
        self._declared: dict[str, Weight] = {}

    def take(self, name: str) -> Float32Array:
        """The checkpoint's array, marked as used."""
        self.used.add(name)
        return self.tensors[name]

    def release(self) -> None:
        """Let go of the checkpoint, once the graph is built; what the graph reads stays in ``registry``."""
        self.tensors = {}

    def weight(self, name: str) -> Weight:
        """The tensor ``name`` of the checkpoint as a graph weight."""
        return self._declared.get(name) or self.derived(name, self.take(name))

    def derived(self, name: str, array: Float32Array) -> Weight:
        """A weight made from checkpoint tensors (joined or transposed)."""
        return self.kept(name, np.asarray(array, np.float32))

    def kept(self, name: str, array: NDArray[Any]) -> Weight:
        """An array of any type as a graph weight."""
        if name not in self._declared:
            self.registry[name] = np.ascontiguousarray(array)
            self._declared[name] = Weight(name, DType.from_numpy(array.dtype), array.shape, self.device)
        return self._declared[name]


def linear(bank: WeightBank, x: TensorValue, name: str, *, bias: bool = True) -> TensorValue:
    """[B, T, E_in] to [B, T, E_out]."""
    y = x @ ops.transpose(bank.weight(f"{name}.weight"), 0, 1)
    return y + bank.weight(f"{name}.bias") if bias else y


def layer_norm(bank: WeightBank, x: TensorValue, name: str) -> TensorValue:
    return ops.layer_norm(x, bank.weight(f"{name}.weight"), bank.weight(f"{name}.bias"), EPSILON)


def mlp(bank: WeightBank, x: TensorValue, block: str) -> TensorValue:
    """The feed-forward half of a block, residual included."""
    y = linear(bank, layer_norm(bank, x, f"{block}.mlp_ln"), f"{block}.mlp.0")
    return x + linear(bank, ops.gelu(y), f"{block}.mlp.2")


def split_heads(x: TensorValue, heads: int) -> TensorValue:
    """[B, T, H * D] to [B, H, T, D]."""
    rows, tokens, _ = x.shape
    return ops.transpose(ops.reshape(x, [rows, tokens, heads, HEAD_WIDTH]), 1, 2)


def join_heads(x: TensorValue) -> TensorValue:
    """[B, H, T, D] to [B, T, H * D]."""
    rows, heads, tokens, _ = x.shape
    return ops.reshape(ops.transpose(x, 1, 2), [rows, tokens, int(heads) * HEAD_WIDTH])


def attend(q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue | None = None) -> TensorValue:
    """Scaled dot-product attention, [B, H, T, D]; written so that MAX fuses it to flash attention.

    ``mask`` is additive, [B, 1, T, S], made on the host: comparisons of broadcast operands inside a
    graph with symbolic dims were seen to give another row's mask.
    """
    scores = (q @ ops.transpose(k, 2, 3)) * SCALE
    if mask is not None:
        scores = scores + mask
    return ops.softmax(scores) @ v


def project_qkv(
    bank: WeightBank, x: TensorValue, name: str, heads: int
) -> tuple[TensorValue, TensorValue, TensorValue]:
    """Query, key and value of self-attention, each [B, H, T, D]."""
    joined = joined_qkv(bank, x, name)
    q, k, v = ops.split(joined, [heads * HEAD_WIDTH] * 3, axis=-1)
    return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)


def joined_qkv(bank: WeightBank, x: TensorValue, name: str) -> TensorValue:
    """Query, key and value of self-attention as one product, [B, T, 3 E]. Keys have no bias."""
    parts = [bank.take(f"{name}.{part}.weight") for part in ("query", "key", "value")]
    query_bias, value_bias = bank.take(f"{name}.query.bias"), bank.take(f"{name}.value.bias")
    width = len(query_bias)
    weight = bank.derived(f"{name}.qkv.weight", np.concatenate(parts))
    bias = bank.derived(
        f"{name}.qkv.bias", np.concatenate([query_bias, np.zeros(width, np.float32), value_bias])
    )
    return x @ ops.transpose(weight, 0, 1) + bias


def convolve(bank: WeightBank, x: TensorValue, name: str, *, stride: int) -> TensorValue:
    """Convolution of width 3, padding 1; [B, N, C] to [B, N / stride, E]; ``stride`` 1 or 2 divides N.

    One product of each hop beside its neighbours, not ``ops.conv2d``: that computes wrong numbers where a
    graph is compiled for another processor (MAX 26.7 packs its filters for the one that compiles).
    """
    kernel = bank.take(f"{name}.weight")  # [E, C, 3]
    filters = bank.derived(f"{name}.filters", np.transpose(kernel, (0, 2, 1)).reshape(len(kernel), -1))
    rows, hops, channels = x.shape
    count, width = hops // stride, int(channels)
    nothing = ops.broadcast_to(ops.constant(0.0, F32, device=bank.device), [rows, 1, width])
    own = ops.reshape(ops.rebind(x, [rows, count * stride, width]), [rows, count, stride * width])
    before = ops.concat([nothing, own[:, :-1, (stride - 1) * width :]], axis=1)
    seen = [ops.rebind(before, [rows, count, width]), own]
    if stride == 1:
        seen.append(ops.rebind(ops.concat([own[:, 1:, :], nothing], axis=1), [rows, count, width]))
    return ops.concat(seen, axis=2) @ ops.transpose(filters, 0, 1) + bank.weight(f"{name}.bias")


def buffer_of(value: object) -> BufferValue:
    """The graph input ``value`` as a mutable buffer."""
    return value.buffer  # type: ignore[attr-defined]


def tensor_of(value: object) -> TensorValue:
    """The graph input ``value`` as a tensor."""
    return value.tensor  # type: ignore[attr-defined]
