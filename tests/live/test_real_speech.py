"""The whole path with nothing scripted: a real daemon process, the bundled model, real audio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import captiond_clients
import jiwer
import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect
from whisper_normalizer.english import EnglishTextNormalizer

from daemon.bench.daemon_process import running_daemon
from tests.parity import clips, models

SAMPLE = Path(captiond_clients.__file__).parent / "samples"
Message = dict[str, Any]
Spoken = tuple[list[Message], list[Message]]


async def speak(url: str, pcm: bytes, *, sizes: Callable[[], int], realtime: bool = False) -> list[Message]:
    """Send 16-bit ``pcm`` in messages of ``sizes()`` bytes; every event of the stream."""
    address = url.replace("http", "ws", 1) + "/v1/speak?words=1&timings=1"
    async with connect(address, max_size=None) as socket, asyncio.TaskGroup() as group:

        async def send() -> None:
            at, began = 0, time.monotonic()
            while at < len(pcm):
                size = sizes()
                await socket.send(pcm[at : at + size])
                at += size
                if realtime:
                    await asyncio.sleep(max(0.0, began + at / 32_000 - time.monotonic()))
            await socket.send(json.dumps({"type": "end"}))

        group.create_task(send(), name="send")
        events = [json.loads(message) async for message in socket]
        assert socket.close_code == 1000
    return events


def finals(events: list[Message]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "transcript.final"]


@contextlib.asynccontextmanager
async def daemon() -> AsyncIterator[str]:
    models.bundled_model()  # compiled once, here, where the progress is seen
    async with running_daemon("demo-en") as url:
        yield url


@pytest.fixture(scope="module")
def spoken() -> Spoken:
    """The bundled sample in messages of a fifth of a second, and a recording of digits at real-time pace."""
    sample = soundfile.read(SAMPLE / "demo.flac", dtype="int16")[0].tobytes()
    digits = next(clip for clip in clips.bundled() if clip.id == "fsddstr-george-0")
    pcm = np.rint(np.append(digits.pcm, np.zeros(12_000)) * 32_767).astype("<i2").tobytes()

    async def both() -> Spoken:
        async with daemon() as url:
            whole = await speak(url, sample, sizes=lambda: 6_400)
            return whole, await speak(url, pcm, sizes=lambda: 640, realtime=True)

    return asyncio.run(both())


def test_the_sample_is_understood(spoken: Spoken) -> None:
    normal = EnglishTextNormalizer()
    reference = " ".join(row["text"] for row in json.loads((SAMPLE / "demo.json").read_text())["segments"])
    heard = " ".join(finals(spoken[0]))
    assert jiwer.wer(normal(reference), normal(heard)) <= 0.1
    assert len(finals(spoken[0])) == 11


def test_partials_lead_to_the_final_at_the_pace_of_speech(spoken: Spoken) -> None:
    events = spoken[1]
    assert finals(events) == ["Four seven six nine eight zero."]
    partials = [event for event in events if event["type"] == "transcript.partial"]
    assert len(partials) >= 4
    committed = [event["committed"] for event in partials] + finals(events)
    assert all(after.startswith(before) for before, after in itertools.pairwise(committed))
    assert committed[-2], "some words were committed before the final"
    assert [event["type"] for event in events][-1] == "stream.closed"


def test_words_and_numbers_of_events_are_in_order(spoken: Spoken) -> None:
    for events in spoken:
        numbers = [event["seq"] for event in events if event["type"] != "hello"]
        assert numbers == sorted(set(numbers))
        for event in events:
            times = [ms for word in event.get("words", ()) for ms in (word["start_ms"], word["end_ms"])]
            assert times == sorted(times)
            if event["type"] == "transcript.final":
                assert event["start_ms"] <= times[0] <= times[-1] <= event["end_ms"]
                assert " ".join(word["text"] for word in event["words"]) == event["text"]


def test_finals_do_not_depend_on_the_size_of_messages(spoken: Spoken) -> None:
    pcm = soundfile.read(SAMPLE / "demo.flac", dtype="int16")[0][: 16_000 * 12].tobytes()
    rng = np.random.default_rng(1)

    async def cut_otherwise() -> list[list[str]]:
        async with daemon() as url:
            ways: list[Callable[[], int]] = [lambda: 333, lambda: 65_536, lambda: int(rng.integers(1, 9_000))]
            return [finals(await speak(url, pcm, sizes=way)) for way in ways]

    ways = asyncio.run(cut_otherwise())
    assert ways[0] == ways[1] == ways[2]
    assert ways[0][:2] == finals(spoken[0])[:2]
