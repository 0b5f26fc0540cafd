"""What a speaker is given: files of any format, and whatever comes through standard input."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import soundfile
from captiond_clients.audio_input import FILE_SHAPE, AudioFile
from captiond_clients.audio_outbox import AudioShape
from captiond_clients.errors import AudioError
from captiond_clients.piped_audio import CONTAINERS, PipedAudio
from hypothesis import given, settings
from hypothesis import strategies as st

RAW = AudioShape()
RAMP = np.linspace(-0.9, 0.9, 2_000, dtype=np.float64)


async def piped(data: bytes, shape: AudioShape = RAW, cuts: int = 7) -> tuple[AudioShape, bytes]:
    """``data`` through a true pipe, a few bytes at a time: its shape, and all of its pieces."""
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            for at in range(0, len(data), cuts):
                pipe.write(data[at : at + cuts])

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        audio = PipedAudio(stream, shape)
        try:
            await audio.open()
            heard = b"".join([piece async for piece in audio.pieces()])
        finally:
            stream.close()
            writer.join()
    return audio.shape, heard


def wav(
    kind: int,
    bits: int,
    rate_hz: int,
    channels: int,
    samples: bytes,
    *,
    says: int | None = None,
    extra: bytes = b"",
) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate_hz, rate_hz * block, block, bits)
    size = len(samples) if says is None else says
    return b"RIFF\xff\xff\xff\xffWAVE" + extra + head + extra + struct.pack("<4sI", b"data", size) + samples


def s16_of(shape: AudioShape, heard: bytes) -> Any:
    if shape.encoding == "pcm_f32le":
        return np.frombuffer(heard, "<f4") * 32_768
    return np.frombuffer(heard, "<i2").astype(np.float64)


def has_a_name(data: bytes) -> bool:
    return data[:4] == b"RIFF" or any(data[at:].startswith(magic) for at, magic, _ in CONTAINERS)


@given(data=st.binary(max_size=400).filter(lambda data: not has_a_name(data)))
@settings(max_examples=40, deadline=None)
def test_raw_audio_goes_through_as_it_is(data: bytes) -> None:
    assert asyncio.run(piped(data)) == (RAW, data)


@pytest.mark.parametrize("cuts", [1, 7, 100_000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
async def test_wav_says_itself_what_it_is(subtype: str, cuts: int, tmp_path: Path) -> None:
    stereo = np.stack([RAMP, -RAMP], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, subtype=subtype)
    shape, heard = await piped((tmp_path / "a.wav").read_bytes(), cuts=cuts)
    assert (shape.rate, shape.channels) == (44_100, 2)
    assert shape.encoding in ("pcm_s16le", "pcm_f32le")
    samples = s16_of(shape, heard).reshape(-1, 2)
    assert np.abs(samples - stereo * 32_768).max() <= (300 if subtype == "PCM_U8" else 2)


@pytest.mark.parametrize(("subtype", "encoding"), [("ULAW", "pcm_mulaw"), ("ALAW", "pcm_alaw")])
async def test_telephone_wav(subtype: str, encoding: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", RAMP, 8_000, subtype=subtype)
    shape, heard = await piped((tmp_path / "a.wav").read_bytes())
    assert shape == AudioShape(encoding, 8_000, 1)  # type: ignore[arg-type]
    assert len(heard) == len(RAMP)


async def test_a_recorder_that_cannot_know_the_length_is_heard_to_its_end() -> None:
    for says in (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        shape, heard = await piped(wav(1, 16, 16_000, 1, b"ab" * 500, says=says))
        assert (shape, heard) == (RAW, b"ab" * 500)


async def test_what_lies_before_and_after_the_samples_is_no_sound() -> None:
    note = b"LIST" + struct.pack("<I", 5) + b"hello\0"  # of odd length, and padded
    whole = wav(1, 16, 8_000, 1, b"ab" * 500, extra=note) + note
    shape, heard = await piped(whole)
    assert (shape.rate, heard) == (8_000, b"ab" * 500)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd",
        b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff",
        wav(2, 4, 8_000, 1, b"adpcm"),
        wav(1, 16, 500, 1, b"slow"),
        wav(1, 16, 16_000, 0, b"none"),
        wav(1, 16, 16_000, 9, b"many" * 9),
        b"OggS" + b"\0" * 100,
        b"fLaC" + b"\0" * 100,
        b"ID3\4" + b"\0" * 100,
        b"\x1a\x45\xdf\xa3" + b"\0" * 100,
        b"\0\0\0\x20ftypM4A " + b"\0" * 100,
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_what_is_no_samples_is_not_spoken_as_noise(data: bytes) -> None:
    with pytest.raises(AudioError, match="Standard input"):
        await piped(data)


async def test_a_file_as_standard_input_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(1, 16, 16_000, 1, b"ab" * 500))
    with (tmp_path / "a.wav").open("rb") as stream:
        audio = PipedAudio(stream, RAW)
        await audio.open()
        assert b"".join([piece async for piece in audio.pieces()]) == b"ab" * 500


@pytest.mark.parametrize(
    "command",
    ["sox -n -t wav -r 22050 -b 24 - synth 1 sine 440", "ffmpeg -v error -f lavfi -i sine=d=1 -f wav -"],
)
async def test_wav_of_other_programs(command: str) -> None:
    program = command.split(maxsplit=1)[0]
    if which(program) is None:
        pytest.skip(f"needs {program}: apt-get install {program}")
    data = await asyncio.to_thread(subprocess.run, command.split(), capture_output=True, check=True)
    shape, heard = await piped(data.stdout, cuts=4_000)
    assert shape.ms_of(len(heard)) == 1_000
    assert np.abs(s16_of(shape, heard)).max() > 1_000


def written(path: Path, muxer: str, codec: str) -> Path:
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'captiond[av]'")
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=44_100, layout="stereo")
        tone = 0.5 * np.sin(np.arange(132_300) * 2 * np.pi * 440 / 44_100)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]).astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "muxer", "codec"), [("a.m4a", "ipod", "aac"), ("a.mkv", "matroska", "aac")])
def test_files_that_libsndfile_does_not_know_are_read_by_pyav(
    name: str, muxer: str, codec: str, tmp_path: Path
) -> None:
    blocks = list(AudioFile(written(tmp_path / name, muxer, codec)).pieces())
    assert FILE_SHAPE.ms_of(sum(map(len, blocks))) == pytest.approx(3_000, abs=50)
    assert max(map(len, blocks)) <= FILE_SHAPE.bytes_of(1_000)
    middle = np.frombuffer(blocks[1], "<i2") / 32_768
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_without_pyav_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.m4a", "ipod", "aac")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AudioError, match=r"pip install 'captiond\[av\]'"):
        AudioFile(path)


def test_a_file_that_is_no_audio_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_text("this is no audio")
    with pytest.raises(AudioError, match="cannot be read as audio"):
        AudioFile(tmp_path / "a.m4a")
