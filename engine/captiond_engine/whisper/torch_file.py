"""Reads PyTorch's ``.pt`` zip files into NumPy arrays, without torch and without running their pickle.

Takes a path, gives plain dictionaries of float32 arrays. Only tensors, ordered dictionaries and plain
values are rebuilt; every other class named by the file is refused, so that a hostile file can do nothing.
Format: ``torch.save`` since 1.6 (a zip holding ``*/data.pkl`` and ``*/data/<key>``).
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captiond_engine.errors import ModelError
from captiond_engine.types import Float32Array

_STORAGE_TYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),  # widened by widen_bfloat16
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
    "DoubleStorage": np.dtype("<f8"),
    "ByteStorage": np.dtype("u1"),
}


# What zipfile, zlib and pickle were seen to raise for files that were cut, changed or made up.
_MALFORMED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    pickle.UnpicklingError,
    OSError,
    EOFError,
    StopIteration,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # also NotImplementedError (an unknown compression) and RecursionError
    MemoryError,
)
_ADVICE = "Download it again, or convert it to a Hugging Face directory with model.safetensors."


class _Storage(NamedTuple):
    name: str


class _LazyTensor(NamedTuple):
    """A tensor's place in its storage; strides and offset in elements."""

    storage: tuple[str, str]  # (storage class, key in the zip)
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def widen_bfloat16(bits: NDArray[np.uint16]) -> Float32Array:
    """bfloat16 bit patterns to float32: the upper half of the same number."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _rebuild_tensor(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _LazyTensor:
    return _LazyTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _LazyTensor, *_: object) -> _LazyTensor:
    return tensor


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, not the one in C: five bytes make that one take all the machine's memory.

    (LONG_BINPUT with a large index grows its memo to that size; here the memo is a dictionary.)
    """

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in _STORAGE_TYPES:
            return _Storage(name)
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which no checkpoint needs")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        return storage.name, str(key)


def _materialise(value: Any, archive: zipfile.ZipFile, root: str) -> Any:
    if isinstance(value, _LazyTensor):
        kind, key = value.storage
        flat = np.frombuffer(archive.read(f"{root}/data/{key}"), _STORAGE_TYPES[kind])
        last = value.offset + sum((n - 1) * s for n, s in zip(value.shape, value.strides, strict=True))
        if (
            value.offset < 0
            or min(value.strides, default=0) < 0
            or last >= max(len(flat), 1)
            or math.prod(value.shape) > len(flat)  # strides of 0 could ask for any amount of memory
        ):
            raise ValueError(f"a tensor reaches past its storage {key}")
        item = flat.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            flat[value.offset :], value.shape, [stride * item for stride in value.strides]
        )
        return widen_bfloat16(view) if kind == "BFloat16Storage" else np.array(view)
    if isinstance(value, dict):
        return {name: _materialise(inner, archive, root) for name, inner in value.items()}
    return value


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dictionary saved in ``path``, its tensors as NumPy arrays.

    Raises ModelError where the file is no such zip, is cut short, or names anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(index) as stream:
                content = _Unpickler(stream).load()
            loaded = _materialise(content, archive, index.removesuffix("/data.pkl"))
    except _MALFORMED as error:
        reason = str(error) or type(error).__name__
        raise ModelError(
            f"{path} is not a PyTorch checkpoint that can be read: {reason}.", advice=_ADVICE
        ) from error
    if not isinstance(loaded, dict):
        raise ModelError(
            f"{path} holds a {type(loaded).__name__}, not a checkpoint's dictionary.", advice=_ADVICE
        )
    return loaded
