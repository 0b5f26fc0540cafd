"""The examples are short, and do what they say against a real daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import soundfile

from tests.daemon.house import FINAL, House, audio_of, house
from tests.sim.scripted import say

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"
TWICE = (*say("turn on the lights"), *say("what is the time", at=4 * 16_000))
SAID = ["turn on the lights", "what is the time"]

# A microphone that hears a recording, then nothing more: what sounddevice.RawInputStream is used for.
MICROPHONE = """
import os, soundfile
class RawInputStream:
    def __init__(self, rate, size, *, dtype, channels):
        self._file = soundfile.SoundFile(os.environ["MICROPHONE_HEARS"])
        assert (rate, dtype, channels) == (self._file.samplerate, "int16", self._file.channels)
    def __enter__(self): return self
    def __exit__(self, *error): self._file.close()
    @property
    def active(self): return self._file.tell() < self._file.frames
    def read(self, size): return self._file.buffer_read(size, "int16"), False
"""


@asynccontextmanager
async def example(
    name: str, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running example; ended as people end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        assert said == b""


async def until_heard_by(home: House, listeners: int) -> None:
    while (await home.get("/v1/streams")).json()[0]["subscribers"] < listeners:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40
    assert f"test_{path.stem}_" in Path(__file__).read_text(), "and is tried here"


async def test_listen_prints_finals() -> None:
    async with house(TWICE) as home, example("listen.py", home.address, "hall") as listening:
        async with home.speaker("stream=hall") as speaker:
            await speaker.speak(audio_of(TWICE), pace=None)
            await speaker.until(FINAL, 2)
        assert listening.stdout is not None
        printed = [(await listening.stdout.readline()).decode().strip() for _ in SAID]
    assert printed == [f"hall: {text}" for text in SAID]


@pytest.mark.parametrize("source", ["file", "microphone"])
async def test_speak_prints_what_is_heard(tmp_path: Path, source: str) -> None:
    recording = tmp_path / "talk.wav"
    soundfile.write(recording, audio_of(TWICE), 16_000, subtype="PCM_16")
    (tmp_path / "sounddevice.py").write_text(MICROPHONE)
    spoken = str(recording) if source == "file" else "-"
    surroundings = {"PYTHONPATH": str(tmp_path), "MICROPHONE_HEARS": str(recording)}
    async with house(TWICE) as home, example("speak.py", spoken, home.address, **surroundings) as speaking:
        assert speaking.stdout is not None
        assert (await speaking.stdout.read()).decode().splitlines() == SAID
        await speaking.wait()


async def test_to_obs_keeps_the_last_lines_in_a_file(tmp_path: Path) -> None:
    shown = tmp_path / "captions.txt"
    script = say("heavy snow in the east of the country and strong winds tomorrow")
    async with (
        house(script) as home,
        example("to_obs.py", str(shown), home.address),
        home.speaker("stream=hall") as speaker,
    ):
        await until_heard_by(home, 2)
        await speaker.speak(audio_of(script), pace=None)
        said = (await speaker.until(FINAL))["text"]
        lines = textwrap.wrap(said, 42)
        while not shown.exists() or shown.read_text() != "\n".join(lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(lines) == 2
