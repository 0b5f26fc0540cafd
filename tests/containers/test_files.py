"""Files of any format for ``transcribe`` and ``kind = "file"``: by blocks, and told when they break off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from captiond import wire
from captiond.audio import open_audio
from captiond.containers import media
from captiond.transcribe.run import transcribe
from captiond_engine.errors import AudioError

from tests.containers.recordings import M4A, WEBM, Kind, record, write
from tests.daemon.house import FINAL, audio_of, configured, house, scripted_engine
from tests.sim.scripted import say

SCRIPT = say("turn on") + say("the lights", at=48_000)
WORDS = ["turn on", "the lights"]
PCM = audio_of(SCRIPT)


async def events_of(path: Path) -> tuple[list[dict[str, Any]], AudioError | None]:
    events: list[dict[str, Any]] = []

    def tell(event: wire.Event) -> None:
        events.append(json.loads(wire.encode(event)))

    try:
        async with open_audio(path) as audio:
            await transcribe("clip", audio.blocks, configured(), scripted_engine(SCRIPT), tell)
    except AudioError as error:
        return events, error
    return events, None


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["type"] == FINAL]


@pytest.mark.parametrize("kind", [M4A, WEBM, Kind("mpegts", "aac")], ids=lambda kind: kind.id)
async def test_a_file_is_transcribed_whatever_its_format(kind: Kind, tmp_path: Path) -> None:
    path = write(tmp_path / "clip", PCM, kind)
    events, error = await events_of(path)
    assert error is None
    assert texts(events) == WORDS


async def test_a_file_source_plays_any_format_again_and_again(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.m4a", PCM[:32_000], M4A)
    script = (*say("turn on"), *say("turn on", at=48_000))
    source = {"name": "lobby", "path": str(path), "pace": "fast", "repeat": True}
    async with house(script, config=configured(source=[source])) as home:
        await home.ready()
        async with home.viewer("stream=lobby&history=9") as viewer:
            await viewer.until(FINAL, 2)
            assert viewer.texts()[:2] == ["turn on"] * 2


@pytest.mark.parametrize("kind", [M4A, Kind("flac", "flac", 44_100)], ids=lambda kind: kind.id)
async def test_no_more_than_a_block_of_a_long_file_is_held(kind: Kind, tmp_path: Path) -> None:
    path = write(tmp_path / "clip", np.tile(PCM, 30), kind)
    async with open_audio(path) as audio:
        lengths = [len(block) async for block in audio.blocks]
    assert sum(lengths) == pytest.approx(30 * len(PCM), abs=800)
    assert max(lengths) <= 32_768  # two seconds
    assert len(lengths) > 5


async def test_a_file_that_breaks_off_gives_what_it_has_and_then_its_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    soundfile.write(path, PCM, 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    events, error = await events_of(path)
    assert texts(events)[:1] == WORDS[:1]
    assert events[-1]["type"] == "stream.closed"
    assert f"{path}: cannot be read to its end" in str(error)


async def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    data = record(PCM, Kind("mpegts", "aac"))
    (tmp_path / "clip.ts").write_bytes(data[: len(data) * 3 // 4])
    events, _ = await events_of(tmp_path / "clip.ts")
    assert texts(events)[0] == WORDS[0]


async def test_what_is_no_audio_is_told_before_anything(tmp_path: Path) -> None:
    (tmp_path / "text.m4a").write_text("this is no audio")
    (tmp_path / "empty.m4a").write_bytes(b"")
    for name, word in (("text.m4a", "no audio"), ("empty.m4a", "no audio"), ("gone.m4a", "no such file")):
        events, error = await events_of(tmp_path / name)
        assert events == []
        assert word in str(error)
        assert name in str(error)


async def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "clip.m4a", PCM, M4A)
    monkeypatch.setattr(media, "installed", lambda: False)
    events, error = await events_of(path)
    assert events == []
    assert "pip install 'captiond[av]'" in str(error)


def test_a_file_may_be_read_from_no_loop_and_from_many(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.m4a", PCM, M4A)

    async def twice() -> list[int]:
        async def one() -> int:
            async with open_audio(path) as audio:
                return sum([len(block) async for block in audio.blocks])

        return list(await asyncio.gather(one(), one()))

    lengths = asyncio.run(twice())
    assert lengths[0] == lengths[1] == pytest.approx(len(PCM), abs=800)
