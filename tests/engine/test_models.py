"""Models by name: found, listed, pulled. The hub is a server on loopback, its client the real one."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captiond_engine import models
from captiond_engine.errors import ModelError, ModelNotFoundError
from captiond_engine.published import ALIASES, HUB_MODELS
from captiond_engine.whisper import folder
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.weights import expected_shapes, read_checkpoint

from tests.engine.fake_hub import FakeHub, serving, sha256
from tests.engine.whisper import files
from tests.parity.seeded import DIMENSIONS

NAME = "someone/whisper-small-test"

# The hub's client reads its address and folder when it is imported, so each call is a process of its own.
# It waits for some 23 s in all between its tries, which nobody need do here.
_CALL = """
import json, sys, time
time.sleep = lambda seconds: None
from captiond_engine import models
from captiond_engine.errors import CaptiondError
events = []
def note(event):
    events.append([event.stage, event.message, event.done])
def call(what, name):
    if what == "listing":
        return {row.name: str(row.where) for row in models.listing() if row.where}
    if what == "pull":
        return str(models.pull(name, progress=note))
    return str(models.find(name, download=what == "find and download", progress=note))
try:
    answer = {"value": call(sys.argv[1], sys.argv[2])}
except CaptiondError as error:
    answer = {"error": type(error).__name__, "code": error.code, "message": error.message,
              "advice": error.advice, "exit_code": error.exit_code}
print(json.dumps({**answer, "events": events}))
"""


@dataclass
class Machine:
    """One computer: its own cache of models, and the hub that it knows."""

    home: Path
    address: str

    def call(self, what: str, name: str = NAME, **environment: str) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        kept |= {
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.address,
            "NO_PROXY": "127.0.0.1",
            **environment,
        }
        command = [sys.executable, "-c", _CALL, what, name]
        done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def weights(self) -> list[Path]:
        found = (path for ending in ("safetensors", "bin") for path in self.home.rglob(f"*.{ending}"))
        return [path for path in found if path.exists()]


def repository(folder: Path, **options: Any) -> dict[str, bytes]:
    """Files of a repository by name, with a vocabulary that nobody reads here."""
    files.write_hugging_face(folder, files.small_tensors(), **options)
    (folder / "vocab.json").write_bytes(b"{}")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def content(tmp_path: Path) -> dict[str, bytes]:
    """A tiny repository, with files that no one here needs, as openai/whisper-large-v3 has them."""
    unwanted = ("README.md", "normalizer.json", "merges.txt", "flax_model.msgpack", "pytorch_model.bin")
    variants = ("model.fp32-00001-of-00002.safetensors", "model.safetensors.index.fp32.json")
    others = dict.fromkeys((*unwanted, *variants), b"never fetched")
    return others | repository(tmp_path / "repository")


@pytest.fixture
def hub(content: dict[str, bytes]) -> Iterator[FakeHub]:
    with serving(FakeHub(NAME, content)) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, hub: FakeHub) -> Machine:
    return Machine(tmp_path / "home", hub.address)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- pull --------------------------------------------------------------------------------------------


def test_pull_downloads_and_later_finds_without_the_hub(
    machine: Machine, hub: FakeHub, closed_port: int
) -> None:
    assert machine.call("find")["error"] == "ModelNotFoundError"
    assert not hub.asked  # find alone never reaches out
    pulled = machine.call("pull")
    assert set(read_checkpoint(Path(pulled["value"])).tensors) == set(files.small_tensors())
    fetched = {
        line.rpartition("/")[2] for line in hub.asked if line.startswith("GET") and "/resolve/" in line
    }
    assert fetched == {"config.json", "vocab.json", "model.safetensors"}
    offline = Machine(machine.home, f"http://127.0.0.1:{closed_port}")
    assert offline.call("find")["value"] == pulled["value"]
    assert offline.call("find and download")["value"] == pulled["value"]
    assert offline.call("pull")["value"] == pulled["value"]  # it is whole and checked: no hub is needed


def test_pull_tells_how_far_it_is(machine: Machine, content: dict[str, bytes]) -> None:
    events = machine.call("pull")["events"]
    assert {stage for stage, _, _ in events} == {"download"}
    assert all(NAME in message for _, message, _ in events)
    shares = [done for _, _, done in events]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert "downloaded and checked" in events[-1][1]


def test_find_may_download(machine: Machine) -> None:
    assert Path(machine.call("find and download")["value"]).is_dir()


def test_a_short_name_is_a_repository(tmp_path: Path, content: dict[str, bytes]) -> None:
    with serving(FakeHub("openai/whisper-tiny.en", content)) as hub:
        machine = Machine(tmp_path / "home", hub.address)
        where = machine.call("pull", "tiny.en")["value"]
        listed = machine.call("listing")["value"]
    assert listed == {"demo-en": str(models.BUNDLED / "demo-en"), "tiny.en": where}


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_shards_are_fetched_and_a_lost_one_again(tmp_path: Path, pickled: bool) -> None:
    with serving(FakeHub(NAME, repository(tmp_path / "r", shards=3, pickled=pickled))) as hub:
        machine = Machine(tmp_path / "home", hub.address)
        where = Path(machine.call("pull")["value"])
        assert len(machine.weights()) == 3
        [shard] = where.glob("*-00002-of-00003.*")
        shard.resolve().unlink()
        shard.unlink()
        assert machine.call("find")["error"] == "ModelNotFoundError"
        assert machine.call("find and download")["value"] == str(where)
    np.testing.assert_array_equal(
        read_checkpoint(where).tensors["decoder.ln.bias"], files.small_tensors()["decoder.ln.bias"]
    )


def test_pickled_weights_are_fetched_where_there_are_no_others(tmp_path: Path) -> None:
    found = repository(tmp_path / "r", pickled=True)
    with serving(FakeHub(NAME, found | {"training_args.bin": b"never fetched"})) as hub:
        machine = Machine(tmp_path / "home", hub.address)
        where = Path(machine.call("pull")["value"])
        assert [path.name for path in machine.weights()] == ["pytorch_model.bin"]
        hub.sent["pytorch_model.bin"] = b"\0" * len(found["pytorch_model.bin"])
        again = Machine(tmp_path / "another home", hub.address)
        assert again.call("pull")["code"] == "model_damaged"
        assert not again.weights()
    assert read_checkpoint(where).tensors.keys() == files.small_tensors().keys()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["model.bin", "config.json", "vocabulary.json"], "faster-whisper"),
        (["ggml-base.bin", "README.md"], "whisper.cpp"),
        (["adapter_config.json", "adapter_model.safetensors"], "LoRA"),
        (["config.json", "vocab.json", "tf_model.h5"], "TensorFlow"),
        (["vocab.json", "model.safetensors"], "lacks config.json"),
        (["README.md"], "no model"),
    ],
)
def test_a_repository_of_something_else(tmp_path: Path, names: list[str], told: str) -> None:
    with serving(FakeHub(NAME, dict.fromkeys(names, b"{}"))) as hub:
        machine = Machine(tmp_path / "home", hub.address)
        said = machine.call("pull")
        assert (said["error"], said["exit_code"]) == ("ModelError", 78)
        assert NAME in said["message"]
        assert told in said["message"]
        assert said["advice"]
        assert machine.call("find")["error"] == "ModelNotFoundError"


def test_a_repository_without_a_vocabulary(tmp_path: Path, content: dict[str, bytes]) -> None:
    del content["vocab.json"]
    with serving(FakeHub(NAME, content)) as hub:
        machine = Machine(tmp_path / "home", hub.address)
        assert "lacks vocab.json" in machine.call("pull")["message"]
        hub.files["tokenizer.json"] = b"{}"  # which does as well
        machine = Machine(tmp_path / "another home", hub.address)
        assert Path(machine.call("pull")["value"]).is_dir()


# --- damage ------------------------------------------------------------------------------------------


def test_a_file_that_arrives_damaged_is_removed_and_said(machine: Machine, hub: FakeHub) -> None:
    good = hub.files["model.safetensors"]
    hub.sent["model.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    told = machine.call("pull")
    assert (told["error"], told["code"], told["exit_code"]) == ("ModelError", "model_damaged", 78)
    assert "model.safetensors" in told["message"]
    assert "again" in told["advice"]
    assert not machine.weights()
    assert machine.call("find")["error"] == "ModelNotFoundError"
    hub.sent.clear()
    where = Path(machine.call("pull")["value"])  # and the same command mends it
    assert sha256((where / "model.safetensors").read_bytes()) == sha256(good)


def test_a_stored_file_that_rotted_is_found_by_the_next_pull(machine: Machine, hub: FakeHub) -> None:
    where = Path(machine.call("pull")["value"])
    blob = (where / "model.safetensors").resolve()
    blob.write_bytes(b"\0" * blob.stat().st_size)
    assert machine.call("pull")["code"] == "model_damaged"
    assert Path(machine.call("pull")["value"]) == where
    assert sha256(blob.read_bytes()) == blob.name


def test_a_download_that_breaks_off_leaves_no_model(machine: Machine, hub: FakeHub) -> None:
    hub.cut_after["model.safetensors"] = 1_000
    told = machine.call("pull")
    assert told["exit_code"] == 78
    assert told["advice"]
    assert not machine.weights()
    assert machine.call("find")["error"] == "ModelNotFoundError"
    hub.cut_after.clear()
    assert sha256((Path(machine.call("pull")["value"]) / "model.safetensors").read_bytes()) == sha256(
        hub.files["model.safetensors"]
    )


# --- a hub that is not there, or does not have it ----------------------------------------------------


def assert_unreachable(told: dict[str, Any]) -> None:
    assert (told["error"], told["code"], told["exit_code"]) == ("HubUnreachableError", "hub_unreachable", 78)
    assert NAME in told["message"]
    assert f"captiond models pull {NAME}" in told["advice"]
    assert f"captiond models path {NAME}" in told["advice"]
    assert "demo-en" in told["advice"]
    assert "\n" not in told["message"]


def test_no_hub_there(tmp_path: Path, closed_port: int) -> None:
    machine = Machine(tmp_path / "home", f"http://127.0.0.1:{closed_port}")
    assert_unreachable(machine.call("pull"))
    assert_unreachable(machine.call("find and download"))


def test_the_network_is_switched_off(machine: Machine, hub: FakeHub) -> None:
    assert_unreachable(machine.call("pull", HF_HUB_OFFLINE="1"))
    assert not hub.asked


def test_a_hub_that_fails(machine: Machine, hub: FakeHub) -> None:
    hub.status = 501
    assert_unreachable(machine.call("pull"))


def test_a_repository_that_is_not_there(machine: Machine) -> None:
    told = machine.call("pull", "someone/else")
    assert (told["error"], told["code"], told["exit_code"]) == ("ModelNotFoundError", "model_not_found", 78)
    assert "someone/else" in told["message"]
    assert told["advice"]


def test_a_cache_that_cannot_be_written_is_not_called_a_hub_out_of_reach(
    tmp_path: Path, hub: FakeHub
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    told = Machine(tmp_path / "home", hub.address).call("pull")
    assert told["error"] == "ModelError"
    assert told["exit_code"] == 78
    assert "home" in told["message"]
    assert told["advice"]


# --- names and paths ---------------------------------------------------------------------------------


def test_the_bundled_model_needs_nothing() -> None:
    assert models.find("demo-en") == models.pull("demo-en") == models.BUNDLED / "demo-en"
    entry = models.listing()[0]
    assert (entry.name, entry.origin, entry.where) == ("demo-en", "bundled", models.BUNDLED / "demo-en")


def test_folders_and_files_are_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.pt"
    file.write_bytes(b"")
    assert models.find(str(tmp_path)) == models.pull(str(tmp_path)) == tmp_path
    assert models.find(str(file)) == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.find("~/own.pt") == file
    distilled = tmp_path / "original-model.bin"
    distilled.write_bytes(b"")
    assert models.find(str(distilled)) == distilled


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("base.enn", "base.en"),
        ("Large-V3", "large-v3"),
        ("whisper-small", "small"),
        ("large-v3-trubo", "large-v3-turbo"),
        ("distil_large_v3.5", "distil-large-v3.5"),
        ("medium.de", "medium.en"),
        ("demo", "demo-en"),
        ("Turbo", "turbo"),
    ],
)
def test_a_near_miss_is_told_the_name_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        models.find(name)
    assert f"Did you mean {meant}?" in caught.value.advice
    assert "models list" in caught.value.advice


def test_a_near_miss_on_the_hub(machine: Machine) -> None:
    assert "Did you mean small.en?" in machine.call("pull", "openai/whisper-smal.en")["advice"]
    assert "Did you mean" not in machine.call("pull", "someone/else")["advice"]


@pytest.mark.parametrize("name", ["model.safetensors", "small-q5.gguf", "model.onnx", "weights.npz"])
def test_one_file_of_another_form_is_told_apart(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    for given in (name, str(tmp_path / name)):
        with pytest.raises(ModelNotFoundError, match="another form") as caught:
            models.find(given)
        assert "folder" in caught.value.advice


@pytest.mark.parametrize(
    "name",
    [
        "",
        "no-such-name",
        "missing.bin",
        "no/such/thing",
        "/no/such/folder",
        "./relative",
        "missing.pt",
        "~nobody-of-this-name/model",
        "a/b--c",
        "a/..",
        "a/" + "b" * 200,
        "a b/c",
        "line\nbreak/x",
        "nul\0/x",
    ],
)
@pytest.mark.parametrize("look", ["find", "pull"])
def test_a_name_that_is_nothing(name: str, look: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        getattr(models, look)(name)
    assert caught.value.code == "model_not_found"
    assert caught.value.advice


def test_the_listing_names_every_known_model_once() -> None:
    names = [row.name for row in models.listing()]
    assert len(names) == len(set(names))
    assert set(names) == {"demo-en", *HUB_MODELS}
    assert set(HUB_MODELS) >= {name for name in DIMENSIONS if "mini" not in name}
    assert all("/" in row.origin for row in models.listing() if row.name != "demo-en")


def test_the_listing_says_how_large_a_model_is() -> None:
    bundled = models.listing()[0]
    assert bundled.size_bytes == (models.BUNDLED / "demo-en" / "model.safetensors").stat().st_size
    for row in models.listing():
        config = DIMENSIONS.get(row.name)
        if row.name == "demo-en":
            config = WhisperConfig.from_hugging_face(
                folder.read_json(models.BUNDLED / "demo-en" / "config.json")
            )
        assert config is not None, row.name
        count = sum(math.prod(shape) for shape in expected_shapes(config).values())
        assert row.parameters_m == round(count / 1e6), row.name
        if row.name != "demo-en" and not row.name.startswith("distil-large"):
            assert row.english == (config.n_vocab == 51_864)


def test_names_of_openai_whisper_mean_its_models() -> None:
    reference = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    for name in reference.available_models():
        assert ALIASES.get(name, name) in HUB_MODELS
    for short, name in ALIASES.items():
        assert reference._MODELS[short] == reference._MODELS[name]


# As the model cards on the hub name them.
@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("tiny.en", "openai/whisper-tiny.en"),
        ("large-v1", "openai/whisper-large"),
        ("large", "openai/whisper-large-v3"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("distil-large-v3.5", "distil-whisper/distil-large-v3.5"),
    ],
)
def test_where_a_short_name_leads(machine: Machine, name: str, repository: str) -> None:
    told = machine.call("pull", name)
    assert told["error"] == "ModelNotFoundError"
    assert f"no model {repository}," in told["message"]


# --- cards -------------------------------------------------------------------------------------------


def test_a_card(tmp_path: Path) -> None:
    assert models.read_card(tmp_path) == models.Card()
    (tmp_path / "captiond.json").write_text('{"window_partial": "fitted", "max_segment_ms": 12000}')
    assert models.read_card(tmp_path) == models.Card(window_partial="fitted", max_segment_ms=12_000)
    assert models.read_card(tmp_path).pack
    assert not models.read_card(models.BUNDLED / "demo-en").pack
    assert models.read_card(tmp_path / "own.pt") == models.Card()


@pytest.mark.parametrize(
    "card", ["", "{", '{"window": 1}', '{"max_segment_ms": "long"}', '{"unsure": -1}', "[]"]
)
def test_a_spoilt_card_is_refused_by_name(tmp_path: Path, card: str) -> None:
    (tmp_path / "captiond.json").write_text(card)
    with pytest.raises(ModelError, match=r"captiond\.json") as caught:
        models.read_card(tmp_path)
    assert caught.value.advice
