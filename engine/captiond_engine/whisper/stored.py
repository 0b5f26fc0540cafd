"""One tensor where it lies in a file, and how it becomes float32 without a second copy of it in memory.

Takes a place in a file, gives an array. Knows no format: ``safetensors_file``, ``torch_file`` and
``torch_legacy`` say where tensors lie.
"""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import Float32Array

# Types by the names of safetensors; bfloat16 as the bit patterns that NumPy can hold.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
ITEM_BYTES = {name: dtype.itemsize for name, dtype in DTYPES.items()} | {
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
_PIECE_BYTES = 4 << 20  # read and widened at a time: what lies in memory twice


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of ``shape`` and type ``dtype`` (a name of safetensors) in a storage in a file.

    ``start`` and ``length``: the storage, in bytes of the file. ``offset`` and ``strides``: the tensor in its
    storage, in elements; without strides its rows follow each other. ``crc``: CRC-32 of the storage.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int
    offset: int = 0
    strides: tuple[int, ...] | None = None
    crc: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the tensor reaches past its storage, or the storage past its file."""
        if self.dtype not in ITEM_BYTES:
            return  # it cannot be read anyway
        strides = dense_strides(self.shape) if self.strides is None else self.strides
        if len(strides) != len(self.shape):
            raise ValueError(f"{len(self.shape)} dimensions with {len(strides)} strides")
        if min((self.offset, self.start, self.length, *self.shape, *strides)) < 0:
            raise ValueError("a tensor with a negative size")
        items = self.length // ITEM_BYTES[self.dtype]
        count = math.prod(self.shape)  # strides of 0 could ask for any amount of memory
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, strides, strict=True))
        if count and (count > items or last >= items):
            raise ValueError("a tensor reaches past its storage")

    def read(self) -> Float32Array:
        """The tensor, float32. Raises ValueError for a type or checksum that is wrong, or OSError."""
        if self.dtype not in DTYPES:
            raise ValueError(f"it has type {self.dtype}; only floating point is run here")
        if self.strides is not None and self.strides != dense_strides(self.shape):
            items = self.length // ITEM_BYTES[self.dtype]
            flat = replace(self, shape=(items,), offset=0, strides=None).read()
            strides = [stride * flat.itemsize for stride in self.strides]
            return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()
        with self.path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < self.start + self.length:
                raise ValueError("the file is cut short")
            result = np.empty(math.prod(self.shape), np.float32)
            self._fill(file, result)
        return result.reshape(self.shape)

    def _fill(self, file: FileIO, result: Float32Array) -> None:
        """Read piece by piece into ``result``; the whole storage where its checksum is known."""
        item = ITEM_BYTES[self.dtype]
        first, last = self.offset, self.offset + result.size
        begin, end = (first, last) if self.crc is None else (0, self.length // item)
        scratch = np.empty(min(_PIECE_BYTES // item, max(1, end - begin)), DTYPES[self.dtype])
        file.seek(self.start + begin * item)
        checksum = 0
        for at in range(begin, end, len(scratch)):
            piece = scratch[: min(len(scratch), end - at)]
            read_into(file, piece)
            if self.crc is not None:
                checksum = zlib.crc32(piece.view(np.uint8).data, checksum)
            low, high = max(first, at), min(last, at + len(piece))
            if low < high:
                widen(piece[low - at : high - at], result[low - first : high - first])
        if self.crc is not None and checksum != self.crc:
            raise ValueError("its checksum is wrong, so it is damaged")


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def read_into(file: FileIO, array: NDArray[np.generic]) -> None:
    """Fill ``array`` from ``file``. Raises ValueError where the file ends before."""
    left = array.view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise ValueError("the file is cut short")
        left = left[count:]


def widen(narrow: NDArray[np.generic], wide: Float32Array) -> None:
    """Numbers of any of ``DTYPES`` to float32; uint16 stands for bfloat16, a float32's upper half."""
    if narrow.dtype == DTYPES["BF16"]:
        bits = wide.view(np.uint32)
        np.copyto(bits, narrow)
        np.left_shift(bits, 16, out=bits)
    else:
        with np.errstate(over="ignore"):  # a float64 may be no float32; whoever reads looks for infinities
            np.copyto(wide, narrow, casting="same_kind")
