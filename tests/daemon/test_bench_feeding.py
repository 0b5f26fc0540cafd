"""The bench's feeder and report against a small server that speaks the wire's contract."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from websockets.asyncio.server import ServerConnection, serve

from daemon.bench import clips
from daemon.bench.feeding import FeedingError, Pace, Recording, feed, feed_all
from daemon.bench.report import group_figures
from daemon.bench.table import print_figures

SECONDS = 0.3


@dataclass
class FakeDaemon:
    """Says ``hello``, then of every stream that someone said "one two"; closes well unless told not to."""

    closes: bool = True
    url: str = ""
    heard: list[bytes] = field(default_factory=list)
    frame_sizes: set[int] = field(default_factory=set)

    async def converse(self, socket: ServerConnection) -> None:
        hello = {"type": "hello", "server": "fake", "epoch": "e", "seq": 0, "model": "scripted"}
        await socket.send(json.dumps(hello))
        audio = b""
        async for message in socket:
            if isinstance(message, str):
                break
            audio += message
            self.frame_sizes.add(len(message))
        self.heard.append(audio)
        events: list[dict[str, object]] = [
            {"type": "speech.started", "segment": 0, "at_ms": 0},
            {"type": "transcript.partial", "segment": 0, "committed": "", "tentative": "One"},
            {"type": "speech.ended", "segment": 0, "at_ms": 300, "reason": "end"},
            {"type": "transcript.final", "segment": 0, "text": "One two.", "start_ms": 0, "end_ms": 300},
        ]
        if self.closes:
            events.append({"type": "stream.closed", "reason": "end"})
        for event in events:
            await socket.send(json.dumps({"v": 1, "stream": "s", **event}))


@asynccontextmanager
async def running(daemon: FakeDaemon) -> AsyncIterator[FakeDaemon]:
    async with serve(daemon.converse, "127.0.0.1", 0, compression=None) as server:
        daemon.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield daemon


@pytest.fixture
def speech(tmp_path: Path) -> list[clips.Clip]:
    """Two short clips of a tone that the manifest calls "one two"."""
    time = np.arange(round(SECONDS * clips.SAMPLE_RATE_HZ)) / clips.SAMPLE_RATE_HZ
    rows = []
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * np.sin(2 * np.pi * 220 * time), clips.SAMPLE_RATE_HZ)
        row = {"id": name, "path": f"{name}.wav", "seconds": SECONDS, "text": "one two"}
        rows.append(row | {"speech_start": 0.0, "speech_end": SECONDS})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return clips.read_manifest(tmp_path / "manifest.jsonl")


async def test_every_sample_is_sent_in_frames_and_then_the_tail(speech: list[clips.Clip]) -> None:
    pcm = clips.read_audio(speech[0].path)
    async with running(FakeDaemon()) as daemon:
        recording = await feed(daemon.url, speech[0], pcm, Pace(frame_ms=20, tail_s=0.05))
    heard = np.frombuffer(daemon.heard[0], "<i2")
    assert len(heard) == len(pcm) + round(0.05 * clips.SAMPLE_RATE_HZ)
    assert np.array_equal(heard[: len(pcm)], (pcm * 32767).round().astype("<i2"))
    assert not heard[len(pcm) :].any()
    assert daemon.frame_sizes == {640, 320}
    assert recording.model == "scripted"
    assert [item.event["type"] for item in recording.received][-1] == "stream.closed"


async def test_receipts_count_from_the_first_sample(speech: list[clips.Clip]) -> None:
    """The fake answers when all audio has come, so nothing can be received before the clip has passed."""
    async with running(FakeDaemon()) as daemon:
        recording = await feed(daemon.url, speech[0], clips.read_audio(speech[0].path), Pace(tail_s=0.0))
    assert min(item.at for item in recording.received) >= SECONDS - 0.001  # the clock is a float


async def test_a_stream_that_is_not_closed_as_agreed_is_an_error(speech: list[clips.Clip]) -> None:
    async with running(FakeDaemon(closes=False)) as daemon:
        with pytest.raises(ExceptionGroup) as raised:
            await feed(daemon.url, speech[0], clips.read_audio(speech[0].path), Pace(tail_s=0.0))
    assert raised.group_contains(FeedingError, match=r"a: the socket closed \(1000\) without stream.closed")


async def test_streams_in_parallel_give_the_same_words_and_a_table(speech: list[clips.Clip]) -> None:
    told: list[Recording] = []
    async with running(FakeDaemon()) as daemon:
        recordings = await feed_all(daemon.url, speech, Pace(tail_s=0.0, parallel=2), told.append)
    assert {recording.clip.id for recording in recordings} == {"a", "b"}
    assert len(told) == 2
    figures = group_figures(recordings, {clip.path: "one two" for clip in speech})
    (group,) = figures.values()
    assert group["wer"]["all"]["delta"] == 0.0
    console = Console(record=True, width=120, file=io.StringIO())
    print_figures(console, figures)
    shown = console.export_text()
    assert "compute finalization" in shown
    assert "cut early" in shown
