"""``captiond doctor`` in broken surroundings: what is wrong is named with its key and with what to do."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from captiond.config import Config
from captiond.config_file import load
from captiond.doctor import examine, machine, model, setup
from captiond.doctor.finding import Finding, exit_code, fail, ok, warn
from captiond.doctor.table import Table
from captiond_engine.errors import DeviceError
from captiond_engine.models import BUNDLED
from captiond_engine.whisper import cpu
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import facts_of, machine_of
from captiond_engine.whisper.loading import kinds_of
from max.driver import CPU

from tests.daemon.findings import config_of, only, told
from tests.mqtt.broker import free_port

DEMO = {"name": "demo-en"}


# --- the machine --------------------------------------------------------------------------------------


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told(only(machine.packages(Config())), "ok", "MAX")
    wanted = ["no-such-package>=1", "numpy>=99", "click>=8", 'jiwer>=99; extra == "demo"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    told(only(machine.packages(Config())), "fail", "no-such-package is missing", "numpy is", "pip install")


def test_what_the_processor_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_lines", lambda path, begin: ["flags : fpu sse4_2"])
    told(only(machine.processor(Config())), "warn", "AVX2")
    monkeypatch.setattr(machine, "_lines", lambda path, begin: ["flags : fpu avx2 avx512f"])
    monkeypatch.setattr(machine, "usable_cores", lambda: 8.0)
    told(only(machine.processor(Config())), "ok", "AVX2 and AVX-512", "8 cores")


def test_a_containers_share_of_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    told(only(machine.processor(Config())), "warn", "0.5 cores")
    told(only(machine.memory(Config())), "warn", "0.5 GiB")


def test_too_few_open_files_and_too_little_room_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    told(only(machine.open_files(Config())), "warn", "256", "LimitNOFILE")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(1, 1, 2**20))
    told(only(machine.disk(Config())), "warn", "CAPTIOND_CACHE_DIR")


def test_an_extra_is_missed_where_the_configuration_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.media, "installed", lambda: False)
    told(only(machine.extras(Config())), "warn", "captiond[av]")
    radio = {"kind": "network", "name": "radio", "url": "https://radio.example/live"}
    told(only(machine.extras(config_of(source=[radio]))), "fail", "captiond[av]")


# --- the model ------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_gpu(name: str) -> Any:
        if name == "gpu":
            raise DeviceError("No GPU that MAX can use was found.", advice="Check the driver.")
        return namedtuple("device", "is_host")(True)

    monkeypatch.setattr(model, "choose_device", no_gpu)
    told(only(model.device(config_of(model={"device": "gpu"}))), "fail", "No GPU")
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(model, "NVIDIA", tmp_path / "version")
    told(only(model.device(Config())), "warn", "nvidia-smi")


@pytest.mark.parametrize(
    ("spoil", "status", "word"),
    [
        (lambda folder: None, "ok", "with a card"),
        (lambda folder: (folder / "config.json").unlink(), "fail", "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "fail", "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 99), "fail", "model.safetensors"),
        (lambda folder: (folder / "captiond.json").write_text('{"window": 1}'), "fail", "captiond.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "fail", ""),
    ],
)
def test_a_model_that_is_not_whole_is_told(tmp_path: Path, spoil: Any, status: str, word: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (BUNDLED / "demo-en").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    spoil(folder)
    told(only(model.model(config_of(model={"name": str(folder)}))), status, word)


def test_a_model_that_is_not_here_can_be_fetched_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told(only(model.model(config_of(model={"name": "owner/no-such-model"}))), "warn", "models pull owner/no")
    told(only(model.model(config_of(model={"name": str(tmp_path / "gone.pt")}))), "fail", "gone.pt")
    told(only(model.model(config_of(model={"name": "base.enn"}))), "fail", "models list")
    (tmp_path / "cut.pt").write_bytes(b"PK\3\4 and no more")
    told(only(model.model(config_of(model={"name": str(tmp_path / "cut.pt")}))), "fail", "cut.pt")
    assert model.graphs(config_of(model={"name": "base.enn"})) == []


def test_graphs_that_must_be_compiled_are_told_with_the_time_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIOND_CACHE_DIR", str(tmp_path / "cache"))
    int8 = config_of(model={**DEMO, "precision": "int8"})
    told(only(model.graphs(int8)), "warn", "takes about", "min", "captiond models compile demo-en")
    monkeypatch.setattr(model.os, "access", lambda path, mode: False)
    told(only(model.graphs(int8)), "warn", "every start", "CAPTIOND_CACHE_DIR")


def test_graphs_that_came_with_captiond_or_are_stored_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIOND_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "this_processor", lambda: cpu.TARGETS[-1].description)
    told(only(model.graphs(config_of(model=DEMO))), "ok", "came with captiond", "captiond models compile")
    store, shape = GraphStore(), model.dimensions(BUNDLED / "demo-en")
    for kind in kinds_of(CPU(), "float32"):
        store.save(facts_of(kind, shape, b"a graph", machine_of(CPU())), bytes(2**20))
    told(only(model.graphs(config_of(model=DEMO))), "ok", "2 MiB", str(tmp_path / "cache"))


def test_a_model_that_does_not_load_is_what_serve_would_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Config, progress: Any) -> Any:
        raise DeviceError("The device is on fire.", advice="Leave.")

    monkeypatch.setattr(model, "load_engine", broken)
    told(only(model.inference(Config())), "fail", "on fire", "Leave.")


# --- what was configured --------------------------------------------------------------------------------


def test_a_configuration_that_cannot_be_used_ends_the_examination() -> None:
    findings = list(examine(lambda: load(None, ["server.prot=1"])))
    told(findings[-1], "fail", "server.prot", "server.port")
    assert exit_code(findings) == 78
    assert {finding.check for finding in findings[:-1]} >= {"python", "packages", "memory"}


def test_secrets_that_others_may_read_are_told(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-sixteen-characters\n")
    config = config_of(server={"tokens_file": str(tokens)})
    tokens.chmod(0o644)
    told(only(setup.secrets(config)), "warn", "server.tokens_file", "chmod 600")
    tokens.chmod(0o640)
    told(only(setup.secrets(config)), "ok")
    told(only(setup.configuration(config)), "ok")
    tokens.write_text("short\n")
    told(only(setup.configuration(config)), "fail", "server.tokens_file")
    tokens.unlink()
    told(only(setup.configuration(config)), "fail", "server.tokens_file")
    assert setup.secrets(config) == []


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.wav").write_bytes(b"")
    config = config_of(source=[{"kind": "file", "name": "a", "path": str(tmp_path / "clip.wav")}])
    monkeypatch.setattr(setup.os, "access", lambda path, mode: False)
    told(only(setup.configuration(config)), "fail", "clip.wav", "right to read")


@pytest.mark.parametrize(("days", "status"), [(-1, "fail"), (3, "warn"), (90, "ok")])
def test_a_certificate_is_told_before_it_ends(tmp_path: Path, days: int, status: str) -> None:
    trustme = pytest.importorskip("trustme", reason="needs trustme (extra dev)")
    ends = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("captions.example", not_after=ends)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    found = only(setup.tls(config_of(server={"cert": str(cert), "key": str(key)})))
    told(found, status, "expired" if days < 0 else "captions.example")
    key.write_bytes(trustme.CA().issue_cert("x.example").private_key_pem.bytes())
    told(only(setup.tls(config_of(server={"cert": str(cert), "key": str(key)}))), "fail", "server.key")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    assert setup.files(Config()) == []
    told(only(setup.files(config_of(files={"folder": str(tmp_path / "new")}))), "ok", "can be written")
    (tmp_path / "file").write_text("")
    told(
        only(setup.files(config_of(files={"folder": str(tmp_path / "file" / "in")}))), "fail", "files.folder"
    )


def test_what_browsers_want_beyond_this_machine() -> None:
    told(only(setup.browsers(Config())), "ok", "microphone")
    told(
        only(setup.browsers(config_of(server={"host": "0.0.0.0"}))),
        "warn", "server.cert", "server.hosts", "server.tokens_file",
    )  # fmt: skip


def test_a_service_that_has_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "UNITS", (tmp_path / "captiond.service",))
    told(only(setup.service(Config())), "ok", "install-service")
    (tmp_path / "captiond.service").write_text("[Unit]\n")
    for state, status in (("failed", "warn"), ("active", "ok"), ("", "ok")):
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f"#!/bin/sh\necho {state}\n")
        systemctl.chmod(0o755)
        monkeypatch.setattr(setup.shutil, "which", lambda name, found=str(systemctl): found)
        told(only(setup.service(Config())), status, "captiond.service", state)


# --- the whole ------------------------------------------------------------------------------------------


def test_the_exit_code_is_that_of_the_worst() -> None:
    away = fail("broker", "away", exit_code=69)
    assert exit_code([ok("a", ""), warn("b", "")]) == 0
    assert exit_code([ok("a", ""), away]) == 69
    assert exit_code([away, fail("model", "gone")]) == 78


def test_a_row_holds_nothing_that_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    found = fail("model", "a name\x1b[2J\nok   forged", "do\x07")
    table.show(found)
    table.close([found])
    assert capsys.readouterr().out == (
        "FAIL model         a name\\x1b[2J\\nok   forged\n"
        "                   do\\x07\n"
        "\n0 good, 0 doubtful, 1 failed.\n"
    )


def test_the_command_gives_json_lines_or_a_table_and_its_code(tmp_path: Path) -> None:
    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "captiond", "doctor", "--model", "demo-en", *words],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    done = doctor("--json", "--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={free_port()}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 69, done.stderr
    assert [each["check"] for each in found if each["status"] == "fail"] == ["broker"]
    assert {frozenset(each) for each in found} == {frozenset(Finding.__struct_fields__)}
    plain = doctor("--set", "server.port=0", "--set", "server.prot=1")
    assert plain.returncode == 78
    assert "FAIL configuration" in plain.stdout
    assert "\x1b" not in plain.stdout
    assert "Traceback" not in plain.stderr
