"""Writes tensors in memory as a file for whisper.cpp, in ggml's format from before GGUF.

Takes a configuration and arrays under OpenAI's names, gives one file. The format is that of whisper.cpp's
``models/convert-pt-to-ggml.py`` (file magic, eleven dimensions, mel filters, vocabulary, then each tensor
with a header of its own); bytes are ggml's ``block_q8_0`` (``ggml-common.h``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from captiond_engine.audio.mel import mel_filters
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from numpy.typing import NDArray

MAGIC = 0x67676D6C  # "ggml"
# ``ggml_type`` of a tensor and ``ggml_ftype`` of the file, with the version of quantization (2) in thousands.
TENSOR_TYPES = {"float32": 0, "float16": 1, "int8": 8}
FILE_TYPES = {"float32": 0, "float16": 1, "int8": 2_007}
BLOCK = 32  # values of one scale in q8_0
# In this order, all of them as int32.
_DIMENSIONS = (
    "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head "
    "n_text_layer n_mels"
).split()


def write_ggml(
    path: Path,
    config: WhisperConfig,
    tensors: dict[str, Float32Array],
    vocabulary: list[bytes],
    precision: str,
) -> None:
    """``vocabulary`` holds the text tokens by id. ``precision``: float32, float16 or int8, of the matrices;
    vectors and positions stay float32, and convolutions float16 at least, as whisper.cpp wants them."""
    filters = mel_filters(config.n_mels)
    with path.open("wb") as file:
        dimensions = [getattr(config, name) for name in _DIMENSIONS]
        file.write(struct.pack("<I11i", MAGIC, *dimensions, FILE_TYPES[precision]))
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        file.write(struct.pack("<i", len(vocabulary)))
        for token in vocabulary:
            file.write(struct.pack("<i", len(token)) + token)
        for name, array in tensors.items():
            file.writelines(_tensor(name, array, precision))


def _tensor(name: str, array: Float32Array, precision: str) -> Iterator[bytes]:
    """Header (count of dimensions, length of the name, type; dimensions, the fastest first; name), data."""
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        array = array[:, None]
    kept = _kept_as(name, array, precision)
    encoded = name.encode()
    yield struct.pack("<3i", array.ndim, len(encoded), TENSOR_TYPES[kept])
    yield struct.pack(f"<{array.ndim}i", *reversed(array.shape)) + encoded
    yield q8_0(array) if kept == "int8" else array.astype(np.dtype(kept).newbyteorder("<")).tobytes()


def _kept_as(name: str, array: Float32Array, precision: str) -> str:
    if array.ndim < 2 or name.endswith((".bias", "positional_embedding")):
        return "float32"
    return "float16" if precision == "int8" and array.ndim == 3 else precision


def q8_0(array: Float32Array) -> bytes:
    """Blocks of 32 values: a float16 step (largest value / 127), then 32 signed bytes."""
    values = array.astype(np.float32).reshape(-1, BLOCK)
    steps = np.abs(values).max(1, keepdims=True) / np.float32(127)
    blocks: NDArray[Any] = np.zeros(len(values), [("step", "<f2"), ("bytes", "i1", BLOCK)])
    blocks["step"] = steps[:, 0]
    blocks["bytes"] = np.rint(np.divide(values, steps, out=np.zeros_like(values), where=steps > 0))
    return blocks.tobytes()
