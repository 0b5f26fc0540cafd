"""The commands as people run them: true processes, exit codes, what goes to which output."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.clients.fake_daemon import Spoken, fake_daemon, seconds_of_audio


@dataclass
class Outcome:
    status: int
    out: str
    err: str


async def captiond(*arguments: str, given: bytes = b"") -> Outcome:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "captiond", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


def sound_file(path: Path, rate: int, channels: int, seconds: float = 1.5) -> Path:
    samples = np.zeros((round(seconds * rate), channels), np.float32)
    soundfile.write(path, samples, rate)
    return path


async def test_speak_prints_finals_to_standard_output_and_the_rest_to_standard_error() -> None:
    async with fake_daemon() as daemon:
        done = await captiond(
            *("speak", "-", "--url", daemon.url, "--pace", "fast"), given=seconds_of_audio(1, 2)
        )
    assert (done.status, done.out) == (0, "second 1\nsecond 2\n")
    assert "connected to" in done.err


async def test_json_is_one_event_a_line_as_it_came() -> None:
    async with fake_daemon() as daemon:
        done = await captiond(
            *("speak", "-", "--url", daemon.url, "--pace", "fast", "--format", "json"),
            given=seconds_of_audio(1),
        )
        told = daemon.streams["made"].events
    events = [json.loads(line) for line in done.out.splitlines()]
    assert events[0]["type"] == "hello"
    assert events[1:] == told


@pytest.mark.parametrize(("name", "rate", "channels"), [("a.wav", 48_000, 2), ("b.flac", 8_000, 1)])
async def test_files_of_any_rate_and_channels_are_converted(
    tmp_path: Path, name: str, rate: int, channels: int
) -> None:
    path = sound_file(tmp_path / name, rate, channels)
    async with fake_daemon() as daemon:
        done = await captiond("speak", str(path), "--url", daemon.url, "--pace", "fast", "--stream", "hall")
        heard = len(daemon.streams["hall"].audio)
    assert done.status == 0
    assert heard == 48_000


async def test_realtime_is_the_pace_of_speech() -> None:
    async with fake_daemon() as daemon:
        loop = asyncio.get_running_loop()
        start = loop.time()
        done = await captiond("speak", "-", "--url", daemon.url, given=seconds_of_audio(1))
        assert done.out == "second 1\n"
        assert loop.time() - start > 1.0  # it cannot have been faster than the sound


async def test_what_is_no_audio_says_so_and_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "letter.wav"
    path.write_text("Dear sir")
    async with fake_daemon() as daemon:
        done = await captiond("speak", str(path), "--url", daemon.url)
        missing = await captiond("speak", str(tmp_path / "none.wav"), "--url", daemon.url)
        assert daemon.queries == []
    assert (done.status, missing.status) == (2, 2)
    assert "letter.wav cannot be read as audio" in done.err
    assert "none.wav is no file" in missing.err
    assert "audio_invalid" in done.err


async def test_no_daemon_is_69_for_both() -> None:
    async with fake_daemon() as daemon:
        url = daemon.url
    for command in (["speak", "-"], ["listen"]):
        done = await captiond(*command, "--url", url)
        assert done.status == 69
        assert "captiond serve" in done.err
        assert "Traceback" not in done.err


async def test_listen_once_gives_subtitles_of_one_stream() -> None:
    async with fake_daemon() as daemon:
        hall = daemon.streams["hall"] = Spoken("hall")
        final = {"start_ms": 500, "end_ms": 1_250, "language": "en"}
        daemon.tell(hall, "transcript.final", segment=0, text="fish & <chips>", **final)
        listening = asyncio.ensure_future(
            captiond("listen", "--url", daemon.url, "--format", "vtt", "--once", "--stream", "hall")
        )
        while not daemon.listeners:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        daemon.tell(hall, "stream.closed", reason="end")
        done = await listening
    assert done.status == 0
    assert done.out == "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\nfish &amp; &lt;chips&gt;\n\n"


async def test_the_demo_passes_on_why_its_daemon_failed() -> None:
    done = await captiond("demo", "--set", "server.prot=1")
    assert done.status == 78
    assert "server.prot" in done.err
    assert "Traceback" not in done.err


async def test_wav_on_standard_input_is_spoken_as_what_it_says_it_is(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", 8_000, 2, seconds=2)
    async with fake_daemon() as daemon:
        done = await captiond(
            *("speak", "-", "--url", daemon.url, "--pace", "fast", "--stream", "hall"),
            given=path.read_bytes(),
        )
        heard = len(daemon.streams["hall"].audio)
    assert done.status == 0
    assert heard == 2 * 8_000 * 4  # without its header


async def test_a_container_on_standard_input_is_not_spoken_as_noise() -> None:
    async with fake_daemon() as daemon:
        done = await captiond("speak", "-", "--url", daemon.url, given=b"OggS" + b"\0" * 1_000)
        assert not daemon.streams
    assert done.status == 2
    assert "Standard input is Ogg" in done.err
    assert "audio_invalid" in done.err


async def test_a_reader_that_goes_away_ends_speaking_quietly(tmp_path: Path) -> None:
    file = sound_file(tmp_path / "talk.wav", 16_000, 1)
    async with fake_daemon() as daemon:
        speaking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "captiond", "speak", str(file), "--url", daemon.url),
            *("--pace", "fast", "--format", "json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert speaking.stdout is not None
        assert speaking.stderr is not None
        transport = speaking._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()  # before it has written anything
        said = (await speaking.stderr.read()).decode()
        await speaking.wait()
    assert "Traceback" not in said
