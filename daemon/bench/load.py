"""A storm of strangers against a real daemon, while one client speaks: what it costs that client, and memory.

Takes a model, a rate and a length; starts a daemon of its own and speaks the bundled sample at the pace of
speech, once in peace and once in the storm, which comes from a process of its own. Prints one JSON line
(standard output). Memory is the daemon's process alone.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import captiond_clients
import click

from daemon.bench.clips import SAMPLE_RATE_HZ, Clip, read_audio
from daemon.bench.daemon_process import running_daemon
from daemon.bench.feeding import Pace, Recording, feed
from daemon.bench.report import provenance

SAMPLE = Path(captiond_clients.__file__).parent / "samples" / "demo.flac"
ROOT = Path(__file__).resolve().parents[2]
QUIET_S = 3.0  # of speech before the storm begins
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
PATIENCE_S = 5.0
STALL = "captiond_event_loop_longest_stall_seconds"  # since the start
Figures = dict[str, Any]


@click.command()
@click.option("--model", default="demo-en", show_default=True)
@click.option("--rate", default=1_000, show_default=True, help="New connections a second.")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--path", default="/v1/speak", show_default=True, help="What they ask for.")
@click.option("--half-open", is_flag=True, help="They never end their request, and wait to be cut off.")
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE")
@click.option("--storm", "address", hidden=True, help="Be the storm against this address.")
def main(
    model: str,
    rate: int,
    seconds: float,
    path: str,
    half_open: bool,
    settings: tuple[str, ...],
    address: str | None,
) -> None:
    """Storm a daemon that is spoken to."""
    if address is not None:
        figures = asyncio.run(storm(address, rate, seconds, path, half_open=half_open))
    else:
        words = ["--rate", str(rate), "--seconds", str(seconds), "--path", path]
        words += ["--half-open"] if half_open else []
        figures = asyncio.run(measure(model, settings, words))
    print(json.dumps(figures))


async def measure(model: str, settings: Sequence[str], storm_words: Sequence[str]) -> Figures:
    """The sample in peace, then in the storm."""
    before = children()
    async with running_daemon(model, settings) as url:
        (pid,) = children() - before
        calm = await speak(url)
        quiet = await asyncio.to_thread(scrape, url)
        resident = [resident_mib(pid)]
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(speak(url), name="speaking")
            await asyncio.sleep(QUIET_S)
            storming = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "daemon.bench.load", "--storm", url, *storm_words),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            watching = tasks.create_task(watch(pid, resident), name="watching memory")
            told, _ = await storming.communicate()
            watching.cancel()
            stormy = await speaking
        # Those that it was too busy to refuse have gone by now.
        await asyncio.sleep(PATIENCE_S)
        metrics = await asyncio.to_thread(scrape, url)
        after = resident_mib(pid)
    return {
        "bench": "load",
        **provenance(ROOT),
        "model": model,
        "settings": list(settings),
        "storm": json.loads(told),
        "resident_mib": {"before": resident[0], "most": max(resident), "after": after},
        "longest_stall_s": {"calm": quiet.get(STALL), "storm": metrics.get(STALL)},
        "connections_after": metrics.get("captiond_connections"),
        "refused": {name: value for name, value in metrics.items() if "requests_refused" in name and value},
        "same_finals": texts(calm) == texts(stormy),
        "finals": len(texts(stormy)),
        "final_after_endpoint_ms": {"calm": latencies(calm), "storm": latencies(stormy)},
    }


async def speak(url: str) -> Recording:
    """The sample at the pace of speech."""
    pcm = read_audio(SAMPLE)
    seconds = len(pcm) / SAMPLE_RATE_HZ
    clip = Clip("sample", "", "", SAMPLE, seconds, "", (), "none", "unknown", voices=True, cuts=())
    return await feed(url, clip, pcm, Pace())


def texts(recording: Recording) -> list[str]:
    finals = [told.event for told in recording.received if told.event["type"] == "transcript.final"]
    return [str(final["text"]) for final in finals]


def latencies(recording: Recording) -> Figures:
    values = [
        told.event["timings"]["endpoint_to_final_ms"]
        for told in recording.received
        if told.event["type"] == "transcript.final"
    ]
    return {"median": median(values), "most": max(values), "n": len(values)}


# --- the storm ------------------------------------------------------------------------------------------


async def storm(url: str, rate: int, seconds: float, path: str, *, half_open: bool) -> Figures:
    """Connections at ``rate`` for ``seconds``; what each of them was answered, by status or fault."""
    netloc = urlsplit(url).netloc
    request = UPGRADE.format(path=path, host=netloc) + ("" if half_open else "\r\n")
    loop = asyncio.get_running_loop()
    answers: Counter[str] = Counter()
    waits: list[float] = []

    async def ask() -> None:
        began = loop.time()
        answers[await answer_to(netloc, request.encode(), seconds if half_open else PATIENCE_S)] += 1
        waits.append(loop.time() - began)

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            late_s = began + number / rate - loop.time()
            if late_s > 0:
                await asyncio.sleep(late_s)
            tasks.create_task(ask(), name=f"stranger {number}")
        asked_in_s = loop.time() - began
    return {
        "connections": int(rate * seconds),
        "rate": round(rate * seconds / asked_in_s),
        "answers": dict(answers),
        "median_wait_ms": round(median(waits) * 1000),
    }


async def answer_to(netloc: str, request: bytes, patience_s: float) -> str:
    host, _, port = netloc.rpartition(":")
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    try:
        writer.write(request)
        async with asyncio.timeout(patience_s):
            line = await reader.readline()
        return line.split()[1].decode() if line else "closed"
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    finally:
        writer.transport.abort()


# --- the daemon's process -------------------------------------------------------------------------------


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else 0.0


async def watch(pid: int, resident: list[float]) -> None:
    while True:
        resident.append(resident_mib(pid))
        await asyncio.sleep(0.1)


def scrape(url: str) -> dict[str, float]:
    """The daemon's own samples; asked again while it has no place for us."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_S) as answer:
                lines = answer.read().decode().splitlines()
                break
        except urllib.error.HTTPError as error:
            threading.Event().wait(float(error.headers.get("Retry-After", 1)))
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("captiond_"))
    return {name: float(value) for name, value in pairs}


if __name__ == "__main__":
    main()
