"""A plain NumPy Whisper: the slow twin that says whether a compiled graph computes the right numbers.

Takes checkpoint tensors, gives encoder output and logits for short inputs. No cache, no batch, no speed.
Formulae: openai-whisper ``model.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig

Tensors = Mapping[str, Float32Array]
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7.
_ERF_P, _ERF = 0.3275911, (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0)


def erf(x: Float32Array) -> NDArray[np.float64]:
    """The error function; NumPy has none."""
    t = 1.0 / (1.0 + _ERF_P * np.abs(x, dtype=np.float64))
    return np.asarray(np.sign(x) * (1.0 - np.polyval(_ERF, t) * np.exp(-np.square(x, dtype=np.float64))))


def _gelu(x: Float32Array) -> Float32Array:
    return np.asarray(0.5 * x * (1.0 + erf(x * np.float32(0.5**0.5))), np.float32)


def _linear(tensors: Tensors, x: Float32Array, name: str) -> Float32Array:
    y = x @ tensors[f"{name}.weight"].T
    return np.asarray(y + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else y, np.float32)


def _norm(tensors: Tensors, x: Float32Array, name: str) -> Float32Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return np.asarray(scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"], np.float32)


def _heads(x: Float32Array) -> Float32Array:
    return x.reshape(len(x), -1, HEAD_WIDTH).swapaxes(0, 1)


def _attention(
    tensors: Tensors, x: Float32Array, source: Float32Array, name: str, *, causal: bool = False
) -> Float32Array:
    q = _heads(_linear(tensors, x, f"{name}.query"))
    k = _heads(_linear(tensors, source, f"{name}.key"))
    v = _heads(_linear(tensors, source, f"{name}.value"))
    scores = q @ k.swapaxes(1, 2) * np.float32(HEAD_WIDTH**-0.5)
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    return _linear(tensors, mixed.swapaxes(0, 1).reshape(len(x), -1), f"{name}.out")


def _mlp(tensors: Tensors, x: Float32Array, block: str) -> Float32Array:
    hidden = _gelu(_linear(tensors, _norm(tensors, x, f"{block}.mlp_ln"), f"{block}.mlp.0"))
    return np.asarray(x + _linear(tensors, hidden, f"{block}.mlp.2"), np.float32)


def _convolve(tensors: Tensors, x: Float32Array, name: str, stride: int) -> Float32Array:
    padded = np.pad(x, ((0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]
    y = np.einsum("cnk,eck->en", windows, tensors[f"{name}.weight"], optimize=True)
    return np.asarray(y + tensors[f"{name}.bias"][:, None], np.float32)


def encode(config: WhisperConfig, tensors: Tensors, mel: Float32Array) -> Float32Array:
    """Encoder output float32 [S, E] of ``mel`` float32 [C, N]."""
    x = _gelu(_convolve(tensors, mel, "encoder.conv1", 1))
    x = _gelu(_convolve(tensors, x, "encoder.conv2", 2)).T
    x = x + tensors["encoder.positional_embedding"][: len(x)]
    for layer in range(config.n_audio_layer):
        block = f"encoder.blocks.{layer}"
        normed = _norm(tensors, x, f"{block}.attn_ln")
        x = x + _attention(tensors, normed, normed, f"{block}.attn")
        x = _mlp(tensors, x, block)
    return _norm(tensors, x, "encoder.ln_post")


def logits(
    config: WhisperConfig, tensors: Tensors, encoded: Float32Array, tokens: Sequence[int]
) -> Float32Array:
    """Logits float32 [T, V] after each of ``tokens``, attending to ``encoded`` [S, E]."""
    embedding = tensors["decoder.token_embedding.weight"]
    x = embedding[list(tokens)] + tensors["decoder.positional_embedding"][: len(tokens)]
    for layer in range(config.n_text_layer):
        block = f"decoder.blocks.{layer}"
        normed = _norm(tensors, x, f"{block}.attn_ln")
        x = x + _attention(tensors, normed, normed, f"{block}.attn", causal=True)
        normed = _norm(tensors, x, f"{block}.cross_attn_ln")
        x = x + _attention(tensors, normed, encoded, f"{block}.cross_attn")
        x = _mlp(tensors, x, block)
    return np.asarray(_norm(tensors, x, "decoder.ln") @ embedding.T, np.float32)
