"""A Hugging Face directory of a Whisper: which of its files hold the weights, and what it is if it is none.

Takes paths and names of files; reads an index and no weights. Knows no MAX, so that ``models`` may ask it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from captiond_engine.errors import ModelError

# Files of weights in the order in which transformers looks for them, then two variants that it must be told
# of. openai/whisper-large-v3 has float16 in model.safetensors and float32 beside it.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_VARIANTS = (
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "model.fp32.safetensors",
    "model.safetensors.index.fp32.json",
)
# All else that is read of a model.
SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "vocab.json",
    "added_tokens.json",
    "tokenizer.json",
)
# What else goes by the name of Whisper: a file that tells it, what it is, and what to do.
_FOREIGN = (
    (
        "adapter_config.json",
        "a LoRA adapter without its model",
        "Merge it into its base model (merge_and_unload of peft), save that, and name its folder.",
    ),
    (
        "model.bin",
        "a model for CTranslate2 (faster-whisper)",
        "Name the model that it was converted from, for example openai/whisper-small.",
    ),
    (
        "ggml-*.bin",
        "a model for whisper.cpp",
        "Name the model that it was converted from, for example openai/whisper-small.",
    ),
    ("*.gguf", "a model in GGUF", "Name the model that it was converted from."),
    ("weights.npz", "a model for MLX", "Name the model that it was converted from."),
    (
        "tf_model.h5",
        "a model for TensorFlow",
        "Save it with transformers for PyTorch, then name that folder.",
    ),
    (
        "flax_model.msgpack",
        "a model for Flax",
        "Save it with transformers for PyTorch, then name that folder.",
    ),
    ("*.onnx", "a model in ONNX", "Name the model that it was exported from."),
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model directory. Raises ModelError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} lacks {path.name}.", advice="Download the model again.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", advice="Download the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object.", advice="Download the model again.")
    return content


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights, all of one form. Raises ModelError where there are none."""
    for name in (*SAFETENSORS, *PICKLED, *_VARIANTS):
        if (path / name).exists():
            return _shards(path / name) if name.endswith(".json") else [path / name]
    raise ModelError(
        f"{path} lacks {SAFETENSORS[0]}.",
        advice=f"Download the model again; {PICKLED[0]} or shards with their index would do as well.",
    )


def has_weights(path: Path) -> bool:
    """Whether there is a file of weights, or an index of some, in a form that is read here."""
    return any((path / name).exists() for name in (*SAFETENSORS, *PICKLED, *_VARIANTS))


def refuse_foreign(path: Path) -> None:
    """Raise ModelError where a folder has no weights that are read here, but is of a known other kind."""
    found = None if has_weights(path) else foreign(file.name for file in path.iterdir())
    if found:
        what, advice = found
        raise ModelError(f"{path} is {what}, which does not run here.", advice=advice)


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ModelError(f"{index} does not say which file holds which tensor.")
    return [index.parent / Path(shard).name for shard in sorted(set(weight_map.values()))]


def missing(path: Path) -> list[str]:
    """What a model's folder lacks, by name; empty where it is whole. A download may have broken off."""
    wanted = ["config.json"]
    try:
        wanted += [file.name for file in weight_files(path)]
    except (ModelError, OSError):
        wanted.append(SAFETENSORS[0])
    if not (path / "tokenizer.json").exists():
        wanted.append("vocab.json")
    return [name for name in wanted if not (path / name).exists()]


def foreign(names: Iterable[str]) -> tuple[str, str] | None:
    """What a folder with files of these names is, if not one that runs here, and what to do about it."""
    names = list(names)
    for pattern, what, advice in _FOREIGN:
        if any(fnmatch(name, pattern) for name in names):
            return what, advice
    return None
