"""Writes small Whisper checkpoints as both published formats, from NumPy alone, sound or spoilt.

The Hugging Face names come from transformers' ``convert_openai_to_hf.py`` (WHISPER_MAPPING), so that they do
not lean on the code that reads them.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.tokens import WhisperTokenizer, byte_characters
from captiond_engine.whisper.weights import expected_shapes
from numpy.typing import NDArray

Array = NDArray[Any]
SMALL = WhisperConfig(8, 10, 64, 1, 1, 40, 12, 64, 1, 1)  # one layer each way, forty tokens

_MAPPING = (
    ("blocks", "layers"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("mlp_ln", "final_layer_norm"),
    (".attn.query", ".self_attn.q_proj"),
    (".attn.key", ".self_attn.k_proj"),
    (".attn.value", ".self_attn.v_proj"),
    (".attn_ln", ".self_attn_layer_norm"),
    (".attn.out", ".self_attn.out_proj"),
    (".cross_attn.query", ".encoder_attn.q_proj"),
    (".cross_attn.key", ".encoder_attn.k_proj"),
    (".cross_attn.value", ".encoder_attn.v_proj"),
    (".cross_attn_ln", ".encoder_attn_layer_norm"),
    (".cross_attn.out", ".encoder_attn.out_proj"),
    ("decoder.ln.", "decoder.layer_norm."),
    ("encoder.ln.", "encoder.layer_norm."),
    ("token_embedding", "embed_tokens"),
    ("encoder.positional_embedding", "encoder.embed_positions.weight"),
    ("decoder.positional_embedding", "decoder.embed_positions.weight"),
    ("ln_post", "layer_norm"),
)
_TORCH_STORAGE = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "uint16": "BFloat16Storage",
    "int64": "LongStorage",
}
_SAFE_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}


def small_tensors(seed: int = 5, config: WhisperConfig = SMALL) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(s, dtype=np.float32) for name, s in expected_shapes(config).items()}


def hugging_face_name(name: str) -> str:
    for ours, theirs in _MAPPING:
        name = name.replace(ours, theirs)
    return f"model.{name}"


def bfloat16_bits(array: Array) -> Array:
    """float32 cut to bfloat16, as the uint16 patterns that files hold."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


# --- safetensors and its directory -------------------------------------------------------------------


def safetensors_bytes(tensors: Mapping[str, Array]) -> bytes:
    """The format of safetensors: header length, JSON header, data; uint16 stands for bfloat16."""
    header, body = {}, b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {
            "dtype": _SAFE_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": place,
        }
        body += data
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + body


def hugging_face_config(config: WhisperConfig = SMALL) -> dict[str, Any]:
    return {
        "model_type": "whisper",
        "num_mel_bins": config.n_mels,
        "max_source_positions": config.n_audio_ctx,
        "d_model": config.n_audio_state,
        "encoder_attention_heads": config.n_audio_head,
        "encoder_layers": config.n_audio_layer,
        "vocab_size": config.n_vocab,
        "max_target_positions": config.n_text_ctx,
        "decoder_attention_heads": config.n_text_head,
        "decoder_layers": config.n_text_layer,
    }


def write_hugging_face(
    folder: Path,
    tensors: Mapping[str, Array],
    *,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
    pickled: bool = False,
    variant: str = "",
) -> Path:
    """A directory with config.json and one or more files of weights; ``tensors`` by OpenAI's names.

    ``pickled``: PyTorch's files instead of safetensors; ``variant``: such as fp32, as part of their names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or hugging_face_config()), encoding="utf-8")
    named = {hugging_face_name(name): array for name, array in tensors.items()}
    stem, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    variant = f".{variant}" if variant else ""
    if shards == 1:
        write_weights(folder / f"{stem}{variant}.{ending}", named)
        return folder
    weight_map = {}
    for shard in range(shards):
        part = dict(list(named.items())[shard::shards])
        file = f"{stem}{variant}-{shard + 1:05}-of-{shards:05}.{ending}"
        write_weights(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / f"{stem}.{ending}.index{variant}.json").write_text(index, encoding="utf-8")
    return folder


def write_weights(path: Path, named: Mapping[str, Array]) -> None:
    """One file of weights, pickled or safetensors by its ending; ``named`` as they stand in it."""
    if path.suffix == ".safetensors":
        path.write_bytes(safetensors_bytes(named))
    else:
        keys = {name: str(index) for index, name in enumerate(named)}
        content = {name: torch_tensor(array, keys[name]) for name, array in named.items()}
        write_zip(path, pickled(content), _storages(named, keys))


def write_vocabulary(folder: Path, tokenizer: WhisperTokenizer, *, one_file: bool) -> Path:
    """vocab.json and added_tokens.json of a published vocabulary, or the tokenizer.json of the same."""
    character = {byte: shown for shown, byte in byte_characters().items()}
    plain = {
        "".join(character[byte] for byte in tokenizer._bytes([token])): token
        for token in range(tokenizer.end_of_text)
    }
    added = dict(tokenizer.specials)
    folder.mkdir(exist_ok=True)
    if one_file:
        entries = [{"id": i, "content": name, "special": True} for name, i in added.items()]
        content = {"model": {"type": "BPE", "vocab": plain}, "added_tokens": entries}
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        return folder
    plain["<|endoftext|>"] = added.pop("<|endoftext|>")
    (folder / "vocab.json").write_text(json.dumps(plain), encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    return folder


# --- PyTorch's zip, its pickle written opcode by opcode ------------------------------------------------


class Global(NamedTuple):
    """A class or function that a pickle names."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that a pickle asks for."""

    what: Global
    arguments: tuple[Any, ...]


class Reference(NamedTuple):
    """A persistent id."""

    of: tuple[Any, ...]


def pickled(value: Any) -> bytes:
    """Protocol 2 of plain values, globals, calls and persistent ids."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _storages(tensors: Mapping[str, Array], keys: Mapping[str, str]) -> dict[str, bytes]:
    return {keys[name]: np.ascontiguousarray(array).tobytes() for name, array in tensors.items()}


def _opcodes(value: Any) -> bytes:
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(what, arguments):
            return _opcodes(what) + _opcodes(arguments) + b"R"
        case Reference(of):
            return _opcodes(of) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(_opcodes(item) for item in value) + b"t"
        case dict():
            return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
        case _:
            raise TypeError(f"no opcode for {type(value).__name__}")


def torch_tensor(
    array: Array, key: str, *, offset: int = 0, strides: tuple[int, ...] | None = None, legacy: bool = False
) -> Call:
    """How torch.save writes a tensor whose storage is ``data/<key>``; before the zip, with one value more."""
    dense = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
    storage = Global("torch", _TORCH_STORAGE[array.dtype.name])
    return Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (
            Reference(("storage", storage, key, "cpu", int(array.size), *((None,) if legacy else ()))),
            offset,
            tuple(array.shape),
            dense if strides is None else strides,
            False,
            Call(Global("collections", "OrderedDict"), ()),
        ),
    )


def write_zip(path: Path, pickle_bytes: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    """The container of torch.save around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle_bytes)
        archive.writestr("model/version", "3\n")
        for key, data in (storages or {}).items():
            archive.writestr(f"model/data/{key}", data)
    return path


def write_openai(path: Path, tensors: Mapping[str, Array], config: WhisperConfig = SMALL) -> Path:
    """One of OpenAI's ``.pt`` files, without torch."""
    keys = {name: str(index) for index, name in enumerate(tensors)}
    content = {
        "dims": config.dimensions,
        "model_state_dict": {name: torch_tensor(array, keys[name]) for name, array in tensors.items()},
    }
    return write_zip(path, pickled(content), _storages(tensors, keys))


def write_legacy(path: Path, tensors: Mapping[str, Array], config: WhisperConfig = SMALL) -> Path:
    """The same as PyTorch wrote it before its zip (torch serialization.py, ``_legacy_save``)."""
    keys = {name: str(index) for index, name in enumerate(tensors)}
    references = {name: torch_tensor(array, keys[name], legacy=True) for name, array in tensors.items()}
    content = {"dims": config.dimensions, "model_state_dict": references}
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    head = magic + b"".join(map(pickled, (1001, system, content, tuple(keys.values()))))
    storages = _storages(tensors, keys)
    sizes = {keys[name]: array.size for name, array in tensors.items()}
    body = b"".join(struct.pack("<q", sizes[key]) + storages[key] for key in keys.values())
    path.write_bytes(head + body)
    return path
