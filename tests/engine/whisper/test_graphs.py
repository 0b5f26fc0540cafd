"""Ready graphs: used where they fit, never believed unproven, and made anew where they are wrong."""

from __future__ import annotations

import lzma
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.errors import DeviceError, ModelError
from captiond_engine.progress import ProgressEvent, silent
from captiond_engine.whisper import cpu, graphs, layers, loading, proof, reference, row_decoder
from captiond_engine.whisper.compile_apart import CompileError
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.graph_store import GraphStore, pack
from captiond_engine.whisper.graphs import GraphCompiler, estimate_s, facts_of, machine_of, sketch
from captiond_engine.whisper.kernels import KERNELS, Kernels
from captiond_engine.whisper.model import Prompt
from captiond_engine.whisper.proof import AnswerError
from max.driver import CPU

from tests.engine.whisper import files
from tests.parity import clips, models

CONFIG = files.SMALL
TARGET = cpu.TARGETS[-1]
GOOD, WRONG_ENCODER, WRONG_DECODER = AnswerError(1e-5, 1e-5), AnswerError(6.0, 3.0), AnswerError(1e-5, 6.0)


# --- keys --------------------------------------------------------------------------------------------


def _device(label: str = "cpu", architecture: str = "") -> Any:
    return SimpleNamespace(label=label, architecture_name=architecture)


def test_a_key_changes_with_each_thing_that_a_graph_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(
        kind: str = "encode",
        config: WhisperConfig = CONFIG,
        text: bytes = b"graph",
        machine: str = "x86_64|flags : avx2",
    ) -> str:
        return facts_of(kind, config, text, machine).key

    keys = [key(), key("decode"), key(text=b"other"), key(machine="x86_64|flags : avx512f")]
    wider = {"n_audio_state": 128, "n_text_state": 128, "n_audio_head": 2, "n_text_head": 2}
    for name, number in CONFIG.dimensions.items():
        one = wider if name in wider else {name: number + 1}
        keys.append(key(config=replace(CONFIG, **one)))
    assert len({*keys}) == len(keys) - len(wider) + 1
    assert key() == keys[0]
    timed = replace(CONFIG, alignment_heads=((0, 0),))
    assert key("decode", config=timed) not in keys
    assert key("encode", config=timed) == keys[0], "the encoder does not depend on who times words"
    monkeypatch.setattr(graphs, "version", lambda _: "99.9")
    assert key() not in keys


def test_a_graph_for_a_processor_depends_on_it_and_one_for_a_gpu_on_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, cpus = _device("gpu", "sm_90"), machine_of(CPU())
    assert len({cpus, machine_of(gpu), machine_of(_device("gpu", "sm_80"))}) == 3
    known = machine_of(gpu)
    monkeypatch.setattr(cpu, "processor", lambda: "another")
    assert machine_of(CPU()) != cpus
    assert machine_of(gpu) == known


def test_a_sketch_changes_with_what_the_graph_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = files.small_tensors()
    before = sketch("encode", CONFIG, tensors, CPU())[0]
    assert sketch("encode", CONFIG, tensors, CPU())[0] == before
    rows = sketch("decode_int8", CONFIG, tensors, CPU())[0]
    monkeypatch.setattr(layers, "EPSILON", 1e-4)
    assert sketch("encode", CONFIG, tensors, CPU())[0] != before
    monkeypatch.setattr(graphs, "kernel_source", lambda: b"other kernels")
    assert sketch("decode_int8", CONFIG, tensors, CPU())[0] != rows
    monkeypatch.undo()
    assert sketch("decode_int8", CONFIG, tensors, CPU())[0] == rows


def test_a_sketch_is_the_same_for_every_processor_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that graphs which came with captiond are known by it; the machine stands beside it in the key."""
    tensors, kinds = files.small_tensors(), ("decode_float32", "encode_float32", "encode_int8")
    before = {kind: sketch(kind, CONFIG, tensors, CPU())[0] for kind in kinds}
    for text in before.values():
        assert b"WIDTH" in text
        assert str(KERNELS).encode() not in text
    monkeypatch.setattr(cpu, "processor", lambda: "x86_64|flags : sse2")
    assert {kind: sketch(kind, CONFIG, tensors, CPU())[0] for kind in kinds} == before


def test_a_sketch_has_the_weights_and_the_text_of_the_graph_that_is_compiled() -> None:
    tensors = files.small_tensors()
    text, bank = sketch("decode_float32", CONFIG, tensors, CPU())
    graph, real = row_decoder.build(CONFIG, tensors, "float32", Kernels(0, 1))
    assert text.startswith(str(graph).partition("_kernel_library_paths")[0].encode())
    assert bank.used == real.used
    assert bank.registry.keys() == real.registry.keys()
    for name, array in real.registry.items():
        np.testing.assert_array_equal(bank.registry[name], array)


# --- classes of processors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "names"),
    [
        (cpu.TARGETS[0].description, ["x86-64-v4", "x86-64-v3"]),
        (cpu.TARGETS[1].description, ["x86-64-v3"]),
        (cpu.TARGETS[0].description.replace("avx512_vnni ", ""), ["x86-64-v3"]),
        ("x86_64|flags : sse4_2 avx fma|model name : old", []),
        (f"{cpu.TARGETS[1].description}|flags : avx2 fma", []),  # cores of two kinds
        (cpu.TARGETS[1].description.replace("x86_64", "aarch64"), []),
        ("arm64", []),
    ],
)
def test_a_class_of_processors_has_those_that_have_all_its_features(described: str, names: list[str]) -> None:
    assert [target.name for target in cpu.TARGETS if target.has(described)] == names


def test_kernels_for_a_class_are_as_wide_as_its_vectors() -> None:
    assert [cpu.lanes(target.description) for target in cpu.TARGETS] == [16, 8]


# --- the compiler, with a session that runs nothing and a compiler that compiles nothing --------------


class Session:
    """Initialises only a graph of the name that its weights have."""

    def __init__(self, devices: Any) -> None: ...

    def init(self, compiled: bytes, *, weights_registry: dict[str, Any]) -> str:
        name = compiled.decode().removeprefix("a ")
        if name not in weights_registry:
            raise ValueError("unable to look up weight by name")
        return name


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds that were compiled, in order."""
    kinds: list[str] = []

    def compile_apart(kind: str, *_: Any, **__: Any) -> bytes:
        kinds.append(kind)
        return f"a {kind}".encode()

    def sketch_of(kind: str, *_: Any) -> tuple[bytes, Any]:
        return kind.encode(), SimpleNamespace(registry={kind: 0}, used={kind}, release=lambda: None)

    def read(file: Any) -> bytes:
        content = file.read()
        if not content.startswith(b"a "):
            raise RuntimeError("buffer does not contain a MEF artifact")
        return bytes(content)

    monkeypatch.setattr(graphs, "InferenceSession", Session)
    monkeypatch.setattr(graphs, "compile_apart", compile_apart)
    monkeypatch.setattr(graphs, "sketch", sketch_of)
    monkeypatch.setattr(graphs, "read", read)
    return kinds


def _compiler(folder: Path, told: list[ProgressEvent] | None = None, shipped: Path | None = None) -> Any:
    return GraphCompiler(CPU(), GraphStore(folder), silent if told is None else told.append, shipped)


def _facts(kind: str, machine: str = "") -> Any:
    return facts_of(kind, CONFIG, kind.encode(), machine or machine_of(CPU()))


def _ship(models: Path, kind: str, content: bytes, target: cpu.Target = TARGET) -> None:
    path = graphs.shipped_path(models / "demo", target, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(pack(_facts(kind, target.description), content)))


@pytest.fixture
def _has_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "this_processor", lambda: TARGET.description)


def test_a_graph_is_compiled_once_and_then_read(tmp_path: Path, compiled: list[str]) -> None:
    told: list[ProgressEvent] = []
    first = _compiler(tmp_path, told)
    assert first.make("encode", CONFIG, {})[0] == "encode"
    assert (compiled, first.origins) == (["encode"], {"encode": "compiled"})
    assert [event.done for event in told] == [0.0, 1.0]
    assert {event.stage for event in told} == {"compile"}
    assert told[0].estimate_s == estimate_s("encode", CONFIG)
    second = _compiler(tmp_path, told)
    assert second.make("encode", CONFIG, {})[0] == "encode"
    assert (compiled, second.origins, len(told)) == (["encode"], {"encode": "stored"}, 2)
    assert second.make("decode", CONFIG, {})[0] == "decode"
    assert (compiled, second.origins["decode"]) == (["encode", "decode"], "compiled")


@pytest.mark.parametrize("stored", [b"a decode", b"what no one can read", b""])
def test_a_stored_graph_of_something_else_is_made_anew(
    tmp_path: Path, stored: bytes, compiled: list[str]
) -> None:
    """Its digest is right, so that only MAX can tell: when it reads it, or when it is given the weights."""
    GraphStore(tmp_path).save(_facts("encode"), stored)
    compiler = _compiler(tmp_path)
    assert compiler.make("encode", CONFIG, {})[0] == "encode"
    assert (compiled, compiler.origins) == (["encode"], {"encode": "compiled"})
    _compiler(tmp_path).make("encode", CONFIG, {})
    assert compiled == ["encode"]


def test_without_a_folder_each_start_compiles(tmp_path: Path, compiled: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for count in (1, 2):
        assert _compiler(tmp_path / "file").make("encode", CONFIG, {})[0] == "encode"
        assert len(compiled) == count


def test_what_another_process_compiled_in_the_meantime_is_not_compiled_again(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, told = _compiler(tmp_path), list[ProgressEvent]()
    compiler.progress = told.append

    def locked(path: Path, waiting: Any, longest_s: float) -> None:
        waiting(0.0)
        waiting(1e9)
        GraphStore(tmp_path).save(_facts("encode"), b"a encode")

    monkeypatch.setattr("captiond_engine.whisper.graph_store._lock", locked)
    assert compiler.make("encode", CONFIG, {})[0] == "encode"
    assert (compiled, compiler.origins) == ([], {"encode": "stored"})
    assert "another captiond" in told[0].message
    assert [0.0 < (event.done or 0.0) < 1.0 for event in told] == [True, True]


@pytest.mark.usefixtures("_has_target")
def test_a_shipped_graph_saves_the_compiler(tmp_path: Path, compiled: list[str]) -> None:
    _ship(tmp_path / "models", "encode", b"a encode")
    (tmp_path / "models" / "other").mkdir()
    compiler = _compiler(tmp_path / "graphs", shipped=tmp_path / "models")
    assert compiler.make("encode", CONFIG, {})[0] == "encode"
    assert (compiled, compiler.origins) == ([], {"encode": "shipped"})
    assert not (tmp_path / "graphs").exists()
    own = _compiler(tmp_path / "graphs")  # whoever wants this machine's own gets them
    own.make("encode", CONFIG, {})
    assert (compiled, own.origins) == (["encode"], {"encode": "compiled"})
    again = _compiler(tmp_path / "graphs", shipped=tmp_path / "models")
    again.make("encode", CONFIG, {})
    assert (compiled, again.origins) == (["encode"], {"encode": "stored"})  # and then they come first


@pytest.mark.usefixtures("_has_target")
@pytest.mark.parametrize(
    "fault", ["of a better class", "of other sources", "no graph", "cut", "old processor"]
)
def test_a_shipped_graph_that_does_not_fit_is_not_used(
    tmp_path: Path, fault: str, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    match fault:
        case "of a better class":
            _ship(models, "encode", b"a encode", cpu.TARGETS[0])
        case "no graph":
            _ship(models, "encode", b"bytes")
        case _:
            _ship(models, "encode", b"a encode")
    if fault == "of other sources":
        monkeypatch.setattr(graphs, "version", lambda _: "99.9")
    elif fault == "cut":
        path = graphs.shipped_path(models / "demo", TARGET, "encode")
        path.write_bytes(path.read_bytes()[:-30])
    elif fault == "old processor":
        monkeypatch.setattr(cpu, "this_processor", lambda: "x86_64|flags : avx2")
    compiler = _compiler(tmp_path / "graphs", shipped=models)
    assert compiler.make("encode", CONFIG, {})[0] == "encode"
    assert compiler.origins == {"encode": "compiled"}


def test_deeper_models_are_expected_to_take_longer() -> None:
    deeper = replace(CONFIG, n_audio_layer=12, n_text_layer=12)
    for kind in ("encode", "decode"):
        assert estimate_s(kind, deeper) > estimate_s(kind, CONFIG) > 0


# --- proof before use --------------------------------------------------------------------------------


@pytest.fixture
def _proofs(monkeypatch: pytest.MonkeyPatch, compiled: list[str]) -> None:
    monkeypatch.setattr(loading, "WhisperModel", lambda *parts: SimpleNamespace(parts=parts))
    monkeypatch.setattr(loading, "_check_all_used", lambda *_: None)


def _build(folder: Path, told: list[ProgressEvent]) -> Any:
    return loading.build_model(CONFIG, {}, CPU(), store=GraphStore(folder), progress=told.append)


def _answers(monkeypatch: pytest.MonkeyPatch, *errors: AnswerError) -> list[AnswerError]:
    left = list(errors)
    monkeypatch.setattr(loading, "known_answer_error", lambda *_: left.pop(0))
    return left


@pytest.mark.usefixtures("_proofs")
@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize(
    ("wrong", "kind"), [(WRONG_ENCODER, "encode_float32"), (WRONG_DECODER, "decode_float32")]
)
def test_a_ready_graph_with_a_wrong_answer_is_made_anew_and_the_other_one_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiled: list[str],
    wrong: AnswerError,
    kind: str,
    shipped: bool,
) -> None:
    if shipped:
        monkeypatch.setattr(cpu, "this_processor", lambda: TARGET.description)
        monkeypatch.setattr(GraphCompiler.__init__, "__defaults__", (tmp_path / "models",))
        for each in ("encode_float32", "decode_float32"):
            _ship(tmp_path / "models", each, f"a {each}".encode())
    else:
        _answers(monkeypatch, GOOD)
        assert _build(tmp_path, [])
        compiled.clear()
    left = _answers(monkeypatch, wrong, GOOD, GOOD)
    told: list[ProgressEvent] = []
    assert _build(tmp_path, told)
    assert compiled == [kind]
    assert any(f"the {kind} graph is off by 6" in event.message for event in told)
    assert _build(tmp_path, told)  # what was compiled then is read
    assert (compiled, left) == ([kind], [])


@pytest.mark.usefixtures("_proofs")
def test_both_graphs_may_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    _answers(monkeypatch, GOOD, WRONG_ENCODER, WRONG_DECODER, GOOD)
    for _ in range(2):
        assert _build(tmp_path, [])
    assert compiled == ["encode_float32", "decode_float32"] * 2


@pytest.mark.usefixtures("_proofs")
def test_an_encoder_that_leaves_wrong_keys_and_values_is_found_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    """Its output is right and only the decoder is off: which is made anew first, and then the encoder."""
    _answers(monkeypatch, GOOD, WRONG_DECODER, WRONG_DECODER, GOOD)
    for _ in range(2):
        assert _build(tmp_path, [])
    assert compiled == ["encode_float32", "decode_float32", "decode_float32", "encode_float32"]


@pytest.mark.usefixtures("_proofs")
def test_a_wrong_graph_that_cannot_be_removed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    _answers(monkeypatch, GOOD)
    _build(tmp_path, [])
    monkeypatch.setattr(GraphStore, "forget", lambda *_: None)
    monkeypatch.setattr(GraphStore, "save", lambda *_: None)
    _answers(monkeypatch, WRONG_ENCODER, GOOD)
    assert _build(tmp_path, [])
    assert compiled == ["encode_float32", "decode_float32", "encode_float32"]


@pytest.mark.usefixtures("_proofs")
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("wrong", [WRONG_ENCODER, WRONG_DECODER])
def test_a_graph_that_stays_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool, wrong: AnswerError
) -> None:
    if stored:
        _answers(monkeypatch, GOOD)
        _build(tmp_path, [])
    _answers(monkeypatch, *[wrong] * 9)
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
        _refuse(monkeypatch, "decode_float32")
    told: list[ProgressEvent] = []
    _answers(monkeypatch, *([GOOD] if trouble == "does not compile" else [WRONG_DECODER, GOOD]))
    built = _build(tmp_path, told)
    assert built.parts[5][0] == "decode"
    assert built.parts[7] == "float32"
    said = "kernels do not compile" if trouble == "does not compile" else "decode_float32 graph is off by 6"
    assert any(said in event.message for event in told)


def _refuse(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    compiling = graphs.compile_apart

    def refuse(kind: str, *rest: Any, **more: Any) -> bytes:
        if kind in kinds:
            raise CompileError("no such instruction")
        return compiling(kind, *rest, **more)

    monkeypatch.setattr(graphs, "compile_apart", refuse)


@pytest.mark.usefixtures("_proofs")
def test_what_cannot_be_compiled_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse(monkeypatch, "encode_float32", "encode")
    with pytest.raises(DeviceError, match="no such instruction") as caught:
        _build(tmp_path, [])
    assert (caught.value.code, caught.value.exit_code) == ("compile_failed", 78)
    assert caught.value.advice


@pytest.mark.usefixtures("_proofs")
def test_a_models_own_graphs_are_told_with_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    checkpoint: Any = SimpleNamespace(config=CONFIG, tensors={})
    for origin in ("compiled", "stored"):
        _answers(monkeypatch, GOOD)
        made = loading.own_graphs(checkpoint, CPU(), precision="int8", store=GraphStore(tmp_path))
        assert [(graph.kind, graph.origin) for graph in made] == [
            ("encode_int8", origin),
            ("decode_int8", origin),
        ]
        for graph in made:
            assert graph.stored is not None
            assert graph.stored.size_bytes == len(f"a {graph.kind}")
    (tmp_path / "file").write_text("")
    _answers(monkeypatch, GOOD)
    made = loading.own_graphs(checkpoint, CPU(), store=GraphStore(tmp_path / "file"))
    assert [graph.stored for graph in made] == [None, None]


def test_only_processors_run_the_kernels() -> None:
    assert [choice.kind for choice in loading.decoders(_device("cpu"), "int8")] == ["decode_int8", "decode"]
    for precision in ("int8", "bfloat16"):
        kinds = [choice.kind for choice in loading.decoders(_device("gpu"), precision)]
        assert kinds == ["decode_plain_bfloat16", "decode"]
    assert [choice.kind for choice in loading.decoders(_device("gpu"), "float32")] == ["decode"]
    assert loading.decoders(_device("cpu"), "int8")[-1].precision == "float32"


def test_the_known_answer_notices_a_changed_weight() -> None:
    model, tensors = models.bundled_model(), dict(models.bundled_checkpoint().tensors)
    assert proof.known_answer_error(model, tensors).worst < 1e-3
    for name in ("encoder.conv2.weight", "decoder.blocks.2.cross_attn.value.weight", "decoder.ln.bias"):
        changed = {**tensors, name: np.float32(-1) * tensors[name]}
        error = proof.known_answer_error(model, changed)
        assert error.worst > loading.TOLERANCE["float32"], name
        assert (error.encoder > loading.TOLERANCE["float32"]) == name.startswith("encoder."), name


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
