"""Every container and codec that is read, made by FFmpeg's own muxers: the sound comes out where it was."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest
from captiond.audio import open_audio
from captiond.containers.decoder import Decoder, Gap, Heard, Opened, Reached, decoding, file_of, stream_of
from captiond_engine.errors import AudioError
from captiond_engine.types import Float32Array

from tests.containers.recordings import KINDS, OGG, WEBM, Kind, record, with_pictures, write
from tests.sim.scripted import say, speech_audio

M4A_TALK = Kind("matroska", "aac", 48_000)
SILENCED = Kind("matroska", "tta", 44_100)  # a codec that nobody speaks in
SCRIPT = say("one two") + say("three", at=40_000)
PCM = speech_audio(SCRIPT, 56_000)
WITHIN = 800  # 50 ms
SHIFT = 5  # parts of 10 ms by which an encoder may move the sound without a word about it


async def everything(decoder: Decoder) -> list[Heard]:
    return [heard async for heard in decoder.heard()]


def sound(heard: list[Heard]) -> Float32Array:
    return np.concatenate(
        [np.zeros(0, np.float32), *(each for each in heard if isinstance(each, np.ndarray))]
    )


def loudness(pcm: Float32Array) -> Float32Array:
    """RMS of every 10 ms."""
    whole = pcm[: len(pcm) // 160 * 160].reshape(-1, 160)
    return np.sqrt((whole.astype(np.float64) ** 2).mean(axis=1)).astype(np.float32)


def assert_same_sound(pcm: Float32Array, reference: Float32Array, least: float = 0.65) -> None:
    assert abs(len(pcm) - len(reference)) <= WITHIN
    heard, said = loudness(pcm), loudness(reference)
    length = min(len(heard), len(said)) - 2 * SHIFT
    middle = said[SHIFT : SHIFT + length]
    alike = [np.corrcoef(heard[at : at + length], middle)[0, 1] for at in range(2 * SHIFT + 1)]
    assert max(alike) > 0.95
    assert least < heard.mean() / said.mean() < 1.4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
async def test_a_file_sounds_as_it_was_recorded(kind: Kind, tmp_path: Path) -> None:
    path = write(tmp_path / "clip", PCM, kind)
    async with file_of(path) as decoder:
        heard = await everything(decoder)
    assert isinstance(heard[0], Opened)
    assert heard[0].rate_hz == kind.rate_hz
    # In 5.1 a voice is in one channel of six.
    assert_same_sound(sound(heard), PCM, least=0.2 if kind.layout == "5.1" else 0.65)


@pytest.mark.parametrize("size", [1, 333, 100_000])
@pytest.mark.parametrize(("encoding", "kind"), [("webm", WEBM), ("opus", OGG)])
async def test_a_stream_sounds_the_same_however_its_bytes_are_cut(
    encoding: str, kind: Kind, size: int
) -> None:
    data = record(PCM[:24_000] if size == 1 else PCM, kind)
    async with decoding(stream_of(encoding)) as decoder, asyncio.TaskGroup() as tasks:

        async def feed() -> None:
            for at in range(0, len(data), size):
                await decoder.feed(data[at : at + size])
            await decoder.end()

        tasks.create_task(feed(), name="feeding")
        heard = await everything(decoder)
    assert_same_sound(sound(heard), PCM[:24_000] if size == 1 else PCM)


@pytest.mark.parametrize(("encoding", "kind", "late"), [("webm", WEBM, 400), ("opus", OGG, 2_000)])
async def test_a_mark_is_reached_when_all_that_was_fed_before_it_is_told(
    encoding: str, kind: Kind, late: int
) -> None:
    data = record(PCM, kind)
    half = len(data) // 2
    async with decoding(stream_of(encoding)) as decoder, asyncio.timeout(60):
        await decoder.feed(data[:half])
        await decoder.mark(b"half")
        heard, reached = [], False
        async for each in decoder.heard():
            heard.append(each)
            if isinstance(each, Reached):
                assert each == Reached(b"half")
                reached = True
                await decoder.feed(data[half:])
                await decoder.end()
                before = len(sound(heard))
        assert reached
    async with decoding(stream_of(encoding)) as decoder:
        await decoder.feed(data[:half])
        await decoder.end()
        cut_off = len(sound(await everything(decoder)))
    assert 0 <= cut_off - before <= late  # a page or a packet that was cut may still give something at an end
    assert_same_sound(sound(heard), PCM)


async def test_time_that_was_not_recorded_is_a_gap_and_silence_in_a_file(tmp_path: Path) -> None:
    data = record(PCM, M4A_TALK, gap_at=24_000, gap=48_000)
    (tmp_path / "clip.mkv").write_bytes(data)
    async with file_of(tmp_path / "clip.mkv") as decoder:
        heard = await everything(decoder)
    (gap,) = [each for each in heard if isinstance(each, Gap)]
    assert abs(gap.samples - 48_000) <= WITHIN
    at = len(sound(list(itertools.takewhile(lambda each: each is not gap, heard))))
    assert abs(at - 24_000) <= 1_600
    async with open_audio(tmp_path / "clip.mkv") as audio:
        length = sum([len(block) async for block in audio.blocks])
    assert abs(length - len(PCM) - 48_000) <= WITHIN


async def test_a_title_in_another_encoding_is_no_reason_to_hear_nothing(tmp_path: Path) -> None:
    data = record(PCM, Kind("matroska", "aac"), title="Grusse aus Koln")
    (tmp_path / "clip.mkv").write_bytes(data.replace(b"Grusse", b"Gr\xfc\xdfe "))
    async with file_of(tmp_path / "clip.mkv") as decoder:
        assert_same_sound(sound(await everything(decoder)), PCM)


async def test_a_video_s_sound_is_taken_and_its_pictures_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(with_pictures(PCM))
    async with file_of(path) as decoder:
        heard = await everything(decoder)
    assert_same_sound(sound(heard), PCM)


@pytest.mark.parametrize("kind", [Kind("ogg", "flac", 44_100), Kind("nut", "pcm_s16le")], ids=lambda k: k.id)
async def test_what_is_not_on_the_list_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = write(tmp_path / "clip", PCM, kind)
    if kind.muxer == "nut":
        with pytest.raises(AudioError) as raised:
            async with file_of(path) as decoder:
                await everything(decoder)
        assert raised.value.code == "audio_invalid"
    else:
        async with decoding(stream_of("webm")) as decoder:
            await decoder.feed(path.read_bytes())
            await decoder.end()
            with pytest.raises(AudioError) as raised:
                await everything(decoder)
        assert raised.value.code == "audio_invalid"


async def test_a_container_without_sound_and_one_with_a_codec_that_is_not_read(tmp_path: Path) -> None:
    for data, code in ((with_pictures(None), "audio_invalid"), (record(PCM, SILENCED), "audio_unsupported")):
        (tmp_path / "clip").write_bytes(data)
        async with file_of(tmp_path / "clip") as decoder:
            with pytest.raises(AudioError) as raised:
                await everything(decoder)
        assert raised.value.code == code
