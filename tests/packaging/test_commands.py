"""One command, one meaning: Makefile, pixi.toml and CI agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.environment_script import load_environment_script

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("demo", "serve", "test", "check", "bench", "bench-gpu", "bench-live", "parity")


def makefile_commands() -> dict[str, str]:
    """The variables of the Makefile that hold a task's command."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^([A-Z_]+) = (.+)$", text, flags=re.MULTILINE))
    return {task: variables[task.upper().replace("-", "_")] for task in TASKS}


@pytest.fixture(scope="module")
def pixi() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pixi.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def pixi_commands(pixi: dict[str, Any]) -> dict[str, str]:
    tasks = pixi["tasks"] | {
        name: task for f in pixi["feature"].values() for name, task in f["tasks"].items()
    }
    return {name: task["cmd"] for name, task in tasks.items()}


def test_pixi_tasks_are_the_makefiles_commands(pixi: dict[str, Any]) -> None:
    assert pixi_commands(pixi) == makefile_commands()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("task", TASKS)
def test_make_runs_the_command_in_the_environment(task: str) -> None:
    # Under `make test ARGS=...` make hands its variables on to every make below it.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "ARGS", "EXTRAS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    command = ["make", "--no-print-directory", "--dry-run", task]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    first, last = done.stdout.strip().splitlines()
    assert ".ci/environment.py" in first
    assert last.startswith('PATH="')
    assert "/.venv/bin:$PATH" in last
    assert last.rstrip().endswith(makefile_commands()[task])


def test_pixi_installs_this_project_with_known_extras(pixi: dict[str, Any], project: dict[str, Any]) -> None:
    known = set(project["optional-dependencies"])
    for table in (pixi, pixi["feature"]["bench"]):
        source = table["pypi-dependencies"]["captiond"]
        assert (source["path"], source["editable"]) == (".", True)
        assert set(source["extras"]) <= known
        assert table["dependencies"]["python"].startswith(project["requires-python"])


def test_pixi_knows_channels_platforms_and_the_oldest_system(pixi: dict[str, Any]) -> None:
    assert pixi["workspace"]["platforms"] == ["linux-64", "linux-aarch64"]
    assert pixi["workspace"]["channels"] == ["conda-forge", "https://conda.modular.com/max/"]
    oldest = ".".join(map(str, load_environment_script().OLDEST_GLIBC))
    assert pixi["system-requirements"]["libc"] == {"family": "glibc", "version": oldest}


def test_make_installs_known_extras(project: dict[str, Any]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = {
        extra
        for line in re.findall(r"^\t\$\(ENVIRONMENT\) (.+)$", text, re.MULTILINE)
        for extra in line.split()
    }
    assert asked - {"$(EXTRAS)"} <= set(project["optional-dependencies"])
    assert "EXTRAS ?= dev" in text


def test_ci_is_sound_bash_and_runs_check_test_and_parity() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert "make --no-print-directory check" in script
    assert "make --no-print-directory test EXTRAS=dev,parity" in script.splitlines()[-1]
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
