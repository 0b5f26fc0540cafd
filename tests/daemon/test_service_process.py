"""The daemon as a process under a service manager: real sockets, signals and time; once with a real model."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.daemon.house import audio_of, s16
from tests.daemon.service_manager import ServiceManager
from tests.sim.scripted import say

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600  # a first start compiles
REAL = ("-m", "captiond", "serve")
SCRIPTED = ("-m", "tests.daemon.daemon_process", "serve")


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def process(
    manager: ServiceManager, program: tuple[str, ...], config: Path, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon with ``config``, as systemd would start it."""
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "3000000",
        "PYTHONPATH": str(ROOT),
    }
    daemon = subprocess.Popen(
        [sys.executable, *program, "--config", str(config)],
        cwd=ROOT,
        env=environment,
        stdin=stdin,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with daemon:
            yield daemon
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[server]\nport = 0\n[model]\nname = "demo-en"\n')
    return path


@pytest.mark.slow
def test_a_real_daemon_speaks_the_whole_protocol(tmp_path: Path, config: Path) -> None:
    with ServiceManager(tmp_path) as manager, process(manager, REAL, config) as daemon:
        until(lambda: manager.told("READY") == ["READY=1"])
        before = manager.told()[: manager.told().index("READY=1")]
        assert "STATUS=warming up" in before
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
        assert not any(line.startswith("WATCHDOG") for line in before)
        until(lambda: len(manager.told("WATCHDOG")) >= 3)
        assert manager.status == "0 streams, 0 listeners"

        text = config.read_text()
        for written, sentence in (
            (f"{text}[segment]\nsilence_ms = 5\n", "segment.silence_ms"),
            (f"{text}[segment]\nsilence_ms = 700\n", "0 streams, 0 listeners"),
        ):
            manager.forget()
            config.write_text(written)
            daemon.send_signal(signal.SIGHUP)
            until(lambda: manager.told("RELOADING", "READY") == ["RELOADING=1", "READY=1"])
            assert sentence in manager.status

        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0
        assert manager.told("READY", "STOPPING")[-1] == "STOPPING=1"
        assert manager.status == "stopping: finishing 0 streams"


def test_a_hangup_without_a_terminal_reads_the_configuration(tmp_path: Path, config: Path) -> None:
    with ServiceManager(tmp_path) as manager, process(manager, SCRIPTED, config) as daemon:
        until(lambda: "READY=1" in manager.told())
        manager.forget()
        daemon.send_signal(signal.SIGHUP)
        until(lambda: "READY=1" in manager.told())
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(PATIENCE_S) == 0


HUNG = """
import sys, time
import captiond.loading, captiond_engine.engine
from captiond.__main__ import main
from captiond_engine.engine import DeviceThread, Engine
from tests.sim.scripted import ScriptedTokenizer, scripted_traits

class Hung:
    def probe(self, mel=None):
        pass

    def run(self, jobs):
        print("hung", file=sys.stderr, flush=True)
        time.sleep(1e6)

engine = Engine(scripted_traits(), ScriptedTokenizer(), DeviceThread(Hung()))
captiond.loading.load_engine = lambda config, progress: engine
captiond_engine.engine.import_max = lambda: None
sys.argv[1:1] = ["serve"]
main()
"""


def test_a_device_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path, config: Path) -> None:
    config.write_text("[server]\nport = 0\n[limits]\ndrain_ms = 200\n")
    with ServiceManager(tmp_path) as manager, process(manager, ("-c", HUNG), config) as daemon:
        assert daemon.stderr is not None
        address = daemon.stderr.readline().decode().split()[-1].replace("http", "ws")
        until(lambda: "READY=1" in manager.told())
        with connect(f"{address}v1/speak", proxy=None) as socket:
            socket.send(s16(audio_of(say("turn on the lights"))))
            while b"hung" not in daemon.stderr.readline():
                pass
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE_S) == 0


def test_a_terminal_that_goes_takes_the_daemon_with_it(tmp_path: Path, config: Path) -> None:
    ours, terminal = pty.openpty()
    with ServiceManager(tmp_path) as manager, process(manager, SCRIPTED, config, stdin=terminal) as daemon:
        os.close(terminal)
        until(lambda: "READY=1" in manager.told())
        os.close(ours)
        daemon.send_signal(signal.SIGHUP)  # as the kernel does to those whose terminal it was
        assert daemon.wait(PATIENCE_S) == 0
        assert "STOPPING=1" in manager.told()
