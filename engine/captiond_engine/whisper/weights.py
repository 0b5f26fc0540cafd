"""Checkpoints: a Hugging Face directory or OpenAI's ``.pt`` to float32 arrays under OpenAI's names.

Strict in both directions: every tensor of the file is used, every tensor of the graphs is fed, and what is
missing, left over or of another shape is listed. Knows files, no graph and no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from captiond_engine.errors import ModelError, ModelNotFoundError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.torch_file import read_torch_file, widen_bfloat16

_ADVICE = "Download the model again, or name another one."
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model as read from disk; ``generation`` is Hugging Face's generation_config.json or empty."""

    path: Path
    config: WhisperConfig
    tensors: dict[str, Float32Array]
    generation: dict[str, Any] = field(default_factory=dict)


def expected_shapes(config: WhisperConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Whisper of these dimensions, by OpenAI's names (openai-whisper model.py)."""
    width, vocab = config.n_audio_state, config.n_vocab
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (width, config.n_mels, 3),
        "encoder.conv1.bias": (width,),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width,),
        "encoder.positional_embedding": (config.n_audio_ctx, width),
        "encoder.ln_post.weight": (width,),
        "encoder.ln_post.bias": (width,),
        "decoder.token_embedding.weight": (vocab, width),
        "decoder.positional_embedding": (config.n_text_ctx, width),
        "decoder.ln.weight": (width,),
        "decoder.ln.bias": (width,),
    }
    for layer in range(config.n_audio_layer):
        shapes |= _block_shapes(f"encoder.blocks.{layer}", width, ("attn",))
    for layer in range(config.n_text_layer):
        shapes |= _block_shapes(f"decoder.blocks.{layer}", width, ("attn", "cross_attn"))
    return shapes


def _block_shapes(block: str, width: int, attentions: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{block}.mlp.0.weight": (4 * width, width),
        f"{block}.mlp.0.bias": (4 * width,),
        f"{block}.mlp.2.weight": (width, 4 * width),
        f"{block}.mlp.2.bias": (width,),
    }
    for norm in (*(f"{attention}_ln" for attention in attentions), "mlp_ln"):
        shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    for attention in attentions:
        for part in ("query", "key", "value", "out"):
            shapes[f"{block}.{attention}.{part}.weight"] = (width, width)
            if part != "key":
                shapes[f"{block}.{attention}.{part}.bias"] = (width,)
    return shapes


def check_complete(config: WhisperConfig, tensors: Mapping[str, Float32Array], where: Path | str) -> None:
    """Raise ModelError that lists tensors missing, left over, of another shape, or not finite."""
    expected = expected_shapes(config)
    faults = [f"missing {name}" for name in expected if name not in tensors]
    faults += [f"not used {name}" for name in tensors if name not in expected]
    for name, shape in expected.items():
        if name in tensors and tensors[name].shape != shape:
            faults.append(f"{name} is {tensors[name].shape}, expected {shape}")
        elif name in tensors and not np.isfinite(tensors[name]).all():
            faults.append(f"{name} holds numbers that are not finite")
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise ModelError(
            f"{where} does not hold exactly one Whisper model: {shown}.",
            advice="Download it again, or name the model that belongs to this configuration.",
        )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a Hugging Face directory or an OpenAI ``.pt`` file. Raises ModelError."""
    if not path.exists():
        raise ModelNotFoundError(f"There is no model at {path}.", advice="Check the path.")
    try:
        checkpoint = _read_hugging_face(path) if path.is_dir() else _read_openai(path)
        check_complete(checkpoint.config, checkpoint.tensors, path)
    except ModelError as error:  # a configuration does not know its file: say where and what to do
        if str(path) in error.message and error.advice:
            raise
        where = "" if str(path) in error.message else f"{path}: "
        raise ModelError(where + error.message, advice=error.advice or _ADVICE, code=error.code) from error
    return checkpoint


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


def _read_openai(path: Path) -> Checkpoint:
    content = read_torch_file(path)
    if not {"dims", "model_state_dict"} <= content.keys():
        raise ModelError(f"{path} has no 'dims' and 'model_state_dict', so it is not one of OpenAI's files.")
    dims, state = content["dims"], content["model_state_dict"]
    if not isinstance(dims, dict) or not isinstance(state, dict):
        raise ModelError(f"{path}: 'dims' and 'model_state_dict' are not the dictionaries of OpenAI's files.")
    for name, array in state.items():
        if not isinstance(array, np.ndarray):
            raise ModelError(f"{path}: {name!r} is a {type(array).__name__}, not a tensor.")
    tensors = {str(name): np.asarray(array, np.float32) for name, array in state.items()}
    return Checkpoint(path, WhisperConfig.from_openai(dims), tensors)


def _read_hugging_face(path: Path) -> Checkpoint:
    config = WhisperConfig.from_hugging_face(read_json(path / "config.json"))
    raw: dict[str, Float32Array] = {}
    for file in _safetensors_files(path):
        raw |= _read_safetensors(file)
    projection = raw.pop("proj_out.weight", None)
    embedding = raw.get("model.decoder.embed_tokens.weight")
    if projection is not None and embedding is not None and not np.array_equal(projection, embedding):
        raise ModelError(f"{path}: proj_out.weight differs from the token embedding; Whisper ties them.")
    tensors = {_openai_name(name): array for name, array in raw.items()}
    generation_file = path / "generation_config.json"
    generation = read_json(generation_file) if generation_file.exists() else {}
    return Checkpoint(path, config, tensors, generation)


def _safetensors_files(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
            raise ModelError(f"{index} does not say which file holds which tensor.")
        return [path / Path(shard).name for shard in sorted(set(weight_map.values()))]
    return [path / "model.safetensors"]


def _read_safetensors(path: Path) -> dict[str, Float32Array]:
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} lacks {path.name}.", advice="Download the model again.") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is cut short or corrupt: {error}.", advice="Download it again.") from error
    arrays: dict[str, Float32Array] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ModelError(f"{path}: {name} has type {entry['dtype']}; only floating point is run here.")
        flat = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = widen_bfloat16(flat) if entry["dtype"] == "BF16" else flat.astype(np.float32)
    return arrays


# Hugging Face's names to OpenAI's, in this order (transformers convert_openai_to_hf.py, the other way).
_RENAMES = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.self_attn\.", ".attn."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.embed_positions\.weight$", ".positional_embedding"),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
)


def _openai_name(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
