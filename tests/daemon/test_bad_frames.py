"""Frames that break the protocol end their own connection; JSON that is only odd ends nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from tests.daemon.house import audio_of, configured, house
from tests.sim.scripted import say

WORDS = "turn on the lights"
SCRIPT = say(WORDS)
ODD = (
    '{"type":"flush","type":"keepalive"}',
    '{"type":"keepalive","n":' + "9" * 400 + "}",
    '{"type":"keepalive","n":1e999}',
    '{"type":"keepalive","n":NaN}',
    '{"type":"keepalive","deep":' + "[" * 900 + "]" * 900 + "}",
    '{"type":"keepalive","name":"\\ud800"}',
    '{"type":"keepalive","name":"\\u0000\\u202e"}',
    '{"type":"' + "x" * 100_000 + '"}',
    '{"":"","type":"\\u0000"}',
    '\ufeff{"type":"keepalive"}',
    json.dumps({"type": "configure", "prompt": "\x00\x1b[2J" * 1_000}),
)


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
async def test_json_that_is_only_odd_ends_nothing(text: str) -> None:
    async with house(SCRIPT) as home, home.speaker() as speaker:
        await speaker.socket.send(text)
        await speaker.speak(audio_of(SCRIPT))
        await speaker.say(type="end")
        assert await speaker.closed() == 1000
        assert speaker.texts() == [WORDS]
        assert all(not error["fatal"] for error in speaker.all("error"))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
        (b"\xc1\x82" + bytes(4) + b"{}", 1002),  # compressed, as nobody agreed
        (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),  # a ping of 126 bytes
        (b"\x83\x80" + bytes(4), 1002),  # an opcode that means nothing
        (Frame(Opcode.CONT, b"more").serialize(mask=True), 1002),  # of nothing
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1009),  # 2^64 bytes are to come
        (b"\x82\xff" + b"\x00\x00\x00\x40\x00\x00\x00\x00" + bytes(4), 1009),  # 2^38 are
        (b"\x88\x81" + bytes(4) + b"\x03", 1002),  # half a close code
    ],
    ids=range(8),
)
async def test_a_broken_frame_ends_its_connection_and_no_other(raw: bytes, code: int) -> None:
    async with house(SCRIPT) as home, home.speaker("stream=other") as other:
        async with home.speaker() as speaker:
            await speaker.until("hello")
            speaker.socket.transport.write(raw)
            assert await speaker.closed() == code
        await other.speak(audio_of(SCRIPT))
        await other.say(type="end")
        assert await other.closed() == 1000
        assert other.texts() == [WORDS]


async def test_many_small_pieces_are_one_message_that_is_too_long() -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield bytes(1_000)

    async with house(config=configured(limits={"message_bytes": 50_000})) as home, home.speaker() as speaker:
        await speaker.socket.send(pieces())
        assert await speaker.closed() == 1009
