"""Step 7, `python -m engine.training.export CHECKPOINT OUT`: a checkpoint's averaged weights as models that
others load.

OUT gets `model.safetensors` with `config.json`, `generation_config.json`, `preprocessor_config.json` and the
tokenizer's files (Hugging Face's `WhisperForConditionalGeneration`), and `model.pt` (openai-whisper), in
float16. Nothing in them is ours: the architecture and the vocabulary of 51864 tokens are OpenAI's.

Tokens that were never trained get a logit of `UNUSED_LOGIT` for every input. The decoder's last LayerNorm
gives h = w·n + b with Σn = 0, so ⟨h, 1/w⟩ = Σ b/w =: s whatever was said; a row of UNUSED_LOGIT/(s·w)
therefore always has that logit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.training import tokenizer
from engine.training.model import AUDIO_CONTEXT, HEAD_DIM, MELS, TEXT_CONTEXT, Checkpoint, Size, Whisper
from engine.training.text import Vocabulary

UNUSED_LOGIT = -25.0
TOKENS = 51864
END, START, BEFORE, NO_TIMESTAMPS = 50256, 50257, 50360, 50362
RENAMED = [  # openai-whisper's names → transformers'
    ("blocks.", "layers."),
    ("cross_attn_ln.", "encoder_attn_layer_norm."),
    ("cross_attn.", "encoder_attn."),
    ("attn_ln.", "self_attn_layer_norm."),
    (".attn.", ".self_attn."),
    ("mlp_ln.", "final_layer_norm."),
    ("mlp.0.", "fc1."),
    ("mlp.2.", "fc2."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    ("attn.out.", "attn.out_proj."),
    ("ln_post.", "layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
    ("coder.positional_embedding", "coder.embed_positions.weight"),
    ("token_embedding", "embed_tokens"),
]


def whole_vocabulary(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Weights under openai-whisper's names, float16, every token of the vocabulary in its row."""
    weights = {n: t.float() for n, t in checkpoint.averaged.items() if not n.startswith("ctc")}
    inverse = 1 / weights["decoder.ln.weight"]
    constant = float((weights["decoder.ln.bias"] * inverse).sum())
    if abs(constant) < 1:
        raise click.ClickException(f"the decoder's last bias leaves no constant direction: {constant:.3f}")
    table = (UNUSED_LOGIT / constant * inverse).repeat(TOKENS, 1)
    table[torch.tensor(checkpoint.tokens)] = weights["decoder.token_embedding.weight"]
    weights["decoder.token_embedding.weight"] = table
    return {n: t.half().contiguous() for n, t in weights.items()}


def transformers_name(name: str) -> str:
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return "model." + name


def config(size: Size) -> dict[str, Any]:
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": TOKENS,
        "num_mel_bins": MELS,
        "d_model": size.state,
        "encoder_layers": size.encoder_layers,
        "encoder_attention_heads": size.heads,
        "decoder_layers": size.decoder_layers,
        "decoder_attention_heads": size.heads,
        "encoder_ffn_dim": 4 * size.state,
        "decoder_ffn_dim": 4 * size.state,
        "max_source_positions": AUDIO_CONTEXT,
        "max_target_positions": TEXT_CONTEXT,
        "activation_function": "gelu",
        **dict.fromkeys(["dropout", "attention_dropout", "activation_dropout"], 0.0),
        **dict.fromkeys(["encoder_layerdrop", "decoder_layerdrop"], 0.0),
        "scale_embedding": False,
        "is_encoder_decoder": True,
        "num_hidden_layers": size.encoder_layers,
        **dict.fromkeys(["bos_token_id", "eos_token_id", "pad_token_id"], END),
        "decoder_start_token_id": START,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "forced_decoder_ids": [[1, NO_TIMESTAMPS]],
        "tie_word_embeddings": True,
        "use_cache": True,
        "torch_dtype": "float16",
    }


def generation_config(alignment_heads: list[tuple[int, int]]) -> dict[str, Any]:
    """With `alignment_heads` as (layer, head), those that `engine.bench.heads` finds to follow the audio."""
    return {
        **dict.fromkeys(["bos_token_id", "eos_token_id", "pad_token_id"], END),
        "decoder_start_token_id": START,
        "forced_decoder_ids": [[1, NO_TIMESTAMPS]],
        "no_timestamps_token_id": NO_TIMESTAMPS,
        "prev_sot_token_id": BEFORE,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "is_multilingual": False,
        "max_length": TEXT_CONTEXT,
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
        **({"alignment_heads": [list(head) for head in alignment_heads]} if alignment_heads else {}),
    }


PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "feature_size": MELS,
    "sampling_rate": 16000,
    "hop_length": 160,
    "n_fft": 400,
    "chunk_length": 30,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
}


def load_folder(folder: Path) -> tuple[Whisper, Vocabulary]:
    """The plain torch model of an exported folder, for evaluate.py."""
    told = json.loads((folder / "config.json").read_text())
    size = Size(told["d_model"], told["encoder_layers"], told["decoder_layers"])
    model = Whisper(size, TOKENS)
    weights = load_file(folder / "model.safetensors")
    own = {n: weights[transformers_name(n)].float() for n in model.state_dict() if not n.startswith("ctc")}
    model.load_state_dict(own, strict=False)
    return model.eval(), Vocabulary(list(range(TOKENS)))


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--head", "heads", type=(int, int), multiple=True, help="LAYER HEAD whose attention tells words' times."
)
def main(checkpoint: Path, out: Path, heads: tuple[tuple[int, int], ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    told = Checkpoint.load(checkpoint)
    weights, size = whole_vocabulary(told), told.size
    dims = {
        "n_mels": MELS,
        "n_audio_ctx": AUDIO_CONTEXT,
        "n_audio_state": size.state,
        "n_audio_head": size.state // HEAD_DIM,
        "n_audio_layer": size.encoder_layers,
        "n_vocab": TOKENS,
        "n_text_ctx": TEXT_CONTEXT,
        "n_text_state": size.state,
        "n_text_head": size.state // HEAD_DIM,
        "n_text_layer": size.decoder_layers,
    }
    torch.save({"dims": dims, "model_state_dict": weights}, out / "model.pt")
    save_file(
        {transformers_name(n): t for n, t in weights.items()}, out / "model.safetensors", {"format": "pt"}
    )
    files = {
        "config.json": config(size),
        "generation_config.json": generation_config(list(heads)),
        "preprocessor_config.json": PREPROCESSOR,
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=1) + "\n")
    tokenizer.write(out)
    megabytes = (out / "model.safetensors").stat().st_size / 1e6
    print(f"{told.steps} steps, {told.audio_seconds / 3600:.0f} h of audio, {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
