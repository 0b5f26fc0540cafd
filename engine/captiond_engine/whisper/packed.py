"""Weight matrices in the order in which the decoder's kernels read them, in one of three precisions.

NumPy alone. The layout is explained, and read, in ``kernels/packed.mojo``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import Float32Array, Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BLOCK = 64  # outputs in a block
_LINE = 64  # bytes
_GROUP = {"float32": 1, "bfloat16": 2, "int8": 4}  # inputs in one word of 32 bits


@dataclass(frozen=True, slots=True)
class Packed:
    """``weights`` [N / 64 rounded up, K / G, 64, G]: float32, uint16 (bfloat16) or uint8 (value + 128).

    ``scales`` float32 [N rounded up to 64]: what one step of an output's bytes is worth; 1 for the others.
    """

    weights: NDArray[Any]
    scales: Float32Array


def pack(matrix: Float32Array, precision: Precision) -> Packed:
    """Pack ``matrix`` float32 [N, K]; K is a multiple of 4. Outputs are padded to whole blocks with zeros."""
    outputs, inputs = matrix.shape
    blocks, group = -(-outputs // BLOCK), _GROUP[precision]
    padded = np.zeros((blocks * BLOCK, inputs), np.float32)
    padded[:outputs] = matrix
    scales = np.ones(blocks * BLOCK, np.float32)
    stored: NDArray[Any] = padded
    if precision == "bfloat16":
        stored = bfloat16_bits(padded)
    elif precision == "int8":
        scales = np.abs(padded).max(1) / np.float32(127)
        scales[scales == 0] = 1
        stored = (np.rint(padded / scales[:, None]) + 128).astype(np.uint8)
    words = stored.reshape(blocks, BLOCK, inputs // group, group).transpose(0, 2, 1, 3)
    weights = aligned(words.shape, stored.dtype)
    weights[...] = words
    return Packed(weights, scales)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that begins where a cache line does: a vector of 64 bytes is then one line, not two."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def unpack(packed: Packed, outputs: int) -> Float32Array:
    """The matrix float32 [N, K] that the kernels compute with; ``pack`` undone but for rounding."""
    blocks, words, _, group = packed.weights.shape
    flat = packed.weights.transpose(0, 2, 1, 3).reshape(blocks * BLOCK, words * group)
    if flat.dtype == np.uint16:
        matrix = (flat.astype(np.uint32) << 16).view(np.float32)
    elif flat.dtype == np.uint8:
        matrix = (flat.astype(np.float32) - 128) * packed.scales[:, None]
    else:
        matrix = flat
    return np.asarray(matrix[:outputs], np.float32)


def bfloat16_bits(array: Float32Array) -> NDArray[np.uint16]:
    """``array`` rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, np.uint16)
