"""Sources and sinks of a daemon whose configuration is read anew: nobody loses a final."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import soundfile
from captiond import wire
from captiond.config import Config
from captiond.context import Context
from captiond.health import Health
from captiond.mailbox import Published
from captiond.parts import FIRST_WORD_S
from captiond.sinks import SINKS

from tests.daemon.house import FINAL, audio_of, configured
from tests.daemon.renewed import renewed
from tests.sim.scripted import say

TURN_ON = say("turn on the lights")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.flac"
    soundfile.write(path, audio_of(TURN_ON, after_s=20.0), 16_000)
    return path


def sources(*entries: dict[str, Any], **tables: Any) -> Config:
    return configured(source=entries, **tables)


async def test_sources_come_and_go_and_the_others_do_not_notice(clip: Path, tmp_path: Path) -> None:
    kept = {"name": "kept", "path": str(clip)}
    gone = {"name": "gone", "path": str(clip)}
    added = {"name": "added", "path": str(clip)}
    async with renewed(tmp_path, sources(kept, gone), TURN_ON) as told:
        async with told.home.viewer() as viewer:
            await asyncio.sleep(2.0)  # in the middle of what is said
            await told.reload(sources(kept, added))
            closed = [event["stream"] for event in viewer.all("stream.closed")]
            assert closed == ["gone"]
            final = next(event for event in viewer.all(FINAL) if event["stream"] == "gone")
            assert "turn on the lights".startswith(final["text"])
            assert final["text"]
            await asyncio.sleep(5.0)
            finals = {event["stream"]: event["text"] for event in viewer.all(FINAL)}
            assert finals["kept"] == finals["added"] == "turn on the lights"
            assert [event["stream"] for event in viewer.all("stream.opened")] == ["added"]
        assert (await told.state())["status"] == 200


async def test_a_source_that_is_changed_begins_again_under_its_name(clip: Path, tmp_path: Path) -> None:
    async with (
        renewed(tmp_path, sources({"name": "lobby", "path": str(clip)}), TURN_ON) as told,
        told.home.viewer("stream=lobby&history=0") as viewer,
    ):
        await asyncio.sleep(1.0)
        await told.reload(sources({"name": "lobby", "path": str(clip), "prompt": "lights"}))
        await viewer.until("stream.closed")
        await viewer.until("stream.opened")
        await asyncio.sleep(5.0)
        assert viewer.texts()[-1] == "turn on the lights"
        assert [e["seq"] for e in viewer.events[1:]] == sorted(e["seq"] for e in viewer.events[1:])


async def test_a_source_that_had_failed_is_tried_again(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.flac"
    config = sources({"name": "lobby", "path": str(path)})
    async with renewed(tmp_path, config, TURN_ON) as told:
        assert "lobby" in str((await told.state())["reasons"])
        await asyncio.to_thread(shutil.copy, clip, path)
        await told.reload(config)
        assert (await told.state())["status"] == 200


async def test_a_client_keeps_its_stream_though_a_source_of_that_name_goes(
    clip: Path, tmp_path: Path
) -> None:
    async with (
        renewed(tmp_path, configured(), TURN_ON) as told,
        told.home.speaker("stream=lobby") as speaker,
    ):
        await speaker.until("stream.opened")
        await told.reload(sources({"name": "lobby", "path": str(clip)}))
        assert "lobby" in str((await told.state())["reasons"])
        await told.reload(configured())
        await speaker.speak(audio_of(TURN_ON))
        assert (await speaker.until(FINAL))["text"] == "turn on the lights"
        assert (await told.state())["status"] == 200


# --- sinks ----------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One run of the scripted sink: the finals that it delivered, with the configuration that it had."""

    formats: tuple[str, ...]
    finals: list[str] = field(default_factory=list)
    over: bool = False


@dataclass
class ScriptedSink:
    """Takes ``slow_s`` to begin, for each final, and to end."""

    slow_s: float = 0.0
    runs: list[Run] = field(default_factory=list)
    hangs: bool = False

    async def run(self, context: Context, health: Health) -> None:
        run = Run(context.config.files.formats)
        self.runs.append(run)
        box = ScriptedBox()
        context.hub.attach(box, "files")
        try:
            health.ok()
            await asyncio.sleep(self.slow_s)
            while (final := await box.take()) is not None:
                await asyncio.sleep(self.slow_s)
                if self.hangs:
                    await asyncio.Event().wait()
                run.finals.append(final)
        finally:
            context.hub.detach(box)
            run.over = True

    def delivered(self) -> list[str]:
        return [text for run in self.runs for text in run.finals]


class ScriptedBox:
    """Gives all that was put, even after its end."""

    def __init__(self) -> None:
        self._finals: list[str] = []
        self._finished = False
        self._news = asyncio.Event()

    def put(self, message: Published) -> None:
        if isinstance(message.event, wire.Final):
            self._finals.append(message.event.text)
            self._news.set()

    def finish(self, code: int, reason: str = "") -> None:
        self._finished = True
        self._news.set()

    async def take(self) -> str | None:
        while not self._finals and not self._finished:
            self._news.clear()
            await self._news.wait()
        return self._finals.pop(0) if self._finals else None


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> ScriptedSink:
    scripted = ScriptedSink()
    monkeypatch.setitem(SINKS, "files", (lambda config: bool(config.files.folder), scripted.run))
    return scripted


def written_as(*formats: str) -> Config:
    return configured(files={"folder": "x", "formats": list(formats)})


MANY = tuple(word for number in range(12) for word in say(f"sentence {number}", at=16_000 + number * 24_000))
SAID = [f"sentence {number}" for number in range(12)]


@pytest.mark.parametrize("slow_s", [0.0, 0.4, 1.5])
async def test_a_sink_that_is_started_anew_again_and_again_loses_and_repeats_nothing(
    tmp_path: Path, sink: ScriptedSink, slow_s: float
) -> None:
    sink.slow_s = slow_s
    async with renewed(tmp_path, written_as("srt"), MANY) as told, told.home.speaker() as speaker:

        async def keep_changing() -> None:
            for formats in (("vtt",), ("jsonl",), ("txt",), ("srt", "vtt")):
                await told.reload(written_as(*formats))
                await asyncio.sleep(1.3)

        changing = asyncio.create_task(keep_changing())
        await speaker.speak(audio_of(MANY))
        await changing
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.texts() == SAID
    assert sink.delivered() == SAID
    assert [run.formats for run in sink.runs] == [("srt",), ("vtt",), ("jsonl",), ("txt",), ("srt", "vtt")]
    assert all(run.over for run in sink.runs)


async def test_a_stop_in_the_middle_of_a_reload_loses_nothing(tmp_path: Path, sink: ScriptedSink) -> None:
    sink.slow_s = 1.0
    async with renewed(tmp_path, written_as("srt"), MANY) as told, told.home.speaker() as speaker:
        await speaker.speak(audio_of(MANY)[: 5 * 24_000], pace=4.0)
        told.wanted[0] = written_as("vtt")
        told.home.app.reload()
        await told.manager.until("RELOADING=1")
        told.home.stop.set()
        assert await speaker.closed() == 1001
        await told.home.running
        assert told.manager.told("READY", "RELOADING", "STOPPING") == [
            *("READY=1", "RELOADING=1", "STOPPING=1")
        ]
    assert sink.delivered() == speaker.texts()
    assert len(sink.delivered()) >= 4


async def test_finals_of_a_stop_reach_the_sinks_before_the_end(tmp_path: Path, sink: ScriptedSink) -> None:
    sink.slow_s = 1.0
    async with renewed(tmp_path, written_as("srt"), TURN_ON) as told, told.home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON)[: 2 * 16_000])
        told.home.stop.set()
        await told.home.running
    assert sink.delivered() == ["turn on the"]
    assert sink.runs[0].over


async def test_a_sink_that_hangs_holds_neither_reload_nor_stop(tmp_path: Path, sink: ScriptedSink) -> None:
    sink.hangs = True
    loop = asyncio.get_running_loop()
    async with renewed(tmp_path, written_as("srt"), TURN_ON) as told, told.home.speaker() as speaker:
        await speaker.speak(audio_of(TURN_ON))
        await speaker.until(FINAL)
        began = loop.time()
        await told.reload(written_as("vtt"))
        assert loop.time() - began < 20
        assert [run.over for run in sink.runs] == [True, False]
        await speaker.speak(audio_of(TURN_ON))
        began = loop.time()
        told.home.stop.set()
        await told.home.running
        assert loop.time() - began <= 10.5


async def test_a_sink_that_is_no_longer_wanted_ends_and_one_that_is_begins(
    tmp_path: Path, sink: ScriptedSink
) -> None:
    async with renewed(tmp_path, configured(), MANY) as told, told.home.speaker() as speaker:
        await speaker.speak(audio_of(MANY)[: 3 * 24_000])
        assert sink.runs == []
        await told.reload(written_as("srt"))
        await speaker.speak(audio_of(MANY)[3 * 24_000 : 6 * 24_000])
        await told.reload(configured())
        assert sink.runs[0].over
        await speaker.speak(audio_of(MANY)[6 * 24_000 :])
        await speaker.say(type="end")
        await speaker.closed()
    assert len(sink.runs) == 1
    first, last = SAID.index(sink.delivered()[0]), SAID.index(sink.delivered()[-1])
    assert sink.delivered() == SAID[first : last + 1]
    assert 0 < first < last < len(SAID) - 1


async def test_a_sink_that_works_says_so_and_nobody_waits_for_it(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()
    files = {"folder": str(tmp_path / "captions")}
    mqtt = {"host": "127.0.0.1", "port": 1}
    async with renewed(tmp_path, configured(files=files, mqtt=mqtt), TURN_ON) as told:
        assert asyncio.get_running_loop().time() - began < FIRST_WORD_S
        began = asyncio.get_running_loop().time()
        await told.reload(configured(files={**files, "formats": ["srt"]}, mqtt={**mqtt, "base": "b"}))
        assert asyncio.get_running_loop().time() - began < FIRST_WORD_S


def test_every_sink_attaches_under_the_name_of_its_table() -> None:
    """Or it would lose what comes while it is started anew."""
    folder = Path(__file__).parents[2] / "daemon" / "captiond" / "sinks"
    for name in SINKS:
        assert f'"{name}")' in (folder / f"{name}.py").read_text(encoding="utf-8")
