"""Checkpoints: two formats, one set of tensors; a fault is named, and nothing in a file is run."""

from __future__ import annotations

import json
import math
import resource
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captiond_engine.errors import ModelError, ModelNotFoundError
from captiond_engine.whisper import stored
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.stored import StoredTensor
from captiond_engine.whisper.torch_file import read_torch_file
from captiond_engine.whisper.weights import expected_shapes, read_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.whisper import files
from tests.engine.whisper.files import Call, Global, Reference

Spoil = Callable[[dict[str, files.Array]], Any]


def refused(path: Path, *parts: str) -> ModelError:
    """The error of reading ``path``: it says where, what and what to do."""
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    error = caught.value
    for part in (str(path), *parts):
        assert part in error.message
    assert error.advice
    assert error.exit_code == 78
    return error


def assert_equal_tensors(path: Path, expected: dict[str, files.Array]) -> None:
    found = read_checkpoint(path).tensors
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# --- what is read ------------------------------------------------------------------------------------


def test_both_formats_give_the_same_tensors(tmp_path: Path) -> None:
    tensors = files.small_tensors()
    folder = files.write_hugging_face(tmp_path / "hub", tensors)
    file = files.write_openai(tmp_path / "small.pt", tensors)
    assert_equal_tensors(folder, tensors)
    assert_equal_tensors(file, tensors)
    assert read_checkpoint(folder).config == read_checkpoint(file).config == files.SMALL


def test_a_file_that_torch_saved(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = files.small_tensors()
    file = tmp_path / "saved.pt"
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    turned = "decoder.blocks.0.mlp.0.weight"
    state[turned] = torch.from_numpy(tensors[turned].T.copy()).T  # not contiguous
    torch.save({"dims": files.SMALL.dimensions, "model_state_dict": state}, file)
    assert_equal_tensors(file, tensors)


def test_a_state_dict_of_a_torch_module(tmp_path: Path) -> None:
    """Modules save an OrderedDict with metadata, half precision, shared storage and Parameters."""
    torch = pytest.importorskip("torch")
    norm = torch.nn.LayerNorm(4).half()
    both = torch.arange(6, dtype=torch.bfloat16)
    file = tmp_path / "module.pt"
    torch.save({"state": norm.state_dict(), "own": norm.weight, "tail": both[2:], "pair": both[:2]}, file)
    content = read_torch_file(file)
    np.testing.assert_array_equal(content["state"]["weight"].read(), np.ones(4, np.float32))
    np.testing.assert_array_equal(content["own"].read(), np.ones(4, np.float32))
    np.testing.assert_array_equal(content["tail"].read(), np.array([2, 3, 4, 5], np.float32))
    np.testing.assert_array_equal(content["pair"].read(), np.array([0, 1], np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_file_that_torch_saved_before_its_zip(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    state = {name: torch.from_numpy(array).to(kind) for name, array in files.small_tensors().items()}
    file = tmp_path / "old.pt"
    content = {"dims": files.SMALL.dimensions, "model_state_dict": state}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    assert_equal_tensors(file, {name: tensor.float().numpy() for name, tensor in state.items()})


def test_a_legacy_file_without_torch(tmp_path: Path) -> None:
    tensors = files.small_tensors()
    assert_equal_tensors(files.write_legacy(tmp_path / "old.pt", tensors), tensors)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_what_transformers_saves(tmp_path: Path, pickled: bool) -> None:
    """Names, configuration and ties as transformers itself writes them, with other depths each way."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.WhisperConfig(
        d_model=128,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        num_mel_bins=128,
        max_source_positions=10,
        vocab_size=80,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    model.save_pretrained(tmp_path / "m")
    if pickled:  # as transformers saved before safetensors: with the tied projection
        (tmp_path / "m" / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    checkpoint = read_checkpoint(tmp_path / "m")
    assert (checkpoint.config.n_audio_layer, checkpoint.config.n_text_layer) == (3, 2)
    theirs = {name.removeprefix("model."): value.numpy() for name, value in model.state_dict().items()}
    for ours, name in [
        ("encoder.conv1.weight", "encoder.conv1.weight"),
        ("encoder.positional_embedding", "encoder.embed_positions.weight"),
        ("encoder.blocks.2.attn.key.weight", "encoder.layers.2.self_attn.k_proj.weight"),
        ("decoder.blocks.1.cross_attn.out.bias", "decoder.layers.1.encoder_attn.out_proj.bias"),
        ("decoder.token_embedding.weight", "decoder.embed_tokens.weight"),
    ]:
        np.testing.assert_array_equal(checkpoint.tensors[ours], theirs[name])
    assert len(checkpoint.tensors) == len(theirs) - 1  # but for the projection


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_reading_holds_no_second_copy(tmp_path: Path, form: str) -> None:
    """At most the float32 tensors and a few pieces of a file: a large model fits where it fits at all."""
    config = WhisperConfig(80, 1500, 512, 8, 2, 20_000, 448, 512, 8, 2)
    narrow = {name: array.astype(np.float16) for name, array in files.small_tensors(config=config).items()}
    wide = sum(4 * array.size for array in narrow.values())
    if form == "pt":
        path = files.write_openai(tmp_path / "m.pt", narrow, config)
    else:
        path = files.write_hugging_face(tmp_path / "m", narrow, config=files.hugging_face_config(config))
    del narrow
    tracemalloc.start()
    try:
        tensors = read_checkpoint(path).tensors
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(array.nbytes for array in tensors.values()) == wide > 80e6
    assert peak < wide + 16e6  # where a second copy of float16 would be 40 MB more


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["folder", "bin", "file", "legacy"])
def test_half_precision_is_widened_exactly(tmp_path: Path, narrow: str, form: str) -> None:
    def cut(array: files.Array) -> files.Array:
        return array.astype(np.float16) if narrow == "float16" else files.bfloat16_bits(array)

    def wide(array: files.Array) -> files.Array:
        if narrow == "float16":
            return array.astype(np.float32)
        return np.asarray(array.astype(np.uint32) << 16).view(np.float32)

    narrowed = {name: cut(array) for name, array in files.small_tensors().items()}
    expected = {name: wide(array) for name, array in narrowed.items()}
    match form:
        case "folder" | "bin":
            path = files.write_hugging_face(tmp_path / "m", narrowed, pickled=form == "bin")
        case "file":
            path = files.write_openai(tmp_path / "m.pt", narrowed)
        case _:
            path = files.write_legacy(tmp_path / "m.pt", narrowed)
    assert_equal_tensors(path, expected)


def test_float64_is_rounded(tmp_path: Path) -> None:
    tensors = {name: array.astype(np.float64) / 3 for name, array in files.small_tensors().items()}
    expected = {name: array.astype(np.float32) for name, array in tensors.items()}
    assert_equal_tensors(files.write_hugging_face(tmp_path / "m", tensors), expected)
    tensors[_BIAS][0] = 1e300
    refused(files.write_hugging_face(tmp_path / "n", tensors), f"{_BIAS} holds numbers that are not finite")


def test_files_of_more_than_one_type(tmp_path: Path) -> None:
    """Published float16 files may keep some tensors in float32."""
    tensors = files.small_tensors()
    mixed = {
        name: array if "positional" in name else array.astype(np.float16) for name, array in tensors.items()
    }
    expected = {name: array.astype(np.float32) for name, array in mixed.items()}
    assert_equal_tensors(files.write_hugging_face(tmp_path / "m", mixed), expected)
    assert_equal_tensors(files.write_openai(tmp_path / "m.pt", mixed), expected)


@settings(max_examples=50, deadline=None)
@given(
    dtype=st.sampled_from(["<f8", "<f4", "<f2", "<u2"]),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    checked=st.booleans(),
    turned=st.booleans(),
    piece=st.integers(8, 64),
)
def test_a_tensor_is_read_from_anywhere_in_its_storage(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    shape: list[int],
    before: int,
    after: int,
    checked: bool,
    turned: bool,
    piece: int,
) -> None:
    """By pieces of any size, whole or in part, in C order or another, with a checksum or none."""
    rng = np.random.default_rng(1)
    kept = rng.integers(0, 30_000, before + math.prod(shape) + after).astype(dtype)
    file = tmp_path_factory.mktemp("s") / "storage"
    file.write_bytes(b"head" + kept.tobytes() + b"tail")
    dense = kept[before : before + math.prod(shape)].reshape(shape[::-1] if turned else shape)
    array = dense.T if turned else dense
    tensor = StoredTensor(
        file,
        {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<u2": "BF16"}[dtype],
        array.shape,
        4,
        kept.nbytes,
        before,
        tuple(stride // kept.itemsize for stride in array.strides) if turned else None,
        zlib.crc32(kept.tobytes()) if checked else None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_PIECE_BYTES", piece)
        found = tensor.read()
        if checked:
            with pytest.raises(ValueError, match="checksum"):
                replace(tensor, crc=(tensor.crc or 0) ^ 1).read()
    exact = (array.astype(np.uint32) << 16).view(np.float32) if dtype == "<u2" else array.astype(np.float32)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_shards_are_joined(tmp_path: Path, pickled: bool) -> None:
    tensors = files.small_tensors()
    folder = files.write_hugging_face(tmp_path / "m", tensors, shards=3, pickled=pickled)
    assert_equal_tensors(folder, tensors)


@pytest.mark.parametrize("shards", [1, 2])
def test_which_of_several_files_is_read(tmp_path: Path, shards: int) -> None:
    """One file before shards, safetensors before pickles, and a variant where nothing else is there."""
    folder = tmp_path / "m"
    for seed, options in enumerate(
        [{"variant": "fp32"}, {"pickled": True, "shards": 2}, {"pickled": True}, {"shards": 2}, {}]
    ):
        tensors = files.small_tensors(seed)
        files.write_hugging_face(folder, tensors, **({"shards": shards} | options))
        assert_equal_tensors(folder, tensors)


def test_a_bare_model_has_names_without_a_prefix(tmp_path: Path) -> None:
    """WhisperModel instead of WhisperForConditionalGeneration."""
    tensors = files.small_tensors()
    folder = files.write_hugging_face(tmp_path / "m", tensors)
    named = {files.hugging_face_name(name).removeprefix("model."): array for name, array in tensors.items()}
    files.write_weights(folder / "model.safetensors", named)
    assert_equal_tensors(folder, tensors)


@pytest.mark.parametrize(
    "config",
    [
        WhisperConfig(8, 10, 64, 1, 3, 40, 12, 64, 1, 2),  # fewer decoder layers, as distilled models have
        WhisperConfig(8, 10, 64, 1, 1, 40, 12, 64, 1, 4),
        WhisperConfig(128, 10, 128, 2, 2, 41, 448, 128, 2, 1),  # mels, vocabulary and context of large-v3
    ],
)
def test_other_depths_mels_and_vocabularies(tmp_path: Path, config: WhisperConfig) -> None:
    tensors = files.small_tensors(config=config)
    folder = files.write_hugging_face(tmp_path / "m", tensors, config=files.hugging_face_config(config))
    assert_equal_tensors(folder, tensors)
    assert_equal_tensors(files.write_openai(tmp_path / "m.pt", tensors, config), tensors)
    assert read_checkpoint(folder).config == config


@pytest.mark.parametrize("generation", [None, {}, {"is_multilingual": False, "suppress_tokens": []}])
def test_generation_settings_are_handed_on(tmp_path: Path, generation: dict[str, Any] | None) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors())
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    assert read_checkpoint(folder).generation == (generation or {})


def test_a_tied_projection_is_accepted_where_it_equals_the_embedding(tmp_path: Path) -> None:
    tensors = files.small_tensors()
    folder = files.write_hugging_face(tmp_path / "m", tensors)
    named = {files.hugging_face_name(name): array for name, array in tensors.items()}
    embedding = named["model.decoder.embed_tokens.weight"]
    weights = folder / "model.safetensors"
    weights.write_bytes(files.safetensors_bytes({**named, "proj_out.weight": embedding}))
    assert_equal_tensors(folder, tensors)
    weights.write_bytes(files.safetensors_bytes({**named, "proj_out.weight": embedding + 1}))
    refused(folder, "proj_out.weight")


@pytest.mark.parametrize("apart", [False, True], ids=["one storage", "two storages"])
def test_a_pickled_projection_may_share_its_storage(tmp_path: Path, apart: bool) -> None:
    tensors = files.small_tensors()
    folder = files.write_hugging_face(tmp_path / "m", tensors, pickled=True)
    keys = {name: str(index) for index, name in enumerate(tensors)}
    named = {files.hugging_face_name(n): files.torch_tensor(array, keys[n]) for n, array in tensors.items()}
    storages = {keys[name]: array.tobytes() for name, array in tensors.items()}
    embedding = tensors["decoder.token_embedding.weight"]
    storages["again"] = embedding.tobytes()
    key = "again" if apart else keys["decoder.token_embedding.weight"]
    named["proj_out.weight"] = files.torch_tensor(embedding, key)
    files.write_zip(folder / "pytorch_model.bin", files.pickled(named), storages)
    assert_equal_tensors(folder, tensors)


# --- strict in both directions -----------------------------------------------------------------------

_BIAS = "decoder.blocks.0.cross_attn.out.bias"


def _spoilt(change: str) -> dict[str, files.Array]:
    tensors = files.small_tensors()
    match change:
        case "missing":
            del tensors[_BIAS]
        case "left over":
            tensors[_BIAS.replace("blocks.0", "blocks.1")] = tensors[_BIAS]
        case "shape":
            tensors[_BIAS] = tensors[_BIAS][:-1]
        case "nan" | "inf":
            tensors[_BIAS] = tensors[_BIAS].copy()
            tensors[_BIAS][3] = float(change)
    return tensors


@pytest.mark.parametrize("form", ["folder", "file"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("missing", f"missing {_BIAS}"),
        ("left over", f"not used {_BIAS.replace('blocks.0', 'blocks.1')}"),
        ("shape", f"{_BIAS} is (63,), expected (64,)"),
        ("nan", f"{_BIAS} holds numbers that are not finite"),
        ("inf", f"{_BIAS} holds numbers that are not finite"),
    ],
)
def test_each_fault_of_a_tensor_is_named(tmp_path: Path, form: str, change: str, told: str) -> None:
    tensors = _spoilt(change)
    if form == "folder":
        refused(files.write_hugging_face(tmp_path / "m", tensors), told)
    else:
        refused(files.write_openai(tmp_path / "m.pt", tensors), told)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    kept = {"decoder.ln.bias": files.small_tensors()["decoder.ln.bias"]}
    missing = len(expected_shapes(files.SMALL)) - 1
    refused(files.write_hugging_face(tmp_path / "m", kept), f"and {missing - 6} more")


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_missing_tensor_is_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tensors = files.small_tensors()
    name = data.draw(st.sampled_from(sorted(tensors)))
    del tensors[name]
    refused(files.write_openai(tmp_path_factory.mktemp("m") / "m.pt", tensors), f"missing {name}")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    tensors = files.small_tensors()
    tensors[_BIAS] = np.arange(64, dtype=np.int64)
    folder = files.write_hugging_face(tmp_path / "m", tensors)
    refused(folder, _BIAS, "I64")
    refused(files.write_openai(tmp_path / "m.pt", tensors), _BIAS, "I64")


# --- directories that are not whole ------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path / "none"), ModelNotFoundError)


def test_a_folder_without_config(tmp_path: Path) -> None:
    refused(tmp_path, "config.json")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors())
    (folder / "model.safetensors").unlink()
    refused(folder, "model.safetensors")


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_a_shard_is_missing(tmp_path: Path, pickled: bool) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors(), shards=3, pickled=pickled)
    [shard] = folder.glob("*-00002-of-00003.*")
    shard.unlink()
    refused(folder, shard.name)


@pytest.mark.parametrize(
    ("file", "told", "advice"),
    [
        ("adapter_config.json", "LoRA", "Merge"),
        ("model.bin", "faster-whisper", "converted from"),
        ("ggml-base.en.bin", "whisper.cpp", "converted from"),
        ("model-q8_0.gguf", "GGUF", "converted from"),
        ("tf_model.h5", "TensorFlow", "PyTorch"),
        ("flax_model.msgpack", "Flax", "PyTorch"),
        ("weights.npz", "MLX", "converted from"),
        ("encoder_model.onnx", "ONNX", "exported from"),
    ],
)
@pytest.mark.parametrize("config", [False, True], ids=["alone", "with config.json"])
def test_models_of_other_programs_are_named(
    tmp_path: Path, file: str, told: str, advice: str, config: bool
) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors())
    (folder / file).write_bytes(b"")
    assert_equal_tensors(folder, files.small_tensors())  # beside a model that runs it is nobody's business
    (folder / "model.safetensors").unlink()
    if not config:
        (folder / "config.json").unlink()
    error = refused(folder, told)
    assert advice in error.advice


@pytest.mark.parametrize("index", ['{"weight_map": ["a"]}', '{"weight_map": {"a": 7}}', "{}", "[]", "{"])
def test_a_spoilt_index(tmp_path: Path, index: str) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors(), shards=2)
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    refused(folder, "model.safetensors.index.json")


def test_an_index_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    other = files.write_hugging_face(tmp_path / "other", files.small_tensors())
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors(), shards=2)
    index = {"weight_map": {"x": f"../{other.name}/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(folder, "model.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "bert"}, "'bert'"),
        ({"model_type": None}, "model_type"),
        ({"d_model": 65}, "65"),
        ({"d_model": "64"}, "n_audio_state"),
        ({"encoder_layers": 0}, "n_audio_layer"),
        ({"decoder_attention_heads": 2}, "2 heads"),
        ({"vocab_size": -5}, "n_vocab"),
        ({"decoder_layers": 2**31}, "n_text_layer"),
        ({"vocab_size": 2**40}, "n_vocab"),
        ({"activation_function": "relu"}, "activation_function"),
        ({"scale_embedding": True}, "scale_embedding"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes"),
    ],
)
def test_a_configuration_that_is_no_whisper(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    config = files.hugging_face_config() | change
    refused(files.write_hugging_face(tmp_path / "m", files.small_tensors(), config=config), told)


@pytest.mark.parametrize("name", sorted(files.hugging_face_config()))
def test_a_configuration_that_lacks_a_dimension(tmp_path: Path, name: str) -> None:
    config = files.hugging_face_config()
    del config[name]
    refused(files.write_hugging_face(tmp_path / "m", files.small_tensors(), config=config), name)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"7"])
def test_a_config_file_that_is_no_json_object(tmp_path: Path, content: bytes) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors())
    (folder / "config.json").write_bytes(content)
    refused(folder, "config.json")


# --- damaged files -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_cut_safetensors(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    folder = files.write_hugging_face(tmp_path_factory.mktemp("m"), files.small_tensors())
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    refused(folder, "model.safetensors")


def test_each_way_to_spoil_a_weight_map_is_told_apart_from_a_missing_shard(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors(), shards=2)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}', encoding="utf-8")
    refused(folder, "missing encoder.conv1.weight")


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 64, b"\x02" + b"\x00" * 7 + b"{}"])
def test_a_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    folder = files.write_hugging_face(tmp_path / "m", files.small_tensors())
    (folder / "model.safetensors").write_bytes(content)
    refused(folder)


@settings(max_examples=60, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_cut_torch_file(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    file = files.write_openai(tmp_path_factory.mktemp("m") / "m.pt", files.small_tensors())
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    refused(file)


@settings(max_examples=60, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_cut_legacy_file(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    file = files.write_legacy(tmp_path_factory.mktemp("m") / "m.pt", files.small_tensors())
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    refused(file)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_one_changed_byte_of_a_legacy_file(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    """Its head, as nothing guards the numbers themselves: read or refused, never a traceback."""
    file = files.write_legacy(tmp_path_factory.mktemp("m") / "m.pt", {"a": np.ones((2, 2), np.float32)})
    content = bytearray(file.read_bytes())
    content[place % len(content)] = value
    file.write_bytes(content)
    with pytest.raises(ModelError):  # a model of one tensor is refused in any case
        read_checkpoint(file)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_file_of_a_big_endian_machine(tmp_path: Path, form: str) -> None:
    if form == "zip":
        file = files.write_openai(tmp_path / "m.pt", files.small_tensors())
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("model/byteorder", "big")
    else:
        file = files.write_legacy(tmp_path / "m.pt", files.small_tensors())
        content = file.read_bytes()
        file.write_bytes(content.replace(b"little_endian\x88", b"little_endian\x89"))
    refused(file, "big-endian")


def test_a_compressed_zip_is_refused(tmp_path: Path) -> None:
    file = files.write_openai(tmp_path / "m.pt", files.small_tensors())
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    refused(file, "compressed")


def test_a_file_of_whisper_cpp_is_named(tmp_path: Path) -> None:
    (tmp_path / "ggml-tiny.bin").write_bytes(b"lmgg" + b"\0" * 100)
    refused(tmp_path / "ggml-tiny.bin", "whisper.cpp")


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_one_changed_byte_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int
) -> None:
    """The pickle alone, as the zip's own checksum would catch it: read or refused, never a traceback."""
    tensors = {"a": np.ones((2, 2), np.float32)}
    content = {
        "dims": files.SMALL.dimensions,
        "model_state_dict": {"a": files.torch_tensor(tensors["a"], "0")},
    }
    spoilt = bytearray(files.pickled(content))
    spoilt[int(len(spoilt) * place)] = value
    path = files.write_zip(
        tmp_path_factory.mktemp("m") / "m.pt", bytes(spoilt), {"0": tensors["a"].tobytes()}
    )
    with pytest.raises(ModelError):  # a model of one tensor is refused in any case
        read_checkpoint(path)


def test_a_changed_byte_in_a_torch_file_is_caught_by_its_checksum(tmp_path: Path) -> None:
    file = files.write_openai(tmp_path / "m.pt", files.small_tensors())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(bytes(content))
    refused(file)


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    refused(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"state": 1},
        (1, 2),
        {"dims": 1, "model_state_dict": {}},
        {"dims": files.SMALL.dimensions, "model_state_dict": 7},
        {"dims": files.SMALL.dimensions, "model_state_dict": {"a": "text"}},
        {"dims": {"n_mels": 8}, "model_state_dict": {}},
    ],
)
def test_a_torch_file_that_is_not_openais(tmp_path: Path, content: Any) -> None:
    refused(files.write_zip(tmp_path / "m.pt", files.pickled(content)))


def _with_tensor(path: Path, tensor: Call, data: bytes) -> Path:
    content = {"dims": files.SMALL.dimensions, "model_state_dict": {"a": tensor}}
    return files.write_zip(path, files.pickled(content), {"0": data})


@pytest.mark.parametrize(
    ("offset", "strides"),
    [(1, (2, 1)), (0, (3, 1)), (-1, (2, 1)), (0, (-2, 1)), (0, (2**30, 1)), (0, (2,)), (0, ("2", 1))],
)
def test_a_tensor_reaches_only_into_its_storage(tmp_path: Path, offset: int, strides: Any) -> None:
    array = np.ones((2, 2), np.float32)
    tensor = files.torch_tensor(array, "0", offset=offset, strides=strides)
    refused(_with_tensor(tmp_path / "m.pt", tensor, array.tobytes()))


def test_a_tensor_is_never_larger_than_its_storage(tmp_path: Path) -> None:
    tensor = files.torch_tensor(np.ones((2, 2), np.float32), "0")
    storage, offset, _, _, *rest = tensor.arguments
    repeated = Call(tensor.what, (storage, offset, (2**30, 2**30), (0, 0), *rest))
    refused(_with_tensor(tmp_path / "m.pt", repeated, b"\0" * 16), "reaches past its storage")


def test_a_storage_that_is_not_there(tmp_path: Path) -> None:
    tensor = files.torch_tensor(np.ones((2, 2), np.float32), "9")
    refused(_with_tensor(tmp_path / "m.pt", tensor, b""))


# --- a pickle can do nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        Global("os", "system"),
        Global("posix", "system"),
        Global("builtins", "eval"),
        Global("subprocess", "Popen"),
        Global("torch", "load"),
        Global("torch._utils", "os.system"),
        Global("numpy.core.multiarray", "_reconstruct"),
    ],
)
def test_a_pickle_that_names_a_function_is_refused_without_running(tmp_path: Path, what: Global) -> None:
    trace = tmp_path / "it-ran"
    spoilt = Call(what, (f"touch '{trace}'",))
    path = files.write_zip(tmp_path / "m.pt", files.pickled({"dims": spoilt, "model_state_dict": {}}))
    refused(path, f"{what.module}.{what.name}")
    assert not trace.exists()


@pytest.mark.parametrize("reference", [("module", "os"), ("storage", "os", "0", "cpu", 1), (), "text"])
def test_a_pickle_with_an_unknown_reference(tmp_path: Path, reference: Any) -> None:
    refused(files.write_zip(tmp_path / "m.pt", files.pickled({"dims": Reference(reference)})))


def test_a_pickle_cannot_take_memory_by_one_opcode(tmp_path: Path) -> None:
    """LONG_BINPUT with a large index: the unpickler written in C makes room for that many entries."""
    hostile = b"\x80\x02}r" + (2**32 - 1).to_bytes(4, "little") + b"."
    (tmp_path / "old.pt").write_bytes(hostile)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, limits[1]))  # what it would take is 64 GB
    try:
        refused(files.write_zip(tmp_path / "m.pt", hostile), "'dims'")
        refused(tmp_path / "old.pt", "PyTorch")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_dimensions_are_checked_alike_for_both_formats() -> None:
    dims = files.SMALL.dimensions
    assert WhisperConfig.from_openai(dims) == WhisperConfig.from_hugging_face(files.hugging_face_config())
    with pytest.raises(ModelError, match="n_mels"):
        WhisperConfig.from_openai({**dims, "n_mels": 0})
