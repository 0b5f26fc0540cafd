"""What a browser records, into a real daemon with the bundled model: the same words as from plain PCM."""

from __future__ import annotations

import asyncio
import json

import jiwer
import numpy as np
import soundfile
from websockets.asyncio.client import connect
from whisper_normalizer.english import EnglishTextNormalizer

from tests.containers.recordings import OGG, WEBM, record
from tests.live.test_real_speech import SAMPLE, Message, daemon, finals

SECONDS = 20


async def speak(url: str, data: bytes, encoding: str) -> list[Message]:
    address = f"{url.replace('http', 'ws', 1)}/v1/speak?encoding={encoding}"
    async with connect(address, max_size=None) as socket, asyncio.TaskGroup() as group:

        async def send() -> None:
            for at in range(0, len(data), 4_000):
                await socket.send(data[at : at + 4_000])
            await socket.send(json.dumps({"type": "end"}))

        group.create_task(send(), name="send")
        events = [json.loads(message) async for message in socket]
        assert socket.close_code == 1000
    return events


def test_a_recording_says_what_its_sound_says() -> None:
    pcm = soundfile.read(SAMPLE / "demo.flac", dtype="float32")[0][: 16_000 * SECONDS]

    async def all_ways() -> list[str]:
        ways = {
            "pcm_s16le": np.rint(pcm * 32_767).astype("<i2").tobytes(),
            "webm": record(pcm, WEBM),
            "opus": record(pcm, OGG),
        }
        async with daemon() as url:
            return [" ".join(finals(await speak(url, data, way))) for way, data in ways.items()]

    said, *recorded = asyncio.run(all_ways())
    normal = EnglishTextNormalizer()
    assert len(said.split()) > 30
    for heard in recorded:
        assert jiwer.wer(normal(said), normal(heard)) <= 0.1, (said, heard)
