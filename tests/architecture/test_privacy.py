"""MAX reports usage over the network unless it is told not to before it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.architecture.sources import PACKAGES, python_files, shown
from tests.architecture.test_imports import imported

VARIABLES = ("MODULAR_TELEMETRY_ENABLED", "MODULAR_CRASH_REPORTING_ENABLED")


def test_max_is_imported_by_the_whisper_package_alone() -> None:
    importing = {shown(path) for path in python_files(*PACKAGES) if "max" in imported(path)}
    assert importing
    assert {name for name in importing if not name.startswith("engine/captiond_engine/whisper/")} == set()


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(("said", "holds"), [(None, "0"), ("1", "1")])
def test_reports_are_off_unless_the_user_asks_for_them(variable: str, said: str | None, holds: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != variable}
    if said is not None:
        environment[variable] = said
    script = f"import os, captiond_engine.whisper; print(os.environ[{variable!r}])"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == holds
