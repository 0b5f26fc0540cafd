"""Who may know whom, and what the core may not know at all."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, python_files, shown, tree

ENGINE = ROOT / "engine" / "captiond_engine"
# Beside whisper/: the parts that may wait, or touch files.
EDGES = {"engine.py", "scheduler.py", "models.py", "hub.py", "speech_model.py"}
CORE = [
    path
    for path in sorted(ENGINE.rglob("*.py"))
    if path.name not in EDGES and "whisper" not in path.relative_to(ENGINE).parts
]
OUTER_WORLD = {
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "websockets",
}


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that ``path`` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def called_name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_the_import_contracts_hold() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    if not program.is_file():
        pytest.skip("import-linter is not installed (extra dev)")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_is_where_it_is_looked_for() -> None:
    names = {path.stem for path in CORE}
    assert {"stream", "segmenter", "detector", "commit", "align", "rules", "mel", "ring"} <= names


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_the_core_knows_no_clock_loop_or_socket(path: Path) -> None:
    assert imported(path) & OUTER_WORLD == set()
    waits = ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith
    assert [node.lineno for node in ast.walk(tree(path)) if isinstance(node, waits)] == []


def test_every_task_is_born_named_in_a_task_group() -> None:
    """``group.create_task(..., name=...)``; never ``asyncio.create_task`` or ``ensure_future``."""
    loose = []
    for path in python_files(*PACKAGES):
        for call in calls(path):
            name = called_name(call)
            named = any(keyword.arg == "name" for keyword in call.keywords)
            if name.endswith("ensure_future") or name in {"asyncio.create_task", "loop.create_task"}:
                loose.append(f"{shown(path)}:{call.lineno} {name}")
            elif name.endswith(".create_task") and not named:
                loose.append(f"{shown(path)}:{call.lineno} {name} without name=")
    assert loose == []


def test_no_constructor_starts_a_task() -> None:
    started = []
    for path in python_files(*PACKAGES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name in {"__init__", "__post_init__"}:
                inner = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
                started += [shown(path) for call in inner if called_name(call).endswith("create_task")]
    assert started == []


def test_no_queue_is_without_a_bound() -> None:
    unbounded = [
        f"{shown(path)}:{call.lineno}"
        for path in python_files(*PACKAGES)
        for call in calls(path)
        if called_name(call).split(".")[-1] in {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"}
        and not call.args
        and not any(keyword.arg == "maxsize" for keyword in call.keywords)
    ]
    assert unbounded == []


def test_asserts_do_no_work_in_the_packages() -> None:
    """``python -O`` drops them: only what the type checker needs to hear may be said so."""
    working = [
        f"{shown(path)}:{node.lineno}"
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and any(isinstance(part, ast.Await) for part in ast.walk(node))
    ]
    assert working == []
