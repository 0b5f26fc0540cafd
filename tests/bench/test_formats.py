"""The same numbers arrive in every program's format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from captiond_engine.audio.mel import mel_filters
from captiond_engine.types import Float32Array
from captiond_engine.whisper.weights import read_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.bench.cases import weights_of, windows
from engine.bench.export import GGML, HUGGING_FACE, OPENAI, text_tokens, write_formats
from engine.bench.ggml import BLOCK, MAGIC, q8_0

NAME = "demo-en"
BLOCK_BYTES = 2 + BLOCK


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("formats")
    config, tensors, _ = weights_of(NAME)
    write_formats(made, config, tensors, [HUGGING_FACE, *GGML.values()])
    return made


def test_a_hugging_face_folder_reads_back_exactly(folder: Path) -> None:
    config, tensors, _ = weights_of(NAME)
    again = read_checkpoint(folder / HUGGING_FACE)
    assert again.config == config
    assert again.tensors.keys() == tensors.keys()
    assert all(np.array_equal(again.tensors[name], array) for name, array in tensors.items())


def test_an_openai_checkpoint_reads_back_exactly(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config, tensors, _ = weights_of(NAME)
    write_formats(tmp_path, config, tensors, [OPENAI])
    again = read_checkpoint(tmp_path / OPENAI)
    assert again.config.dimensions == config.dimensions
    assert all(np.array_equal(again.tensors[name], array) for name, array in tensors.items())


class Reader:
    """A ggml file, read by what its header says, as whisper.cpp does (``whisper_model_load``)."""

    def __init__(self, path: Path) -> None:
        self._bytes, self._at = path.read_bytes(), 0

    def numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self.bytes(4 * count))

    def bytes(self, count: int) -> bytes:
        self._at += count
        return self._bytes[self._at - count : self._at]

    @property
    def done(self) -> bool:
        return self._at == len(self._bytes)

    def tensor(self) -> tuple[str, int, Float32Array]:
        dimensions, length, kind = self.numbers(3)
        shape = self.numbers(dimensions)[::-1]
        name, size = self.bytes(length).decode(), int(np.prod(shape))
        if kind == 8:
            return name, kind, read_q8_0(self.bytes(size // BLOCK * BLOCK_BYTES)).reshape(shape)
        dtype = ("<f4", "<f2")[kind]
        data = np.frombuffer(self.bytes(size * int(dtype[-1])), dtype)
        return name, kind, data.astype(np.float32).reshape(shape)


def read_q8_0(data: bytes) -> Float32Array:
    blocks = np.frombuffer(data, [("step", "<f2"), ("values", "i1", BLOCK)])
    return np.asarray(blocks["step"][:, None].astype(np.float32) * blocks["values"], np.float32)


@pytest.mark.parametrize(
    ("precision", "kinds", "error"),
    [("float32", {0}, 0.0), ("float16", {0, 1}, 2**-11), ("int8", {0, 1, 8}, 0.5 / 127 + 2**-11)],
)
def test_a_ggml_file_holds_every_tensor(folder: Path, precision: str, kinds: set[int], error: float) -> None:
    config, tensors, _ = weights_of(NAME)
    file = Reader(folder / GGML[precision])
    magic, *header = file.numbers(12)
    assert magic == MAGIC
    assert header[:3] == [config.n_vocab, config.n_audio_ctx, config.n_audio_state]
    mels, bins = file.numbers(2)
    filters = np.frombuffer(file.bytes(4 * mels * bins), "<f4").reshape(mels, bins)
    assert np.array_equal(filters, mel_filters(config.n_mels))
    words = [file.bytes(*file.numbers(1)) for _ in range(*file.numbers(1))]
    assert words == text_tokens(config)
    found = {}
    while not file.done:
        name, kind, array = file.tensor()
        found[name] = kind
        expected = tensors[name].reshape(array.shape)
        assert np.abs(array - expected).max() <= error * np.abs(expected).max(), name
    assert found.keys() == tensors.keys()
    assert set(found.values()) == kinds


def test_text_tokens_spell_what_the_tokenizer_says() -> None:
    config, _, tokenizer = weights_of(NAME)
    words = text_tokens(config)
    tokens = tokenizer.encode("What happened on Friday, July twenty seventh?")
    assert b"".join(words[token] for token in tokens).decode() == tokenizer.decode(tokens)
    assert len(words) == tokenizer.end_of_text


@given(arrays.arrays(np.float32, (3, 64), elements=st.floats(-8, 8, width=32)))
def test_rounded_bytes_are_within_half_a_step(array: Float32Array) -> None:
    """And what the step itself loses as a float16, which is less than 0.1 per cent of the value."""
    back = read_q8_0(q8_0(array)).reshape(array.shape)
    steps = np.abs(array.reshape(-1, BLOCK)).max(1).repeat(BLOCK).reshape(array.shape) / 127
    assert (np.abs(back - array) <= 0.5 * steps + 1e-3 * np.abs(array) + 1e-5).all()


def test_windows_are_different_speech_of_30_s() -> None:
    pcm = windows(3)
    assert (pcm.shape, pcm.dtype) == ((3, 480_000), np.float32)
    assert np.array_equal(pcm[0][16_000:], pcm[1][:-16_000])
    assert not np.array_equal(pcm[0], pcm[1])
    assert np.array_equal(windows(12)[10], pcm[0])  # the sample is no longer
