"""The checkout's own files, as the rules look at them. Takes nothing; gives paths and syntax trees."""

from __future__ import annotations

import ast
import subprocess
from functools import cache, lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("daemon/captiond", "engine/captiond_engine", "clients/captiond_clients")


@lru_cache(maxsize=1)
def tracked() -> tuple[str, ...]:
    """Paths of all files that belong to the project, relative to ROOT; skips outside a git checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    return tuple(sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def python_files(*folders: str) -> list[Path]:
    """Python files under ``folders``, or all of them."""
    prefixes = tuple(f"{folder}/" for folder in folders) or ("",)
    return [ROOT / name for name in tracked() if name.endswith(".py") and name.startswith(prefixes)]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
