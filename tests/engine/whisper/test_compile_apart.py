"""Compiling in a process of its own: what it is asked, how its failures are told, and that it never stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from captiond_engine.whisper import compile_apart as apart
from captiond_engine.whisper import cpu
from captiond_engine.whisper.compile_apart import CompileError, compile_apart
from captiond_engine.whisper.graph_store import GraphStore

from tests.engine.whisper import fake_compiler, files

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_NAME", "tests.engine.whisper.fake_compiler")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))


def test_it_is_asked_for_one_graph_and_its_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_compiler.CHOICE, "works")
    store = GraphStore(tmp_path)
    answer = json.loads(compile_apart("encode", files.SMALL, store, target=cpu.TARGETS[1]))
    request, settings = answer["request"], answer["settings"]
    assert (request["kind"], request["config"]) == ("encode", files.SMALL.facts)
    assert (request["on_gpu"], request["target"]) == (False, "x86-64-v3")
    for name in ("MODULAR_CACHE_DIR", "TMPDIR"):  # of its own, whatever this process has
        assert tmp_path in Path(settings[name]).parents
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("fails", "somewhere: error: no such instruction"),
        ("raises", "ValueError: a graph that is none"),
        ("is killed", "signal 9"),
        ("writes nothing", "graph.mef"),
    ],
)
def test_what_went_wrong_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, said: str
) -> None:
    monkeypatch.setenv(fake_compiler.CHOICE, choice)
    with pytest.raises(CompileError, match=said) as caught:
        compile_apart("encode", files.SMALL, GraphStore(tmp_path))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(CompileError, match="could not be run"):
        compile_apart("encode", files.SMALL, GraphStore(tmp_path / "graphs"))


def test_no_room_anywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LEAST_BYTES", 1 << 60)
    with pytest.raises(CompileError, match="no room for the compiler"):
        compile_apart("encode", files.SMALL, GraphStore(tmp_path))


def test_its_input_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    """A daemon that is killed leaves no compiler behind: the real one ends when it reads the end."""
    pid_file = tmp_path / "pid"
    script = (
        "from captiond_engine.whisper import compile_apart as apart\n"
        "from captiond_engine.whisper.graph_store import GraphStore\n"
        "from pathlib import Path\n"
        "from tests.engine.whisper import files\n"
        "apart._NAME = 'tests.engine.whisper.fake_compiler'\n"
        f"apart.compile_apart('encode', files.SMALL, GraphStore(Path({str(tmp_path)!r})))\n"
    )
    environment = {**os.environ, fake_compiler.CHOICE: "hangs", fake_compiler.PID_FILE: str(pid_file)}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment) as asking:
        _until(lambda: pid_file.exists() and pid_file.read_text() != "")
        assert pid_file.read_text().isdigit()
        asking.kill()
    _until(lambda: pid_file.read_text() == "its input has ended")


def test_the_compiler_ends_when_its_input_does_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time, threading\n"
        "from captiond_engine.whisper import compile_apart as apart\n"
        "apart._compile = lambda request: time.sleep(3600)\n"
        "apart.main()\n"
    )
    work = tmp_path / "work"
    (work / "cache").mkdir(parents=True)
    request = {"kind": "encode", "config": {}, "on_gpu": False, "into": str(work / "graph.mef")}
    line = json.dumps(request).encode() + b"\n"
    done = subprocess.run([sys.executable, "-c", script], input=line, check=False, timeout=120)
    assert done.returncode == 1
    assert not work.exists()


def _until(condition: object) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to pass")
