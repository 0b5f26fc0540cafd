"""The pieces that encoder and decoder graphs are made of: linear, norm, attention, convolution.

Takes and gives MAX graph values. A ``WeightBank`` declares each weight once and remembers the array that
feeds it. Formulae: openai-whisper ``model.py``.

With a bank of bfloat16 products and attention take bfloat16 and sum in float32; norms, softmax, residuals,
biases and logits stay float32. With float32 nothing is cast, and the graph is what it would be without types.
Only a GPU needs more for that: MAX multiplies float32 there as TF32, with eleven bits (for sm_90 it has no
other way), so that each product is made of several whose factors fit in eleven bits (``split_product``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from max.driver import Buffer
from max.dtype import DType
from max.graph import BufferValue, DeviceRef, TensorValue, Weight, ops
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import HEAD_WIDTH
from captiond_engine.whisper.packed import bfloat16_bits

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

    def __init__(self, tensors: Mapping[str, Float32Array], device: DeviceRef, dtype: DType = F32) -> None:
        self.tensors = tensors
        self.device = device
        self.dtype = dtype
        self.split = dtype == F32 and device.is_gpu()  # float32 products in parts
        self.registry: dict[str, NDArray[Any] | Buffer] = {}
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
        """The tensor ``name`` of the checkpoint as a graph weight, float32."""
        return self._declared.get(name) or self.derived(name, self.take(name))

    def derived(self, name: str, array: Float32Array) -> Weight:
        """A weight made from checkpoint tensors (joined or transposed), float32."""
        return self.kept(name, np.asarray(array, np.float32))

    def kept(self, name: str, array: NDArray[Any]) -> Weight:
        """An array of any type as a graph weight."""
        if name not in self._declared:
            self.registry[name] = np.ascontiguousarray(array)
            self._declared[name] = Weight(name, DType.from_numpy(array.dtype), array.shape, self.device)
        return self._declared[name]

    def matrix(self, name: str, array: Float32Array | None = None) -> Weight:
        """A product's weight in the bank's type: the checkpoint's ``name``, or ``array`` under that name.

        What is not float32 is rounded here, once, on the host. One name is a weight or a matrix, not both.
        """
        if name in self._declared:
            return self._declared[name]
        array = self.take(name) if array is None else array
        if self.dtype == F32:
            return self.derived(name, array)
        bits = Buffer.from_numpy(bfloat16_bits(array))
        self.registry[name] = bits.view(DType.bfloat16, array.shape)
        self._declared[name] = Weight(name, DType.bfloat16, array.shape, self.device)
        return self._declared[name]


def as_type(x: TensorValue, dtype: DType) -> TensorValue:
    """``x``, cast only where it is of another type."""
    return x if x.dtype == dtype else ops.cast(x, dtype)


def product(bank: WeightBank, x: TensorValue, name: str, array: Float32Array | None = None) -> TensorValue:
    """``x @ weight.T``, both in the bank's type, float32 again. The weight is as ``WeightBank.matrix``'s."""
    if bank.split:
        return exact_product(bank, x, name, array)
    return as_type(as_type(x, bank.dtype) @ ops.transpose(bank.matrix(name, array), 0, 1), F32)


def exact_product(
    bank: WeightBank, x: TensorValue, name: str, array: Float32Array | None = None
) -> TensorValue:
    """``x @ weight.T`` in float32, whatever the bank's type is."""
    if not bank.split:
        weight = bank.weight(name) if array is None else bank.derived(name, array)
        return x @ ops.transpose(weight, 0, 1)
    array = bank.take(name) if array is None else array
    high = eleven_bits(array)
    parts = [bank.derived(f"{name}.high", high), bank.derived(f"{name}.low", array - high)]
    return _sum_of_products(halves(x), [ops.transpose(part, 0, 1) for part in parts])


def eleven_bits(array: Float32Array) -> Float32Array:
    """``array`` cut to what TF32 holds: one sign, eight bits of exponent, ten written and one implied."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)
    return bits.view(np.float32)


def halves(x: TensorValue) -> list[TensorValue]:
    """``x`` float32 as a sum of two that eleven bits hold, but for less than 2^-20 of it."""
    high = ops.cast(ops.cast(x, DType.bfloat16), F32)
    return [high, x - high]


def split_product(a: TensorValue, b: TensorValue) -> TensorValue:
    """``a @ b``, float32, by factors of eleven bits each."""
    return _sum_of_products(halves(a), halves(b))


def _sum_of_products(a: list[TensorValue], b: list[TensorValue]) -> TensorValue:
    """The small products first, as they would be lost one by one beside the large one."""
    return a[0] @ b[0] + (a[0] @ b[1] + (a[1] @ b[0] + a[1] @ b[1]))


def linear(bank: WeightBank, x: TensorValue, name: str, *, bias: bool = True) -> TensorValue:
    """[B, T, E_in] to [B, T, E_out], float32."""
    y = product(bank, x, f"{name}.weight")
    return y + bank.weight(f"{name}.bias") if bias else y


def layer_norm(bank: WeightBank, x: TensorValue, name: str) -> TensorValue:
    return ops.layer_norm(x, bank.weight(f"{name}.weight"), bank.weight(f"{name}.bias"), EPSILON)


def mlp(bank: WeightBank, x: TensorValue, block: str) -> TensorValue:
    """The feed-forward half of a block, residual included."""
    y = linear(bank, layer_norm(bank, x, f"{block}.mlp_ln"), f"{block}.mlp.0")
    return x + linear(bank, ops.gelu(y), f"{block}.mlp.2")


def heads_of(x: TensorValue, heads: int) -> TensorValue:
    """[B, T, H * D] to [B, T, H, D]."""
    rows, tokens, _ = x.shape
    return ops.reshape(x, [rows, tokens, heads, HEAD_WIDTH])


def split_heads(x: TensorValue, heads: int) -> TensorValue:
    """[B, T, H * D] to [B, H, T, D]."""
    return ops.transpose(heads_of(x, heads), 1, 2)


def join_heads(x: TensorValue) -> TensorValue:
    """[B, H, T, D] to [B, T, H * D]."""
    rows, heads, tokens, _ = x.shape
    return ops.reshape(ops.transpose(x, 1, 2), [rows, tokens, int(heads) * HEAD_WIDTH])


def attend(
    q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue | None = None, *, split: bool = False
) -> TensorValue:
    """Scaled dot-product attention, [B, H, T, D]; written so that MAX fuses it to flash attention on a CPU.

    q, k and v share a type; scores, softmax and the answer are float32. ``mask`` is additive, float32
    [B, 1, T, S], made on the host: comparisons of broadcast operands inside a graph with symbolic dims were
    seen to give another row's mask. ``split``: products by ``split_product``.
    """
    shares = as_type(attention(q, k, mask, split=split), v.dtype)
    return as_type(split_product(shares, v) if split else shares @ v, F32)


def attention(
    q: TensorValue, k: TensorValue, mask: TensorValue | None = None, *, split: bool = False
) -> TensorValue:
    """How much each query heeds each position, float32 [B, H, T, S]; arguments as ``attend``'s."""
    keys = ops.transpose(k, 2, 3)
    scores = as_type(split_product(q, keys) if split else q @ keys, F32) * SCALE
    return ops.softmax(scores if mask is None else scores + mask)


def has_flash(bank: WeightBank) -> bool:
    """Whether ``flash`` runs here. Its kernel is a GPU's; float32 keeps the plain form, as it is exact."""
    return bool(bank.device.is_gpu() and bank.dtype != F32)


def flash(q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue | None = None) -> TensorValue:
    """The same by MAX's GPU kernel, which never writes the scores down; [B, T, H, D], float32 again.

    ``mask``: additive, [B, T, S], of the type of q.
    """
    from max.nn.attention import MHAMaskVariant  # here, as a CPU needs none of it and importing takes time
    from max.nn.kernels import flash_attention_gpu, masked_flash_attention_gpu

    if mask is None:
        return as_type(flash_attention_gpu(q, k, v, MHAMaskVariant.NULL_MASK, SCALE), F32)
    return as_type(masked_flash_attention_gpu(q, k, v, mask, SCALE), F32)


def project_qkv(
    bank: WeightBank, x: TensorValue, name: str, heads: int
) -> tuple[TensorValue, TensorValue, TensorValue]:
    """Query, key and value of self-attention, each [B, H, T, D], in the bank's type."""
    joined = as_type(joined_qkv(bank, x, name), bank.dtype)
    q, k, v = ops.split(joined, [heads * HEAD_WIDTH] * 3, axis=-1)
    return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)


def joined_qkv(bank: WeightBank, x: TensorValue, name: str) -> TensorValue:
    """Query, key and value of self-attention as one product, float32 [B, T, 3 E]. Keys have no bias."""
    parts = [bank.take(f"{name}.{part}.weight") for part in ("query", "key", "value")]
    query_bias, value_bias = bank.take(f"{name}.query.bias"), bank.take(f"{name}.value.bias")
    width = len(query_bias)
    bias = bank.derived(
        f"{name}.qkv.bias", np.concatenate([query_bias, np.zeros(width, np.float32), value_bias])
    )
    return product(bank, x, f"{name}.qkv.weight", np.concatenate(parts)) + bias


def convolve(bank: WeightBank, x: TensorValue, name: str, *, stride: int) -> TensorValue:
    """Convolution of width 3, padding 1; [B, N, C] to [B, N / stride, E]; ``stride`` 1 or 2 divides N.

    One product of each hop beside its neighbours, not ``ops.conv2d``: that computes wrong numbers where a
    graph is compiled for another processor (MAX 26.7 packs its filters for the one that compiles).
    """
    kernel = bank.take(f"{name}.weight")  # [E, C, 3]
    matrix = np.transpose(kernel, (0, 2, 1)).reshape(len(kernel), -1)
    filters = None if bank.split else bank.derived(f"{name}.filters", matrix)
    rows, hops, channels = x.shape
    count, width = hops // stride, int(channels)
    nothing = ops.broadcast_to(ops.constant(0.0, F32, device=bank.device), [rows, 1, width])
    own = ops.reshape(ops.rebind(x, [rows, count * stride, width]), [rows, count, stride * width])
    before = ops.concat([nothing, own[:, :-1, (stride - 1) * width :]], axis=1)
    seen = [ops.rebind(before, [rows, count, width]), own]
    if stride == 1:
        seen.append(ops.rebind(ops.concat([own[:, 1:, :], nothing], axis=1), [rows, count, width]))
    beside = ops.concat(seen, axis=2)
    if filters is None:
        return exact_product(bank, beside, f"{name}.filters", matrix) + bank.weight(f"{name}.bias")
    return beside @ ops.transpose(filters, 0, 1) + bank.weight(f"{name}.bias")


def buffer_of(value: object) -> BufferValue:
    """The graph input ``value`` as a mutable buffer."""
    return value.buffer  # type: ignore[attr-defined]


def tensor_of(value: object) -> TensorValue:
    """The graph input ``value`` as a tensor."""
    return value.tensor  # type: ignore[attr-defined]
