"""Where the tensors of a ``.safetensors`` file lie. Takes a path, gives StoredTensors; reads its header.

The library of that name judges the file, but keeps the places to itself, and reads by mapping: then what was
read counts as this process's memory beside what became of it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import safetensors

from captiond_engine.errors import ModelError
from captiond_engine.whisper.stored import StoredTensor

_PREFIX = struct.Struct("<Q")  # length of the JSON that follows; then the data (safetensors README, "Format")


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of ``path`` by name. Raises ModelError where it is missing, cut short or corrupt."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            (length,) = _PREFIX.unpack(file.read(_PREFIX.size))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _stored(path, entry, _PREFIX.size + length) for name, entry in header.items()}
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} lacks {path.name}.", advice="Download the model again.") from error
    except (OSError, safetensors.SafetensorError, ValueError, LookupError, struct.error) as error:
        raise ModelError(f"{path} is cut short or corrupt: {error}.", advice="Download it again.") from error


def _stored(path: Path, entry: dict[str, list[int]], data: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    return StoredTensor(path, str(entry["dtype"]), tuple(entry["shape"]), data + begin, end - begin)
