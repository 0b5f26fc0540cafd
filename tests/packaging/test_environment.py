"""The script behind ``make``: what it says where something is missing, and that it does nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

from tests.packaging.environment_script import SCRIPT, load_environment_script

Said = pytest.CaptureFixture[str]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in a folder of its own and with no Python to turn to but this."""
    module = load_environment_script()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'captiond'\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name, value in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "VENV_PYTHON": str(tmp_path / ".venv" / "bin" / "python"),
        "STAMP": tmp_path / ".venv" / "captiond-stamp.json",
    }.items():
        setattr(module, name, value)
    return module


def stopped(call: object, said: Said) -> str:
    """What the script said before it stopped."""
    assert callable(call)
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 1
    return said.readouterr().err


def test_an_old_python_is_told_what_to_install(script: ModuleType, capsys: Said) -> None:
    script.OLDEST_PYTHON = (3, 99)
    script.NEWEST_PYTHON = (3, 99)
    said = stopped(script.check_python, capsys)
    assert "Python 3.99 to 3.99 is needed" in said
    assert "apt install python3 python3-venv" in said


def test_a_newer_python_beside_an_old_one_is_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = script.ROOT / "bin" / "python3.99"
    newer.write_text("#!/bin/sh\n", encoding="utf-8")
    newer.chmod(0o755)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append([path, *arguments[1:]]))
    monkeypatch.setattr(sys, "argv", ["environment.py", "demo"])
    monkeypatch.delenv("CAPTIOND_PYTHON_TRIED", raising=False)
    script.OLDEST_PYTHON = script.NEWEST_PYTHON = (3, 99)
    script.stop = lambda *_: None
    script.check_python()
    assert started == [[str(newer), "environment.py", "demo"]]


def test_another_processor_is_refused_by_name(
    script: ModuleType, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.platform, "machine", lambda: "riscv64")
    said = stopped(script.check_machine, capsys)
    assert "riscv64" in said
    assert "x86_64 and aarch64" in said


@pytest.mark.parametrize(("found", "named"), [("glibc 2.31", "glibc 2.31"), (None, "another C library")])
def test_an_old_or_other_c_library_is_refused(
    script: ModuleType, capsys: Said, monkeypatch: pytest.MonkeyPatch, found: str | None, named: str
) -> None:
    monkeypatch.setattr(script.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "confstr", lambda _: found)
    said = stopped(script.check_machine, capsys)
    assert f"glibc 2.34 or newer is needed; this system has {named}" in said


def test_a_full_disk_is_told_before_anything_is_made(script: ModuleType, capsys: Said) -> None:
    script.FREE_GIB = 10**9
    assert "the environment wants 1000000000" in stopped(script.check_room, capsys)


def test_a_python_without_ensurepip_and_pip_is_told_what_to_install(
    script: ModuleType, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name
    )
    script.works = lambda _: False
    said = stopped(script.make_venv, capsys)
    assert "cannot make a virtual environment" in said
    assert "ensurepip" in said or "apt install python3-venv" in said
    assert not script.VENV.exists()


def test_without_ensurepip_the_systems_pip_serves(
    script: ModuleType, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name
    )
    asked: list[list[str]] = []

    def works(command: list[str]) -> bool:
        asked.append(command)
        script.VENV.mkdir(exist_ok=True)
        return command[0] == script.PYTHON

    script.works = works
    script.make_venv()
    assert asked[-1] == [script.PYTHON, "-m", "venv", "--without-pip", script.VENV]
    assert script.pip_command() == [script.PYTHON, "-m", "pip", "--python", script.VENV_PYTHON]
    assert "Making .venv" in capsys.readouterr().err


def test_a_second_call_installs_nothing(script: ModuleType) -> None:
    installs: list[tuple[str, ...]] = []
    script.make_venv = lambda: script.VENV.mkdir(exist_ok=True)
    script.check_room = lambda: None

    def pip_install(*arguments: str) -> tuple[bool, list[str]]:
        installs.append(arguments)
        return True, []

    script.pip_install = pip_install
    script.main(["demo"])
    script.main(["demo"])
    assert installs == [("--editable", ".[demo]")]
    script.main(["dev"])  # what was there stays
    assert installs[1:] == [("--editable", ".[demo,dev]")]
    script.main(["demo"])
    assert len(installs) == 2
    (script.ROOT / "pyproject.toml").write_text("[project]\nname = 'captiond2'\n", encoding="utf-8")
    script.main(["demo"])
    assert installs[2:] == [("--editable", ".[demo,dev]")]


def test_an_environment_of_another_place_is_made_anew(script: ModuleType, capsys: Said) -> None:
    script.VENV.mkdir()
    script.write_stamp("key", {"demo"})
    stamp = script.STAMP.read_text(encoding="utf-8")
    script.STAMP.write_text(stamp.replace(str(script.ROOT), "elsewhere"), encoding="utf-8")
    script.works = lambda _: script.VENV.mkdir(exist_ok=True) or True
    script.make_venv()
    assert "Removing .venv" in capsys.readouterr().err
    assert script.read_stamp()["extras"] == []


def test_an_active_environment_is_not_taken_for_another_python(tmp_path: Path) -> None:
    """`. .venv/bin/activate && make test`: python3 is then .venv's own."""
    venv.create(tmp_path / "venv", with_pip=False)
    command = f"import runpy; print(runpy.run_path({str(SCRIPT)!r})['home']())"
    homes = [
        subprocess.run([python, "-c", command], capture_output=True, check=True, text=True).stdout
        for python in (getattr(sys, "_base_executable", sys.executable), tmp_path / "venv" / "bin" / "python")
    ]
    assert homes[0] == homes[1] != ""


@pytest.mark.parametrize(
    ("pip_said", "advice"),
    [
        ("Failed to establish: NewConnectionError(...)", "Behind a proxy"),
        ("ERROR: No matching distribution found for max", "lacks a package"),
        ("OSError: [Errno 28] No space left on device", "Make room"),
        ("ERROR: something else", "make clean"),
    ],
)
def test_what_pip_said_is_explained(script: ModuleType, capsys: Said, pip_said: str, advice: str) -> None:
    said = stopped(lambda: script.explain_pip([pip_said]), capsys)
    assert pip_said in said
    assert advice in said


def test_torch_comes_first_and_as_a_cpu_build(script: ModuleType) -> None:
    installs: list[tuple[str, ...]] = []
    script.VENV.mkdir()
    script.works = lambda _: False

    def pip_install(*arguments: str) -> tuple[bool, list[str]]:
        installs.append(arguments)
        return True, []

    script.pip_install = pip_install
    script.install({"dev", "parity"})
    assert installs == [("torch==2.13.0+cpu",), ("--editable", ".[dev,parity]")]


def test_where_no_cpu_build_can_be_had_the_default_is_taken_and_said(
    script: ModuleType, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.platform, "machine", lambda: "x86_64")
    script.works = lambda _: False
    script.pip_install = lambda name: (not name.endswith("+cpu"), [])
    script.install_torch()
    assert "gigabytes of CUDA" in capsys.readouterr().err


def test_pips_output_is_shortened_to_progress(script: ModuleType, capsys: Said) -> None:
    progress = script.Progress()
    for line in (
        "Collecting max>=26.7",
        "  Downloading max_core-26.7.0-py3-none-any.whl (87.0 MB)",
        "  Downloading click-8.1-py3-none-any.whl (0.1 MB)",
        "Requirement already satisfied: x",
        "Installing collected packages: a, b, c",
    ):
        progress.show(line)
    said = capsys.readouterr().err.splitlines()
    assert [line.split("] ")[1] for line in said] == [
        "downloading max_core-26.7.0-py3-none-any.whl (87.0 MB)",
        "unpacking 3 packages",
    ]
