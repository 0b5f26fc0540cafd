"""sd_notify as systemd reads it, and what the daemon tells by it from its start to its stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from captiond.app import App
from captiond.loading import EXTEND_S, LONGEST_STEP_S, StartNews
from captiond.readiness import Readiness
from captiond.systemd import STATUS_LETTERS, Notifier
from captiond_engine.engine import Engine
from captiond_engine.errors import ModelError
from captiond_engine.progress import Progress, ProgressEvent, silent

from tests.daemon.house import audio_of, configured, house, scripted_engine
from tests.daemon.service_manager import ServiceManager
from tests.sim.scripted import say

TURN_ON = say("turn on the lights")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path, watchdog_s=30.0) as listening:
        yield listening


def test_every_message_is_one_that_systemd_knows(manager: ServiceManager) -> None:
    notifier = manager.notifier
    notifier.ready()
    notifier.stopping()
    notifier.watchdog()
    notifier.extend(90.5)
    assert manager.told() == ["READY=1", "STOPPING=1", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=90500000"]
    notifier.reloading()
    reloading, clock = manager.told()[-2:]
    assert reloading == "RELOADING=1"
    assert clock.startswith("MONOTONIC_USEC=")
    assert int(clock.partition("=")[2]) > 0


def test_a_sentence_is_one_line_and_told_once(manager: ServiceManager) -> None:
    for sentence in ("2 streams,\n3 listeners", "2 streams, 3 listeners", "x" * 1_000):
        manager.notifier.status(sentence)
    first, second = manager.told("STATUS")
    assert first == "STATUS=2 streams, 3 listeners"
    assert len(second) == len("STATUS=") + STATUS_LETTERS


def test_an_abstract_address_is_reached() -> None:
    name = f"captiond-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        Notifier(f"@{name}").ready()
        assert listening.recv(100) == b"READY=1"


def test_nobody_who_listens_is_no_fault(tmp_path: Path) -> None:
    Notifier("").ready()
    Notifier(str(tmp_path / "nobody")).ready()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_read_as_systemd_sets_it(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/x", **environment}).watchdog_s == watchdog_s
    assert Notifier.from_environment(environment).watchdog_s is None


def test_a_long_start_asks_for_time_with_each_news_but_not_for_ever(manager: ServiceManager) -> None:
    now = 100.0
    news = StartNews(Readiness(), manager.notifier, silent, clock=lambda: now)
    extended = f"EXTEND_TIMEOUT_USEC={round(EXTEND_S * 1e6)}"
    for second in range(0, 300, 5):
        now = 100.0 + second
        news(ProgressEvent("compile", f"compiling: {second} s so far", 0.99, 90.0))
        assert manager.told()[-1] == extended
    now += LONGEST_STEP_S  # a compiler that hangs only lets time pass
    manager.forget()
    news(ProgressEvent("compile", "compiling: 3900 s so far", 0.99, 90.0))
    assert manager.told("EXTEND_TIMEOUT_USEC") == []
    news(ProgressEvent("warm_up", "warming up"))
    assert manager.told("EXTEND_TIMEOUT_USEC") == [extended]


@asynccontextmanager
async def service(manager: ServiceManager, load: Any, **tables: Any) -> AsyncIterator[App]:
    """A daemon of this service manager."""
    app = App(configured(**tables), load, notifier=manager.notifier)
    stop = asyncio.Event()
    running = asyncio.create_task(app.run(stop), name="daemon")
    try:
        yield app
    finally:
        stop.set()
        await running


async def test_ready_is_told_when_the_model_is_there_and_not_before(manager: ServiceManager) -> None:
    go_on = threading.Event()

    def load(progress: Progress) -> Engine:
        progress(ProgressEvent("compile", "compiling the decoder", 0.4, 90.0))
        assert go_on.wait(30)
        return scripted_engine(TURN_ON)

    async with service(manager, load):
        await manager.until("STATUS=compiling the decoder 40% (takes about 90 s)")
        assert manager.told("EXTEND_TIMEOUT_USEC")
        assert manager.told("READY", "WATCHDOG") == []
        go_on.set()
        await manager.until("READY=1", "WATCHDOG=1", "STATUS=0 streams, 0 listeners")
    assert manager.told("READY", "STOPPING") == ["READY=1", "STOPPING=1"]


async def test_a_model_that_cannot_be_had_is_never_ready(manager: ServiceManager) -> None:
    def load(progress: Progress) -> Engine:
        raise ModelError("the model is broken.")

    app = App(configured(), load, notifier=manager.notifier)
    with pytest.raises(ModelError):
        await app.run(asyncio.Event())
    assert manager.told("READY") == []


async def test_a_source_that_does_not_run_is_told_and_no_obstacle(
    manager: ServiceManager, tmp_path: Path
) -> None:
    source = [{"name": "lobby", "path": str(tmp_path / "nothing.wav")}]
    async with service(manager, lambda progress: scripted_engine(()), source=source) as app:
        await manager.until("READY=1")
        while "Source lobby does not run" not in manager.status:  # noqa: ASYNC110 (outside)
            await asyncio.sleep(0.1)
        assert app.readiness.reasons()


async def test_the_status_follows_streams_and_listeners(manager: ServiceManager) -> None:
    async with (
        house(TURN_ON, notifier=manager.notifier) as home,
        home.viewer(),
        home.speaker("stream=hall") as speaker,
    ):
        await manager.until("STATUS=1 stream, 2 listeners")
        await speaker.speak(audio_of(TURN_ON)[:16_000])
        home.stop.set()
        await speaker.closed()
    assert manager.told("STATUS", "STOPPING")[-2:] == [
        "STOPPING=1",
        "STATUS=stopping: finishing 1 stream",
    ]


async def test_a_device_that_hangs_gives_no_sign_of_life(manager: ServiceManager) -> None:
    hangs = asyncio.Event()
    answers = asyncio.Event()

    async def on_probe() -> None:
        if hangs.is_set():
            await answers.wait()

    async with house(TURN_ON, notifier=manager.notifier, on_probe=on_probe) as home:
        await manager.until("READY=1")
        manager.forget()
        await asyncio.sleep(300)
        assert len(manager.told("WATCHDOG")) >= 300 / 30 * 2, "idle, it is asked, and it answers"
        hangs.set()
        while (await home.get("/readyz")).status == 200:  # noqa: ASYNC110 (it is asked from outside)
            await asyncio.sleep(1)
        (reason,) = (await home.get("/readyz")).json()["reasons"]
        assert "has not answered for" in reason
        manager.forget()
        await asyncio.sleep(300)
        assert manager.told("WATCHDOG") == []
        assert "has not answered for" in manager.status
        answers.set()
        hangs.clear()
        await home.ready()
        await manager.until("WATCHDOG=1")


async def test_a_device_that_hangs_while_it_works_gives_no_sign_of_life(manager: ServiceManager) -> None:
    config = configured(limits={"drain_ms": 1_000})
    async with (
        house(TURN_ON, notifier=manager.notifier, decode_s=1e6, config=config) as home,
        home.speaker() as speaker,
    ):
        await speaker.speak(audio_of(TURN_ON))
        while (await home.get("/readyz")).status == 200:  # noqa: ASYNC110 (it is asked from outside)
            await asyncio.sleep(1)
        manager.forget()
        await asyncio.sleep(300)
        assert manager.told("WATCHDOG") == []


async def test_batches_that_are_long_but_end_are_life(manager: ServiceManager) -> None:
    """Each takes longer than the watchdog waits; the device is never idle, and never hung."""
    script = say(" ".join(f"word{number}" for number in range(300)))
    async with (
        house(script, notifier=manager.notifier, decode_s=100.0) as home,
        home.speaker() as speaker,
    ):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(600):
                await speaker.speak(audio_of(script), pace=0.1)
        assert len(manager.told("WATCHDOG")) >= 600 / (30 / 3) - 5, "without a pause"
        assert (await home.get("/readyz")).status == 200
        home.stop.set()
        await speaker.closed()
