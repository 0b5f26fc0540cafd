"""The daemon's side against children that die, hang or lie: one error each, and each is reaped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from captiond.containers import child
from captiond.containers.decoder import MOST_GAP_SAMPLES, Decoder, Gap, Heard, decoding, file_of, stream_of
from captiond.containers.framing import HEADER, MOST_BYTES, SAMPLES, Kind, pack
from captiond_engine.errors import AudioError

from tests.containers.children import children, no_child_left
from tests.containers.recordings import WEBM, record
from tests.containers.test_formats import PCM

OPENED = pack(Kind.OPENED, b'{"format": "webm", "codec": "opus", "rate_hz": 48000, "length_ms": null}')
DONE = pack(Kind.DONE)


@pytest.fixture(autouse=True)
def all_reaped() -> Iterator[None]:
    with no_child_left():
        yield


async def heard_of(decoder: Decoder) -> tuple[list[Heard], AudioError | None]:
    heard: list[Heard] = []
    try:
        async with asyncio.timeout(60):
            async for each in decoder.heard():
                heard.append(each)
    except AudioError as error:
        return heard, error
    return heard, None


def length(heard: list[Heard]) -> int:
    return sum(len(each) for each in heard if isinstance(each, np.ndarray))


def lying(monkeypatch: pytest.MonkeyPatch, words: bytes, then: str = "") -> None:
    """From now on a child says ``words`` and no more."""
    said = f"import os, sys, time; os.write(1, {words!r}); {then}"
    monkeypatch.setattr(child, "START", said)


@pytest.mark.parametrize(
    "words",
    [
        HEADER.pack(Kind.AUDIO, MOST_BYTES + 1),
        HEADER.pack(Kind.AUDIO, 2**32 - 1),
        pack(Kind.AUDIO, b"\0\0"),  # before anything was opened
        OPENED + pack(Kind.AUDIO, b"\0\0\0"),
        OPENED + pack(Kind.GAP, b"\0"),
        pack(Kind.MARK, b"nobody asked"),
        pack(Kind.OPENED, b"not JSON"),
        pack(Kind.OPENED, b'{"format": 7}'),
        pack(Kind.FAILED, b"[]"),
        pack(Kind.OPEN, b"{}"),
        HEADER.pack(99, 0),
        b"",
        HEADER.pack(Kind.AUDIO, 10) + b"half",
        OPENED,
    ],
    ids=lambda words: repr(words[:12]),
)
async def test_a_child_that_lies_is_not_believed(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, words)
    async with decoding(stream_of("webm")) as decoder:
        _, error = await heard_of(decoder)
    assert error is not None
    assert error.code == "decoder_failed"


async def test_a_child_chooses_neither_its_code_nor_what_a_terminal_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = json.dumps({"code": "model_invalid", "message": "\x1b[2J\r\n" + "x" * 5_000}).encode()
    lying(monkeypatch, pack(Kind.FAILED, failed))
    async with decoding(stream_of("webm")) as decoder:
        _, error = await heard_of(decoder)
    assert error is not None
    assert error.code == "decoder_failed"
    assert error.message.isprintable()
    assert len(error.message) <= 400


async def test_time_without_sound_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, OPENED + pack(Kind.GAP, SAMPLES.pack(2**64 - 1)) + DONE)
    async with decoding(stream_of("webm")) as decoder:
        heard, error = await heard_of(decoder)
    assert error is None
    assert heard[1:] == [Gap(MOST_GAP_SAMPLES)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
async def test_a_child_that_dies_is_one_error(number: signal.Signals) -> None:
    async with decoding(stream_of("webm")) as decoder:
        await decoder.feed(record(PCM)[:5_000])
        heard = decoder.heard()
        await anext(heard)
        os.kill(decoder.process_id, number)
        _, error = await heard_of(decoder)
        await decoder.feed(b"more" * 100_000)  # to nobody, and without harm
        await decoder.end()
    assert error is not None
    assert error.code == "decoder_failed"
    assert str(signal.strsignal(number)) in error.message


async def test_a_child_that_hangs_is_given_up_and_ended() -> None:
    async with decoding(stream_of("webm"), deadline_s=0.5) as decoder:
        os.kill(decoder.process_id, signal.SIGSTOP)
        await decoder.feed(b"\x1a\x45\xdf\xa3")
        _, error = await heard_of(decoder)
    assert error is not None
    assert error.code == "decoder_failed"
    assert "does not answer" in error.message


async def test_a_child_that_takes_nothing_is_given_up_though_much_is_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lying(monkeypatch, OPENED, "time.sleep(600)")
    async with decoding(stream_of("webm"), deadline_s=0.5) as decoder, asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(decoder.feed(b"\0" * 1_000_000), name="feeding")
        _, error = await heard_of(decoder)
        assert not feeding.done()  # it waited, and holds no more than a pipe and one message
        feeding.cancel()
    assert error is not None
    assert "does not answer" in error.message


async def test_silence_of_a_speaker_is_no_hang() -> None:
    """Nothing is owed while nothing is fed, however long that is."""
    async with decoding(stream_of("webm"), deadline_s=4.0) as decoder, asyncio.TaskGroup() as tasks:
        data = record(PCM)
        listening = tasks.create_task(heard_of(decoder), name="listening")
        await decoder.feed(data[:5_000])
        await asyncio.sleep(5.0)
        assert not listening.done()
        await decoder.feed(data[5_000:])
        await decoder.end()
        heard, error = await listening
    assert error is None
    assert sum(len(each) for each in heard if isinstance(each, np.ndarray)) == pytest.approx(
        len(PCM), abs=800
    )


async def test_a_slow_listener_is_no_hang(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(record(np.tile(PCM, 40)))
    async with file_of(tmp_path / "clip") as decoder:
        heard = decoder.heard()
        await anext(heard)
        decoder._deadline_s = 2.0
        await asyncio.sleep(3.0)
        count = sum([len(each) async for each in heard if isinstance(each, np.ndarray)])
    assert count == pytest.approx(40 * len(PCM), abs=800)


async def test_leaving_at_any_time_ends_the_child() -> None:
    for fed in (0, 100, 5_000):
        async with decoding(stream_of("webm")) as decoder:
            await decoder.feed(record(PCM)[:fed])
            assert len(children()) == 1
        assert children() == []


async def test_a_cancelled_listener_ends_the_child() -> None:
    started = asyncio.Event()

    async def listen() -> None:
        async with decoding(stream_of("webm")) as decoder:
            started.set()
            await heard_of(decoder)

    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listen(), name="listening")
        await started.wait()
        listening.cancel()
    assert children() == []


async def test_a_listener_cancelled_at_any_moment_leaves_nothing() -> None:
    """Also while the child is being started."""

    async def listen() -> None:
        async with decoding(stream_of("webm")) as decoder:
            await heard_of(decoder)

    for turns in range(12):
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen(), name="listening")
            for _ in range(turns):
                await asyncio.sleep(0)
            listening.cancel()
        assert children() == []


async def test_where_no_child_can_be_started_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(AudioError, match="No decoder can be started") as raised:
        async with decoding(stream_of("webm")):
            pass
    assert raised.value.code == "decoder_failed"


async def test_children_decode_beside_each_other() -> None:
    """As many as there are streams; each has its own."""
    kinds = [WEBM] * 6

    async def one(number: int) -> int:
        async with decoding(stream_of("webm")) as decoder, asyncio.TaskGroup() as tasks:
            pcm = PCM[: 16_000 + 4_000 * number]

            async def feed() -> None:
                await decoder.feed(record(pcm))
                await decoder.end()

            tasks.create_task(feed(), name="feeding")
            heard, error = await heard_of(decoder)
        assert error is None
        return length(heard) - len(pcm)

    assert max(map(abs, await asyncio.gather(*(one(number) for number in range(len(kinds)))))) < 800
