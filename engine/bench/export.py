"""Writes tensors in memory in the form that each program loads, so that all of them run the same weights.

Takes a configuration and arrays under OpenAI's names, gives files: a Hugging Face folder, CTranslate2's,
OpenAI's ``.pt``, ggml's. The tokenizer written is good for its vocabulary only: it has no merges and cannot
encode text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from captiond_engine.models import BUNDLED
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.folder import read_json
from captiond_engine.whisper.tokens import WhisperTokenizer, byte_characters
from safetensors.numpy import save_file

from engine.bench.ggml import write_ggml

HUGGING_FACE, CTRANSLATE2, OPENAI = "hugging-face", "ctranslate2", "openai.pt"
GGML = {precision: f"ggml-{precision}.bin" for precision in ("float32", "float16", "int8")}

# OpenAI's names to Hugging Face's, in this order.
_RENAMES = (
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
    (".token_embedding.", ".embed_tokens."),
    (".positional_embedding", ".embed_positions.weight"),
    (".blocks.", ".layers."),
    (".cross_attn_ln.", ".encoder_attn_layer_norm."),
    (".cross_attn.", ".encoder_attn."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".attn.", ".self_attn."),
    (".mlp_ln.", ".final_layer_norm."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
)


def hugging_face_name(name: str) -> str:
    for ours, theirs in _RENAMES:
        name = name.replace(ours, theirs)
    return f"model.{name}"


def _vocabulary(config: WhisperConfig) -> dict[str, int]:
    """The published vocabulary of this size in GPT-2's printable bytes."""
    if config.n_vocab < 51_865:
        return {name: int(i) for name, i in read_json(BUNDLED / "demo-en" / "vocab.json").items()}
    printable = {byte: character for character, byte in byte_characters().items()}
    lines = (BUNDLED / "vocabulary" / "multilingual.tiktoken").read_text(encoding="ascii").splitlines()
    pairs = (line.split() for line in lines if line)
    return {"".join(printable[b] for b in base64.b64decode(token)): int(rank) for token, rank in pairs}


def write_hugging_face(folder: Path, config: WhisperConfig, tensors: dict[str, Float32Array]) -> None:
    """``config.json``, ``model.safetensors`` and tokenizer files in ``folder``."""
    specials = WhisperTokenizer.from_published(config).specials
    settings: dict[str, Any] = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": config.n_vocab,
        "num_mel_bins": config.n_mels,
        "d_model": config.n_audio_state,
        "encoder_layers": config.n_audio_layer,
        "encoder_attention_heads": config.n_audio_head,
        "decoder_layers": config.n_text_layer,
        "decoder_attention_heads": config.n_text_head,
        "encoder_ffn_dim": 4 * config.n_audio_state,
        "decoder_ffn_dim": 4 * config.n_text_state,
        "max_source_positions": config.n_audio_ctx,
        "max_target_positions": config.n_text_ctx,
        "eos_token_id": specials["<|endoftext|>"],
        "bos_token_id": specials["<|endoftext|>"],
        "pad_token_id": specials["<|endoftext|>"],
        "decoder_start_token_id": specials["<|startoftranscript|>"],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    generation = {
        "alignment_heads": [list(head) for head in config.aligned_by],
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "lang_to_id": {name: i for name, i in specials.items() if len(name) in (6, 7)},
    }
    files: dict[str, Any] = {
        "config.json": settings,
        "generation_config.json": generation,
        "vocab.json": _vocabulary(config),
        "added_tokens.json": specials,
        "tokenizer_config.json": {"tokenizer_class": "WhisperTokenizer"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    renamed = {hugging_face_name(name): array for name, array in tensors.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def write_formats(
    folder: Path, config: WhisperConfig, tensors: dict[str, Float32Array], names: Iterable[str]
) -> None:
    """Files called ``names`` (the constants above) in ``folder``."""
    wanted = set(names)
    if wanted & {HUGGING_FACE, CTRANSLATE2}:
        write_hugging_face(folder / HUGGING_FACE, config, tensors)
    if CTRANSLATE2 in wanted:
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(folder / HUGGING_FACE))
        converter.convert(str(folder / CTRANSLATE2), quantization="float32")
    if OPENAI in wanted:
        import torch

        state = {name: torch.from_numpy(array) for name, array in tensors.items()}
        torch.save({"dims": config.dimensions, "model_state_dict": state}, folder / OPENAI)
    for precision, name in GGML.items():
        if name in wanted:
            write_ggml(folder / name, config, tensors, text_tokens(config), precision)


def text_tokens(config: WhisperConfig) -> list[bytes]:
    """The bytes of each text token, by id; specials come after them."""
    bytes_of = byte_characters()
    plain = {i: token for token, i in _vocabulary(config).items() if not token.startswith("<|")}
    return [bytes(bytes_of[character] for character in plain[i]) for i in range(len(plain))]
