"""Where the tensors of PyTorch's ``.pt`` and ``.bin`` files lie, found without torch or running their pickle.

Takes a path, gives plain dictionaries with StoredTensors. Only tensors, ordered dictionaries and plain values
are rebuilt; every other class named by the file is refused, so that a hostile file can do nothing.
Format: ``torch.save`` since 1.6 (a zip holding ``*/data.pkl`` and ``*/data/<key>``), and before.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple

from captiond_engine.errors import ModelError
from captiond_engine.whisper.stored import ITEM_BYTES, StoredTensor
from captiond_engine.whisper.torch_legacy import read_legacy

# torch's storage classes, and what safetensors calls their elements.
_STORAGE_TYPES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
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
_WHISPER_CPP = b"lmgg"  # GGML's magic number (whisper.cpp, convert-pt-to-ggml.py)
_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field (ZIP specification, 4.3.7)


class _Storage(NamedTuple):
    """A storage class (without a key), or one storage."""

    dtype: str
    key: str = ""


class _Tensor(NamedTuple):
    """A tensor in a storage; strides and offset in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _Tensor, *_: object) -> _Tensor:
    return tensor


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, not the one in C: five bytes make that one take all the machine's memory.

    (LONG_BINPUT with a large index grows its memo to that size; here the memo is a dictionary.)
    """

    def __init__(self, file: IO[bytes], item_bytes: dict[str, int]) -> None:
        super().__init__(file)
        self.item_bytes = item_bytes

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in _STORAGE_TYPES:
            return _Storage(_STORAGE_TYPES[name])
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which no checkpoint needs")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, *rest = pid
        if (
            kind != "storage"
            or not isinstance(storage, _Storage)
            or any(part is not None for part in rest[2:])
        ):
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        self.item_bytes[str(key)] = ITEM_BYTES[storage.dtype]
        return _Storage(storage.dtype, str(key))


Place = Callable[[str], tuple[int, int, int | None]]  # start, length and CRC-32 of a storage by its key


def _placed(value: Any, path: Path, place: Place) -> Any:
    """``value`` with a StoredTensor for each tensor in it."""
    if isinstance(value, _Tensor):
        start, length, crc = place(value.storage.key)
        dtype = value.storage.dtype
        return StoredTensor(path, dtype, value.shape, start, length, value.offset, value.strides, crc)
    if isinstance(value, dict):
        return {name: _placed(inner, path, place) for name, inner in value.items()}
    return value


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dictionary saved in ``path``, its tensors as StoredTensors: no weights are read.

    Raises ModelError where the file is none of PyTorch's, is cut short, or names anything but tensors.
    """
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            if file.peek(4)[:4] == _WHISPER_CPP:
                raise ValueError("it is a file of whisper.cpp")
            loaded = read(file, path)
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


def _read_zip(file: BufferedReader, path: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        index = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = index.removesuffix("/data.pkl")
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("it was written by a big-endian machine")
        with archive.open(index) as stream:
            content = _Unpickler(stream, {}).load()

        def place(key: str) -> tuple[int, int, int]:
            entry = archive.getinfo(f"{root}/data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError("its tensors are compressed or encrypted, as torch.save leaves none")
            file.seek(entry.header_offset)
            name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            return file.tell() + name + extra, entry.file_size, entry.CRC

        return _placed(content, path, place)


def _read_legacy(file: BufferedReader, path: Path) -> Any:
    item_bytes: dict[str, int] = {}
    content, places = read_legacy(file, lambda stream: _Unpickler(stream, item_bytes).load(), item_bytes)
    return _placed(content, path, lambda key: (*places[key], None))
