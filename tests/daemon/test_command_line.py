"""The command line from outside: what it prints where, and with which code it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from captiond.config import Config
from captiond.config_file import load, to_toml
from captiond_engine.errors import DeviceError
from websockets.sync.client import connect

from tests.daemon.house import audio_of, s16
from tests.sim.scripted import say

ROOT = Path(__file__).parents[2]


def captiond(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "captiond", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error as a person sees it: one line on standard error, nothing on standard output."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("captiond: ")
    return line


def test_an_unknown_key_ends_with_78_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[server]\nprot = 1\n")
    for command in (["serve"], ["config", "check"], ["config", "show"], ["transcribe", "x.wav"]):
        done = captiond(*command, "--config", tmp_path / "c.toml")
        assert done.returncode == 78, command
        assert "server.prot" in one_line(done)
        assert "server.port" in one_line(done)


def test_config_show_prints_all_defaults_and_check_prints_nothing() -> None:
    shown = captiond("config", "show", "--set", "server.port=9000")
    assert shown.returncode == 0
    assert shown.stdout == to_toml(load(None, ["server.port=9000"]))
    checked = captiond("config", "check")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_wrong_usage_is_2() -> None:
    assert captiond("serv").returncode == 2
    assert captiond("transcribe").returncode == 2
    assert captiond("serve", "--colour").returncode == 2


def test_a_port_in_use_ends_with_78_before_a_model_is_looked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = captiond("serve", "--model", "/nowhere/at.all", "--set", f"server.port={port}")
    assert done.returncode == 78
    assert "server.port" in one_line(done)
    assert str(port) in one_line(done)


def test_an_open_door_without_tokens_is_refused() -> None:
    done = captiond("serve", "--set", "server.host=0.0.0.0")
    assert done.returncode == 78
    assert "server.tokens_file" in one_line(done)


def test_a_model_that_is_not_here_ends_with_78_and_says_what_helps(tmp_path: Path) -> None:
    done = captiond("models", "path", "base.enn")
    assert done.returncode == 78
    assert "captiond models list" in one_line(done)
    served = captiond("serve", "--model", tmp_path / "gone.pt", "--set", "server.port=0")
    assert served.returncode == 78
    assert "Traceback" not in served.stderr
    assert served.stderr.splitlines()[-1].startswith("captiond: ")


def test_the_bundled_model_is_found() -> None:
    done = captiond("models", "path", "demo-en")
    assert done.returncode == 0
    assert Path(done.stdout.strip()).is_dir()
    assert "demo-en" in captiond("models", "list").stdout


def test_files_that_are_no_audio_end_with_2_and_no_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "empty.flac").write_bytes(b"")
    done = captiond(
        "transcribe",
        tmp_path / "text.wav",
        tmp_path / "empty.flac",
        tmp_path / "gone.wav",
        "--model",
        "/nowhere.pt",
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("text.wav", "empty.flac", "gone.wav"), strict=True):
        assert line.startswith("captiond: ")
        assert name in line


def test_a_daemon_that_is_told_to_stop_while_it_starts_ends_with_0() -> None:
    command = [sys.executable, "-m", "captiond", "serve", "--model", "demo-en", "--set", "server.port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        first = daemon.stderr.readline()
        assert first.startswith("captions page: http://127.0.0.1:")
        daemon.send_signal(signal.SIGTERM)
        rest = daemon.stderr.read()
        assert daemon.wait(60) == 0
    assert "Traceback" not in rest


@pytest.fixture
def scripted_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """``transcribe`` with a scripted engine instead of a model."""
    from captiond import loading
    from captiond_engine.progress import Progress

    from tests.daemon.house import scripted_engine

    def scripted(config: Config, progress: Progress) -> object:
        return scripted_engine((*say("turn on the lights"), *say("what <is> the time", at=80_000)))

    monkeypatch.setattr(loading, "load_engine", scripted)


@pytest.mark.usefixtures("scripted_command_line")
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("text", "turn on the lights\nwhat <is> the time\n"),
        ("srt", "1\n00:00:00,690 --> 00:00:02,420\nturn on the lights\n\n2\n"),
        ("vtt", "WEBVTT\n\n00:00:00.690 --> 00:00:02.420\nturn on the lights\n\n"),
        ("json", '{"type":"hello","v":1,"stream":"good.flac","seq":0,'),
    ],
)
def test_a_file_is_written_in_each_format_and_a_bad_one_does_not_stop_the_rest(
    tmp_path: Path, shape: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from captiond.cli import main

    script = (*say("turn on the lights"), *say("what <is> the time", at=80_000))
    soundfile.write(tmp_path / "good.flac", audio_of(script), 16_000)
    (tmp_path / "bad.wav").write_text("no")
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", str(tmp_path / "bad.wav"), str(tmp_path / "good.flac"), "--format", shape])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out.startswith(expected)
    assert "bad.wav" in told.err
    if shape == "vtt":
        assert "&lt;is&gt;" in told.out
    if shape == "json":
        assert all(line.startswith('{"type":') for line in told.out.splitlines())


@pytest.mark.usefixtures("scripted_command_line")
@pytest.mark.parametrize("shape", ["srt", "vtt"])
def test_subtitles_of_several_files_are_one_document(
    tmp_path: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from captiond.cli import main

    paths = [tmp_path / "one.flac", tmp_path / "two.flac"]
    for path in paths:
        soundfile.write(path, audio_of(say("turn on the lights"))[: 3 * 16_000], 16_000)
    main(["transcribe", *map(str, paths), "--format", shape], standalone_mode=False)
    told = capsys.readouterr().out
    point = "," if shape == "srt" else "."
    assert told.count("WEBVTT") == (shape == "vtt")
    starts = [line.split()[0] for line in told.splitlines() if "-->" in line]
    assert starts == [f"00:00:00{point}690", f"00:00:03{point}690"]
    if shape == "srt":
        assert [line for line in told.splitlines() if line.isdigit()] == ["1", "2"]


def test_a_file_that_the_device_failed_on_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captiond import loading
    from captiond.cli import main

    from tests.daemon.house import scripted_engine

    script = say("turn on the lights")
    broken = scripted_engine(script, fail_calls=lambda number: True)
    monkeypatch.setattr(loading, "load_engine", lambda config, progress: broken)
    soundfile.write(tmp_path / "a.flac", audio_of(script), 16_000)
    with pytest.raises(DeviceError, match=r"a\.flac: not all of it .* \(device\)"):
        main(["transcribe", str(tmp_path / "a.flac")], standalone_mode=False)


LOADS_IN_ANOTHER_THREAD = """
import threading
from captiond_engine.engine import Engine, import_max
import_max()
thread = threading.Thread(target=lambda: Engine.load("demo-en").close())
thread.start()
thread.join()
"""


@pytest.mark.slow
def test_a_model_that_was_loaded_in_another_thread_leaves_without_complaint() -> None:
    """MAX leaves in the main thread, at the end, what it entered where it was imported."""
    done = subprocess.run(
        [sys.executable, "-c", LOADS_IN_ANOTHER_THREAD], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


HANGS_IN_THE_MIDDLE_OF_SPEECH = """
import asyncio
from captiond.app import App
from captiond.serve import stop_on_signal
from tests.daemon.house import configured, scripted_engine
from tests.sim.scripted import say

async def main():
    engine = scripted_engine(say("turn on the lights"), decode_s=1e6)
    config = configured(limits={"drain_ms": 600_000})
    bound = lambda address: print(address, flush=True)
    app = App(config, lambda progress: engine, on_bound=bound, on_ready=lambda: print("ready", flush=True))
    await app.run(stop_on_signal())

asyncio.run(main())
"""


def test_a_second_signal_leaves_at_once() -> None:
    command = [sys.executable, "-c", HANGS_IN_THE_MIDDLE_OF_SPEECH]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().strip().replace("http", "ws")
        assert daemon.stdout.readline() == "ready\n"
        with connect(f"{address}v1/speak?stream=hall", proxy=None) as socket:
            socket.send(s16(audio_of(say("turn on the lights"))[: 2 * 16_000]))
            while '"speech.started"' not in socket.recv(timeout=60):
                pass
            daemon.send_signal(signal.SIGTERM)
            while '"speech.ended"' not in socket.recv(timeout=60):
                pass
            assert daemon.poll() is None
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == -signal.SIGTERM
