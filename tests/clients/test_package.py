"""What the package gives by its own name, whatever else of it is imported."""

from __future__ import annotations

import importlib
import subprocess
import sys

import captiond_clients
import pytest
from captiond_clients import client, events


def test_the_library_is_at_hand_also_beside_the_commands_of_the_same_names() -> None:
    for command in ("listen", "speak"):
        assert importlib.import_module(f"captiond_clients.{command}").command.name == command
    assert captiond_clients.listen is client.listen
    assert captiond_clients.speak is client.speak
    assert captiond_clients.Final is events.Final
    assert all(hasattr(captiond_clients, name) for name in captiond_clients.__all__)


def test_what_there_is_not_is_told_as_always() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lisen'"):
        _ = captiond_clients.lisen  # type: ignore[attr-defined]


def test_the_package_alone_imports_no_websocket() -> None:
    script = "import sys, captiond_clients.printable; print('websockets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
