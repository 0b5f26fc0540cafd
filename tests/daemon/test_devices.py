"""``captiond devices``: a table for people, JSON for programs, and a clear word where there is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from captiond.capture.inputs import InputDevice
from captiond.devices import to_json, to_text
from captiond_engine.errors import EXIT_CONFIG, EXIT_UNREACHABLE

ROOT = Path(__file__).parents[2]
FOUND = [
    (InputDevice(0, "USB Mic: Audio (hw:1,0)", "ALSA", 1, 48_000, is_default=False), (48_000,)),
    (InputDevice(3, "pulse", "ALSA", 32, 44_100, is_default=True), (16_000, 44_100, 48_000)),
    (InputDevice(4, "busy", "OSS", 2, 44_100, is_default=False), ()),
]


def run(setting: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in which ``setting`` was done before."""
    program = f"import sys; {setting}\nfrom captiond.__main__ import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", program, "devices", *arguments], capture_output=True, text=True, check=False
    )


def test_the_table_has_a_line_for_each_device_and_marks_the_default() -> None:
    head, *rows = to_text(FOUND).splitlines()
    assert all(word in head for word in ("no.", "name", "host API", "channels", "own rate", "takes"))
    assert [row.split()[0] for row in rows] == ["0", "*", "4"]
    assert rows[1].split() == ["*", "3", "pulse", "ALSA", "32", "44100", "16000", "44100", "48000"]
    assert rows[2].endswith("nothing now")


def test_json_says_the_same() -> None:
    rows = json.loads(to_json(FOUND))
    assert rows[0] == {
        "index": 0,
        "name": "USB Mic: Audio (hw:1,0)",
        "host_api": "ALSA",
        "channels": 1,
        "rate_hz": 48_000,
        "takes_hz": [48_000],
        "default": False,
    }
    assert [row["default"] for row in rows] == [False, True, False]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_device_is_told_and_has_its_own_exit_code(options: tuple[str, ...]) -> None:
    fake = "from tests.daemon.fake_sounddevice import FakeSounddevice"
    done = run(
        f"sys.path.insert(0, {str(ROOT)!r}); {fake}; sys.modules['sounddevice'] = FakeSounddevice()", *options
    )
    assert done.returncode == EXIT_UNREACHABLE
    assert "no input device" in done.stderr
    assert done.stdout == ("[]\n" if options else "")


def test_a_missing_portaudio_is_told_with_its_package() -> None:
    """sounddevice itself, which does not find the library."""
    done = run("import ctypes.util; ctypes.util.find_library = lambda name: None")
    assert done.returncode == EXIT_CONFIG
    assert "PortAudio library not found" in done.stderr
    assert "apt install libportaudio2" in done.stderr
    assert "Traceback" not in done.stderr
