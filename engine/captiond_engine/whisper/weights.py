"""Checkpoints: a Hugging Face directory or OpenAI's ``.pt`` to float32 arrays under OpenAI's names.

Strict in both directions: every tensor of the file is used, every tensor of the graphs is fed, and what is
missing, left over or of another shape is listed. Knows no graph and no network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captiond_engine.errors import ModelError, ModelNotFoundError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.folder import read_json, refuse_foreign, weight_files
from captiond_engine.whisper.safetensors_file import read_safetensors
from captiond_engine.whisper.stored import StoredTensor
from captiond_engine.whisper.torch_file import read_torch_file

_ADVICE = "Download the model again, or name another one."
_EMBEDDING, _PROJECTION = "decoder.token_embedding.weight", "proj_out.weight"


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


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a Hugging Face directory or a file in OpenAI's format. Raises ModelError.

    Memory: the tensors in float32, and little beside them.
    """
    if not path.exists():
        raise ModelNotFoundError(f"There is no model at {path}.", advice="Check the path.")
    try:
        return _read_hugging_face(path) if path.is_dir() else _read_openai(path)
    except ModelError as error:  # a configuration does not know its file: say where and what to do
        if str(path) in error.message and error.advice:
            raise
        where = "" if str(path) in error.message else f"{path}: "
        raise ModelError(where + error.message, advice=error.advice or _ADVICE, code=error.code) from error


def _read_openai(path: Path) -> Checkpoint:
    content = read_torch_file(path)
    if not {"dims", "model_state_dict"} <= content.keys():
        raise ModelError(f"{path} has no 'dims' and 'model_state_dict', so it is not one of OpenAI's files.")
    dims, state = content["dims"], content["model_state_dict"]
    if not isinstance(dims, dict) or not isinstance(state, dict):
        raise ModelError(f"{path}: 'dims' and 'model_state_dict' are not the dictionaries of OpenAI's files.")
    config = WhisperConfig.from_openai(dims)
    return Checkpoint(path, config, _read_all(config, _only_tensors(state, path), path))


def _read_hugging_face(path: Path) -> Checkpoint:
    refuse_foreign(path)
    config, generation = read_settings(path)
    stored: dict[str, StoredTensor] = {}
    for file in weight_files(path):
        pickled = file.suffix == ".bin"
        inside = _only_tensors(read_torch_file(file), file) if pickled else read_safetensors(file)
        stored |= {_openai_name(name): tensor for name, tensor in inside.items()}
    projection = stored.pop(_PROJECTION, None)
    tensors = _read_all(config, stored, path)
    if (
        projection is not None
        and projection != stored[_EMBEDDING]  # not the same place in the file
        and not np.array_equal(_read(projection, _PROJECTION), tensors[_EMBEDDING])
    ):
        raise ModelError(
            f"{path}: {_PROJECTION} differs from the token embedding; Whisper ties them.",
            advice="Save the model with tie_word_embeddings = true, or name another one.",
        )
    return Checkpoint(path, config, tensors, generation)


def read_settings(path: Path) -> tuple[WhisperConfig, dict[str, Any]]:
    """What a Hugging Face folder's config.json and generation_config.json say. Raises ModelError."""
    config = WhisperConfig.from_hugging_face(read_json(path / "config.json"))
    generation_file = path / "generation_config.json"
    generation = read_json(generation_file) if generation_file.exists() else {}
    return config.with_alignment_heads(generation.get("alignment_heads")), generation


def _only_tensors(state: Mapping[Any, Any], where: Path) -> dict[str, StoredTensor]:
    for name, tensor in state.items():
        if not isinstance(tensor, StoredTensor):
            raise ModelError(f"{where}: {name!r} is a {type(tensor).__name__}, not a tensor.")
    return {str(name): tensor for name, tensor in state.items()}


def _read_all(
    config: WhisperConfig, stored: Mapping[str, StoredTensor], where: Path
) -> dict[str, Float32Array]:
    """All tensors, if they are exactly those of one model. Names and shapes are judged before any is read."""
    expected = expected_shapes(config)
    faults = [f"missing {name}" for name in expected if name not in stored]
    faults += [f"not used {name}" for name in stored if name not in expected]
    faults += [
        f"{name} is {stored[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != shape
    ]
    tensors = {}
    for name in () if faults else expected:
        tensors[name] = _read(stored[name], name)
        if not np.isfinite(tensors[name]).all():
            faults.append(f"{name} holds numbers that are not finite")
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise ModelError(
            f"{where} does not hold exactly one Whisper model: {shown}.",
            advice="Download it again, or name the model that belongs to this configuration.",
        )
    return tensors


def _read(tensor: StoredTensor, name: str) -> Float32Array:
    try:
        return tensor.read()
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error) or "there is not enough memory"
        raise ModelError(f"{tensor.path}: {name} cannot be read: {reason}.") from error


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
