"""Loads .ci/environment.py, which is a script and no module of a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "environment.py"


def load_environment_script() -> ModuleType:
    """A fresh copy each time, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location("captiond_environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
