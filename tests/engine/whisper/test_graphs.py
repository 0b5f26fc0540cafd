"""Stored graphs: used only where they fit, forgotten where they do not, and never believed unproven."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.errors import DeviceError, ModelError
from captiond_engine.progress import ProgressEvent, silent
from captiond_engine.whisper import graphs, loading, reference
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.graphs import GraphCompiler, GraphStore, cache_folder, estimate_s, graph_key
from captiond_engine.whisper.model import Prompt
from max.driver import CPU

from tests.engine.whisper import files
from tests.parity import clips, models

CONFIG = files.SMALL
KEY = "0" * 32
WHOLE = b"a compiled graph"


class Compiled:
    """Stands for a compiled graph: bytes that it can write."""

    def __init__(self, content: bytes = WHOLE) -> None:
        self.content = content

    def export_mef(self, path: Path) -> None:
        path.write_bytes(self.content)


@pytest.fixture(autouse=True)
def _reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored bytes are read as MAX would: one artifact is known, anything else is a RuntimeError."""

    def read(path: Path) -> Compiled:
        if not path.read_bytes().startswith(b"a "):
            raise RuntimeError("buffer does not contain a MEF artifact")
        return Compiled(path.read_bytes())

    monkeypatch.setattr(graphs, "read", read)


# --- the store ---------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = GraphStore(tmp_path / "graphs")
    assert store.load(KEY) is None
    store.save(KEY, Compiled())
    loaded = GraphStore(tmp_path / "graphs").load(KEY)
    assert loaded is not None
    assert loaded.content == WHOLE
    assert store.load("1" * 32) is None
    assert {path.suffix for path in store.folder.iterdir()} == {".mef", ".sha256"}  # nothing half written


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "no digest", "digest of another", "no graph"])
def test_a_damaged_graph_is_none_and_is_forgotten(tmp_path: Path, damage: str) -> None:
    store = GraphStore(tmp_path)
    store.save(KEY, Compiled())
    graph, digest = tmp_path / f"{KEY}.mef", tmp_path / f"{KEY}.sha256"
    match damage:
        case "cut":
            graph.write_bytes(WHOLE[:5])
        case "changed":
            graph.write_bytes(WHOLE.upper())
        case "empty":
            graph.write_bytes(b"")
        case "no digest":
            digest.unlink()
        case "digest of another":
            digest.write_text(hashlib.sha256(b"other").hexdigest(), encoding="ascii")
        case "no graph":
            graph.unlink()
    assert store.load(KEY) is None
    store.save(KEY, Compiled())
    assert store.load(KEY) is not None


def test_a_foreign_file_with_a_right_digest_is_forgotten(tmp_path: Path) -> None:
    store = GraphStore(tmp_path)
    store.save(KEY, Compiled(b"written by something else"))
    assert store.load(KEY) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_used_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        store = GraphStore(folder)
        assert store.load(KEY) is None
        store.save(KEY, Compiled())
        store.forget(KEY)
        assert store.load(KEY) is None


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("No such file")])
def test_a_disk_that_refuses_leaves_nothing_half_written(tmp_path: Path, error: Exception) -> None:
    """MAX itself raises ValueError where it cannot write."""

    class Refused(Compiled):
        def export_mef(self, path: Path) -> None:
            path.write_bytes(b"a beg")
            raise error

    store = GraphStore(tmp_path)
    store.save(KEY, Refused())
    assert not list(tmp_path.iterdir())


def test_a_graph_that_cannot_be_removed_is_still_not_used(tmp_path: Path) -> None:
    store = GraphStore(tmp_path)
    (tmp_path / f"{KEY}.mef").mkdir()  # neither readable nor removable as a file
    assert store.load(KEY) is None


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CAPTIOND_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache" / "captiond"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "captiond"
    monkeypatch.setenv("CAPTIOND_CACHE_DIR", str(tmp_path / "own"))
    assert GraphStore().folder == tmp_path / "own" / "graphs"


# --- keys --------------------------------------------------------------------------------------------


def _device(label: str = "cpu", architecture: str = "") -> Any:
    return SimpleNamespace(label=label, architecture_name=architecture)


def test_a_key_changes_with_each_thing_that_a_graph_depends_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def key(kind: str = "encode", config: WhisperConfig = CONFIG, device: Any = None) -> str:
        return graph_key(kind, config, device or _device())

    first = key()
    assert first == key()
    seen = {first, key("decode"), key(device=_device("gpu", "sm_90")), key(device=_device("gpu", "sm_80"))}
    wider = {"n_audio_state": 128, "n_text_state": 128, "n_audio_head": 2, "n_text_head": 2}
    for field in fields(WhisperConfig):
        one = wider if field.name in wider else {field.name: getattr(CONFIG, field.name) + 1}
        seen.add(key(config=replace(CONFIG, **one)))
    assert len(seen) == 4 + len(fields(WhisperConfig)) - len(wider) + 1

    with monkeypatch.context() as changed:
        changed.setattr(graphs, "version", lambda _: "99.9")
        assert key() not in seen
    with monkeypatch.context() as changed:
        changed.setattr(graphs, "_processor", lambda: "x86_64|flags: avx2")
        assert key() not in seen
    rows_key = key("decode_int8")
    with monkeypatch.context() as changed:
        changed.setattr(graphs.row_decoder, "kernel_source", lambda: b"other kernels")
        assert key("decode_int8") != rows_key
        assert key() == first
    for module in (graphs.layers, graphs.encoder, graphs.decoder):
        source = tmp_path / "source.py"
        source.write_bytes(Path(str(module.__file__)).read_bytes() + b"\n")
        with monkeypatch.context() as changed:
            changed.setattr(module, "__file__", str(source))
            assert key() not in seen
    assert key() == first


def test_a_gpu_graph_does_not_depend_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    before = graph_key("encode", CONFIG, _device("gpu", "sm_90"))
    monkeypatch.setattr(graphs, "_processor", lambda: "another")
    assert graph_key("encode", CONFIG, _device("gpu", "sm_90")) == before


# --- the compiler, with a session that compiles nothing ------------------------------------------------


class Session:
    """Initialises only what it compiled, or what was stored of that."""

    def __init__(self, devices: Any) -> None:
        self.compiled: list[str] = []

    def compile(self, graph: str) -> Compiled:
        self.compiled.append(graph)
        return Compiled(f"a {graph}".encode())

    def init(self, compiled: Compiled, *, weights_registry: dict[str, Any]) -> str:
        name = compiled.content.decode().removeprefix("a ")
        if name not in weights_registry:
            raise ValueError("unable to look up weight by name")
        return name


@pytest.fixture
def _no_max(monkeypatch: pytest.MonkeyPatch) -> None:
    def building(kind: str) -> Any:
        return lambda config, tensors, device: (kind, SimpleNamespace(registry={kind: 0}, used={kind}))

    monkeypatch.setattr(graphs, "InferenceSession", Session)
    monkeypatch.setattr(
        graphs, "BUILDERS", {kind: building(kind) for kind in ("encode", "decode", "decode_float32")}
    )


def _compiler(folder: Path, told: list[ProgressEvent] | None = None) -> Any:
    return GraphCompiler(CPU(), GraphStore(folder), silent if told is None else told.append)


@pytest.mark.usefixtures("_no_max")
def test_a_graph_is_compiled_once_and_then_read(tmp_path: Path) -> None:
    told: list[ProgressEvent] = []
    first = _compiler(tmp_path, told)
    assert first.make("encode", CONFIG, {})[0] == "encode"
    assert (first.session.compiled, first.from_store) == (["encode"], set())
    assert [event.done for event in told] == [0.0, 1.0]
    assert {event.stage for event in told} == {"compile"}
    assert told[0].estimate_s == estimate_s("encode", CONFIG)
    second = _compiler(tmp_path, told)
    assert second.make("encode", CONFIG, {})[0] == "encode"
    assert (second.session.compiled, second.from_store) == ([], {"encode"})
    assert len(told) == 2
    assert second.make("decode", CONFIG, {})[0] == "decode"
    assert (second.session.compiled, second.from_store) == (["decode"], {"encode"})


@pytest.mark.usefixtures("_no_max")
@pytest.mark.parametrize("stored", [b"a decode", b"what no one can read"])
def test_a_stored_graph_of_something_else_is_made_anew(tmp_path: Path, stored: bytes) -> None:
    """Its digest is right, so that only MAX can tell: when it reads it, or when it is given the weights."""
    key = graph_key("encode", CONFIG, CPU())
    GraphStore(tmp_path).save(key, Compiled(stored))
    compiler = _compiler(tmp_path)
    assert compiler.make("encode", CONFIG, {})[0] == "encode"
    assert (compiler.session.compiled, compiler.from_store) == (["encode"], set())
    after = _compiler(tmp_path)
    after.make("encode", CONFIG, {})
    assert after.session.compiled == []


@pytest.mark.usefixtures("_no_max")
def test_without_a_folder_each_start_compiles(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        compiler = _compiler(tmp_path / "file")
        assert compiler.make("encode", CONFIG, {})[0] == "encode"
        assert compiler.session.compiled == ["encode"]


def test_deeper_models_are_expected_to_take_longer() -> None:
    deeper = replace(CONFIG, n_audio_layer=12, n_text_layer=12)
    for kind in ("encode", "decode"):
        assert estimate_s(kind, deeper) > estimate_s(kind, CONFIG) > 0


# --- proof before use --------------------------------------------------------------------------------


@pytest.fixture
def _proofs(monkeypatch: pytest.MonkeyPatch, _no_max: None) -> None:
    monkeypatch.setattr(loading, "WhisperModel", lambda *parts: SimpleNamespace(parts=parts))
    monkeypatch.setattr(loading, "_check_all_used", lambda *_: None)


def _build(folder: Path, told: list[ProgressEvent]) -> Any:
    return loading.build_model(CONFIG, {}, CPU(), store=GraphStore(folder), progress=told.append)


def _answers(monkeypatch: pytest.MonkeyPatch, *errors: float) -> None:
    left = list(errors)
    monkeypatch.setattr(loading, "known_answer_error", lambda *_: left.pop(0))


@pytest.mark.usefixtures("_proofs")
def test_a_stored_graph_with_a_wrong_answer_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ProgressEvent] = []
    _answers(monkeypatch, 1e-5, 6.0, 1e-5, 1e-5)
    assert _build(tmp_path, told)
    compiled = [event.message for event in told if event.stage == "compile"]
    assert len(compiled) == 4
    assert _build(tmp_path, told)  # the wrong answer: both graphs are compiled again, and now believed
    assert [event.message for event in told if event.stage == "compile"] == compiled * 2
    assert _build(tmp_path, told)  # and what was stored then is read
    assert [event.message for event in told if event.stage == "compile"] == compiled * 2


@pytest.mark.usefixtures("_proofs")
@pytest.mark.parametrize("stored", [True, False])
def test_a_graph_that_stays_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    if stored:
        _answers(monkeypatch, 1e-5)
        _build(tmp_path, [])
    _answers(monkeypatch, *[6.0] * 4)  # kernels and plain graph, each at most twice
    with pytest.raises(ModelError, match=r"off by 6") as caught:
        _build(tmp_path, [])
    assert (caught.value.code, caught.value.exit_code) == ("graph_wrong", 78)
    assert caught.value.advice


@pytest.mark.usefixtures("_proofs")
@pytest.mark.parametrize("trouble", ["does not compile", "computes wrong numbers"])
def test_without_good_kernels_the_plain_graph_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "does not compile":

        def refuse(self: Session, graph: str) -> Compiled:
            if graph == "decode_float32":
                raise RuntimeError("no such instruction")
            return Compiled(f"a {graph}".encode())

        monkeypatch.setattr(Session, "compile", refuse)
    told: list[ProgressEvent] = []
    _answers(monkeypatch, *([1e-5] if trouble == "does not compile" else [6.0, 1e-5]))
    built = _build(tmp_path, told)
    assert built.parts[5][0] == "decode"
    assert built.parts[-1] == "float32"
    said = "kernels do not compile" if trouble == "does not compile" else "decode_float32 graph is off by 6"
    assert any(said in event.message for event in told)


def test_only_processors_run_the_kernels() -> None:
    assert [choice.kind for choice in loading.decoders(_device("cpu"), "int8")] == ["decode_int8", "decode"]
    for precision in ("int8", "bfloat16"):
        kinds = [choice.kind for choice in loading.decoders(_device("gpu"), precision)]
        assert kinds == ["decode_plain_bfloat16", "decode"]
    assert [choice.kind for choice in loading.decoders(_device("gpu"), "float32")] == ["decode"]
    assert loading.decoders(_device("cpu"), "int8")[-1].precision == "float32"


def test_the_known_answer_notices_a_changed_weight() -> None:
    model, tensors = models.bundled_model(), dict(models.bundled_checkpoint().tensors)
    assert loading.known_answer_error(model, tensors) < 1e-3
    for name in ("encoder.conv2.weight", "decoder.blocks.2.cross_attn.value.weight", "decoder.ln.bias"):
        changed = {**tensors, name: np.float32(-1) * tensors[name]}
        assert loading.known_answer_error(model, changed) > loading.TOLERANCE["float32"], name


@pytest.mark.parametrize(("name", "code"), [("tpu", "device_unknown"), ("", "device_unknown")])
def test_an_unknown_device(name: str, code: str) -> None:
    with pytest.raises(DeviceError) as caught:
        loading.choose_device(name)
    assert (caught.value.code, caught.value.exit_code) == (code, 78)
    assert "cpu" in caught.value.advice


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "accelerator_count", lambda: 0)
    assert loading.choose_device("auto").is_host
    assert loading.choose_device("cpu").is_host
    with pytest.raises(DeviceError) as caught:
        loading.choose_device("gpu")
    assert caught.value.code == "device_missing"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (SimpleNamespace(is_compatible=False, architecture_name="sm_52"), "does not run on sm_52"),
        (RuntimeError("the driver is too old"), "the driver is too old"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "gpu"])
def test_a_gpu_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, found: Any, why: str, name: str) -> None:
    """Not taken for none: who has a GPU should hear why captions come from the processor."""

    def accelerator() -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(loading, "accelerator_count", lambda: 1)
    monkeypatch.setattr(loading, "Accelerator", accelerator)
    with pytest.raises(DeviceError, match=why) as caught:
        loading.choose_device(name)
    assert caught.value.code == "device_unusable"
    assert "device=cpu" in caught.value.advice


def test_weights_go_where_the_graph_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MAX refuses a weight of the host for a graph of a GPU."""
    moved: list[Any] = []

    class OnHost:
        @classmethod
        def from_numpy(cls, array: Any) -> OnHost:
            return cls()

        def to(self, device: Any) -> str:
            moved.append(device)
            return "there"

    monkeypatch.setattr(graphs, "InferenceSession", Session)
    monkeypatch.setattr(graphs, "Buffer", OnHost)
    device: Any = SimpleNamespace(is_host=False, label="gpu", architecture_name="sm_90")
    compiler = GraphCompiler(device, GraphStore(tmp_path), silent)
    assert compiler._on_device(np.zeros(2, np.float32)) == "there"
    assert moved == [device]
    device.is_host = True
    array = np.zeros(2, np.float32)
    assert compiler._on_device(array) is array


# --- the NumPy twin ----------------------------------------------------------------------------------


def test_the_twin_agrees_with_the_compiled_graphs() -> None:
    """Encoder output, and the logits before each of several tokens of a real decode."""
    model, checkpoint = models.bundled_model(), models.bundled_checkpoint()
    mel = log_mel(clips.bundled()[0].pcm, 80, 400)
    encoding = model.encode(mel[None])
    encoded = reference.encode(checkpoint.config, checkpoint.tensors, mel)
    np.testing.assert_allclose(encoding.encoded.to_numpy()[0], encoded, atol=2e-4)
    tokens = [50_257, 50_362]
    said = model.greedy(encoding, [Prompt(tuple(tokens))], max_new_tokens=6).tokens[0]
    assert len(said) == 6
    for token in said:
        expected = reference.logits(checkpoint.config, checkpoint.tensors, encoded, tokens)[-1]
        answer = model.greedy(encoding, [Prompt(tuple(tokens))], max_new_tokens=1)
        np.testing.assert_allclose(answer.first_logits.to_numpy()[0], expected, atol=1e-3)
        assert token == int(expected.argmax())
        tokens.append(token)
