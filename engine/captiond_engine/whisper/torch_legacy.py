"""PyTorch's older files, before the zip: several pickles, then the storages one after the other.

Takes an open file and an unpickler that does nothing but note, gives the saved object and where the storages
lie. Format: torch ``serialization.py``, ``_legacy_save`` and ``_legacy_load``.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from io import BufferedReader
from typing import Any

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")  # elements of a storage, before its bytes


def read_legacy(
    file: BufferedReader, load: Callable[[BufferedReader], Any], item_bytes: Mapping[str, int]
) -> tuple[Any, dict[str, tuple[int, int]]]:
    """What was saved, and start and length in bytes of each storage by its key.

    ``load`` reads one pickle; ``item_bytes``, filled by it, has the size of an element of each storage.
    Raises what ``pickle`` and ``struct`` raise, and ValueError.
    """
    if load(file) != MAGIC or load(file) != _PROTOCOL:
        raise pickle.UnpicklingError("it begins with another number than PyTorch's files")
    if not load(file)["little_endian"]:
        raise ValueError("it was written by a big-endian machine")
    content, keys = load(file), load(file)
    places = {}
    for key in keys:
        (count,) = _COUNT.unpack(file.read(_COUNT.size))
        length = count * item_bytes[key]
        if length < 0:
            raise ValueError(f"the storage {key} has a negative size")
        places[key] = (file.tell(), length)
        file.seek(length, 1)
    return content, places
