"""``[files]`` in a running daemon: what is said is written, and a disk that refuses harms nobody."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from captiond.files import outbox
from captiond.files.outbox import FactBox

from tests.daemon.house import FINAL, House, audio_of, configured, house
from tests.daemon.renewed import renewed
from tests.daemon.small_disk import small_disk
from tests.daemon.subtitle_files import read_srt, read_vtt
from tests.sim.scripted import say

RATE_HZ = 16_000
TWICE = (*say("turn on the lights"), *say("what is the time", at=4 * RATE_HZ))
SAID = ["turn on the lights", "what is the time"]


def files_in(folder: Path, **settings: Any) -> Any:
    return configured(files={"folder": str(folder), "formats": ["jsonl", "srt", "vtt", "txt"], **settings})


def written(folder: Path, form: str, stream: str = "*") -> str:
    """All files of one format, one after another."""
    return "".join(path.read_text() for path in sorted(folder.glob(f"*_{stream}.{form}")))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(folder, "jsonl").splitlines()]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 (what is waited for is a thread's)
        await asyncio.sleep(0.01)


async def degraded(home: House) -> list[str]:
    answer = await home.get("/readyz")
    assert answer.status == 200, "captions are served, so the daemon is ready"
    return list(answer.json().get("degraded", []))


async def test_finals_of_every_stream_are_in_files_of_their_own(tmp_path: Path) -> None:
    async with house({0: TWICE, 1: say("hello")}, config=files_in(tmp_path)) as home:
        async with (
            home.speaker("stream=hall&words=1") as hall,
            home.speaker("stream=porch&events=none") as porch,
        ):
            await hall.speak(audio_of(TWICE))
            await porch.speak(audio_of(say("hello")))
            for speaker in (hall, porch):
                await speaker.say(type="end")
                await speaker.closed()
            epoch = hall.events[0]["epoch"]
        await until(lambda: len(records(tmp_path)) == 3)
    told = [record for record in records(tmp_path) if record["stream"] == "hall"]
    for record, event in zip(told, hall.all(FINAL), strict=True):
        assert record.pop("epoch") == epoch
        assert record.pop("at").endswith("Z")
        event.pop("words")
        assert record == event
    hall_srt = read_srt(written(tmp_path, "srt", stream="hall"))
    assert [" ".join(cue.lines) for cue in hall_srt] == SAID
    assert [cue.start_ms for cue in hall_srt] == [event["start_ms"] for event in hall.all(FINAL)]
    assert written(tmp_path, "txt", stream="porch") == "hello\n"


async def test_only_the_streams_that_are_named_are_written(tmp_path: Path) -> None:
    async with house({0: TWICE, 1: say("hello")}, config=files_in(tmp_path, streams=["porch"])) as home:
        for stream in ("hall", "porch"):
            async with home.speaker(f"stream={stream}") as speaker:
                await speaker.speak(audio_of(TWICE), pace=None)
                await speaker.say(type="end")
                await speaker.closed()
    assert {record["stream"] for record in records(tmp_path)} == {"porch"}


async def test_a_stop_in_the_middle_of_speech_writes_the_last_words(tmp_path: Path) -> None:
    async with house(TWICE, config=files_in(tmp_path)) as home, home.speaker("stream=hall") as speaker:
        await speaker.speak(audio_of(TWICE)[: 2 * RATE_HZ])
        home.stop.set()
        await home.running
    assert written(tmp_path, "txt") == "turn on the\n"
    assert read_vtt(written(tmp_path, "vtt"))[0].lines == ("turn on the",)


async def test_a_stop_while_the_disk_is_slow_writes_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, write, finish = threading.Event(), os.write, FactBox.finish

    def slow_write(descriptor: int, data: bytes) -> int:
        assert go_on.wait(60)
        return write(descriptor, data)

    def finish_and_go_on(box: FactBox, code: int, reason: str = "") -> None:
        finish(box, code, reason)
        go_on.set()

    monkeypatch.setattr("captiond.files.log_file.os.write", slow_write)
    monkeypatch.setattr(FactBox, "finish", finish_and_go_on)
    async with house(TWICE, config=files_in(tmp_path)) as home, home.speaker("stream=hall") as speaker:
        await speaker.speak(audio_of(TWICE), pace=None)
        await speaker.until(FINAL, 2)
        home.stop.set()
        await home.running
    assert written(tmp_path, "txt").splitlines() == SAID


async def test_another_folder_while_somebody_speaks_loses_no_caption(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    async with (
        renewed(tmp_path, files_in(before), TWICE) as told,
        told.home.speaker("stream=hall") as speaker,
    ):
        await speaker.speak(audio_of(TWICE)[: 3 * RATE_HZ])
        await speaker.until(FINAL)
        await told.reload(files_in(after))
        await speaker.speak(audio_of(TWICE)[3 * RATE_HZ :])
        start_ms = (await speaker.until(FINAL, 2))["start_ms"]
    assert [written(folder, "txt") for folder in (before, after)] == [f"{text}\n" for text in SAID]
    assert read_srt(written(after, "srt"))[0].start_ms == start_ms, "time 0 is still the stream's"


async def test_a_disk_that_is_full_from_the_start_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "log"
    folder.write_text("in the way")
    async with house(TWICE, config=files_in(folder)) as home:
        await until(lambda: bool(caplog.records))
        assert "Not a directory" in (await degraded(home))[0]
        folder.unlink()
        async with home.speaker("stream=hall") as speaker:
            await speaker.speak(audio_of(TWICE))
            await speaker.until(FINAL, 2)
        await until(lambda: "finals were lost" in caplog.text)
        assert await degraded(home) == []
    assert written(folder, "txt").splitlines() == SAID
    assert sum("Not a directory" in record.getMessage() for record in caplog.records) == 1


class FullDisk:
    """``os.write`` that has no room, until it is cleared away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.tries = 0
        self._write = os.write
        monkeypatch.setattr("captiond.files.log_file.os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.full:
            self.tries += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, data)


async def test_captions_go_on_while_the_disk_is_full_and_what_waited_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        async with house(TWICE, config=files_in(disk.folder)) as home, home.viewer("stream=hall") as viewer:
            disk.fill()
            async with home.speaker("stream=hall") as speaker:
                await speaker.speak(audio_of(TWICE)[: 3 * RATE_HZ])
                await speaker.until(FINAL)
                await until(lambda: bool(caplog.records))
                assert "No space left on device" in (await degraded(home))[0]
                disk.free()
                await speaker.speak(audio_of(TWICE)[3 * RATE_HZ :])
                await viewer.until(FINAL, 2)
            await until(lambda: "finals were lost" in caplog.text)
            assert await degraded(home) == []
            assert "captiond_files_lines_lost_total 0" in (await home.get("/metrics")).body.decode()
        assert viewer.texts() == SAID == written(disk.folder, "txt").splitlines()
        assert [" ".join(cue.lines) for cue in read_srt(written(disk.folder, "srt"))] == SAID


async def test_what_no_longer_fits_is_counted_told_in_the_log_and_marked_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "LIMIT_FACTS", 2)
    script = tuple(word for k in range(6) for word in say(f"number{k}", at=(1 + 2 * k) * RATE_HZ))
    disk = FullDisk(monkeypatch)
    async with house(script, config=files_in(tmp_path)) as home:
        async with home.speaker("stream=hall") as speaker:
            await speaker.speak(audio_of(script))
            await speaker.until(FINAL, 6)
            assert disk.tries > 0
            disk.full = False
            await until(lambda: "finals were lost" in caplog.text)
            await speaker.say(type="end")
            await speaker.closed()
        metrics = (await home.get("/metrics")).body.decode()
    assert "captiond_files_lines_lost_total 16.0" in metrics, "four finals in four formats"
    assert "again; 4 finals were lost" in caplog.text
    gap, *rest = records(tmp_path)
    assert (gap["type"], gap["stream"], gap["lost_finals"], gap["lost_lines"]) == ("log.gap", "hall", 4, 4)
    assert [record["text"] for record in rest] == ["number4", "number5"]
    assert [cue.lines for cue in read_srt(written(tmp_path, "srt"))] == [("number4",), ("number5",)]


async def test_at_the_stop_what_a_full_disk_does_not_take_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FullDisk(monkeypatch)
    async with house(TWICE, config=files_in(tmp_path)) as home, home.speaker("stream=hall") as speaker:
        await speaker.speak(audio_of(TWICE))
        await speaker.until(FINAL, 2)
        home.stop.set()
        assert await speaker.closed() == 1001
        await home.running
    assert "2 finals were not written" in caplog.text
    assert os.listdir(tmp_path) == []  # noqa: PTH208 (pathlib's would block)
