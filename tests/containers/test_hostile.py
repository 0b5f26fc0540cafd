"""Bytes that mean harm: each is one clean error or what sound there is, and nothing is left behind."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from captiond.containers.decoder import Decoder, decoding, file_of, stream_of
from captiond_engine.errors import AudioError
from captiond_engine.types import Float32Array
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.containers.children import no_child_left
from tests.containers.recordings import KINDS, M4A, OGG, WEBM, Kind, record
from tests.containers.test_formats import PCM

CODES = {None, "audio_invalid", "audio_unsupported", "decoder_failed"}
SHORT = PCM[:24_000]
RECORDED = {kind: record(SHORT, kind) for kind in KINDS}
STREAMED = {WEBM: "webm", OGG: "opus"}
flips_of = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=30)
some = settings(max_examples=30, deadline=None, derandomize=True)
kinds = st.sampled_from(KINDS)


def decoded(data: bytes, encoding: str | None = None) -> tuple[Float32Array, str | None]:
    """The sound that ``data`` gives, as a file or as a stream of ``encoding``, and the code of its error."""
    with no_child_left():
        return asyncio.run(_decoded(data, encoding))


async def _decoded(data: bytes, encoding: str | None) -> tuple[Float32Array, str | None]:
    async with asyncio.timeout(120):
        if encoding is not None:
            async with decoding(stream_of(encoding)) as decoder, asyncio.TaskGroup() as tasks:
                tasks.create_task(_fed(decoder, data), name="feeding")
                return await _heard(decoder)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            async with file_of(Path(file.name)) as decoder:
                return await _heard(decoder)


async def _fed(decoder: Decoder, data: bytes) -> None:
    await decoder.feed(data)
    await decoder.end()


async def _heard(decoder: Decoder) -> tuple[Float32Array, str | None]:
    pieces = [np.zeros(0, np.float32)]
    code = None
    try:
        async for heard in decoder.heard():
            if isinstance(heard, np.ndarray):
                pieces.append(heard)
    except AudioError as error:
        code = error.code
    return np.concatenate(pieces), code


def check(came: tuple[Float32Array, str | None]) -> None:
    pcm, code = came
    assert code in CODES
    assert np.isfinite(pcm).all()
    assert len(pcm) <= 60 * 16_000  # spoilt times and lengths do not make an hour of a second


@some
@given(kind=kinds, share=st.floats(0, 1))
def test_what_is_cut_off(kind: Kind, share: float) -> None:
    data = RECORDED[kind][: int(len(RECORDED[kind]) * share)]
    check(decoded(data))


@some
@given(kind=kinds, flips=flips_of)
def test_what_was_changed_on_its_way(kind: Kind, flips: list[tuple[float, int]]) -> None:
    data = bytearray(RECORDED[kind])
    for share, mask in flips:
        data[int(share * len(data))] ^= mask
    check(decoded(bytes(data)))


@some
@given(
    kind=st.sampled_from([WEBM, OGG]),
    flips=flips_of,
    share=st.floats(0, 1),
)
def test_a_stream_that_was_changed_and_cut(kind: Kind, flips: list[tuple[float, int]], share: float) -> None:
    data = bytearray(RECORDED[kind])
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    check(decoded(bytes(data[: int(len(data) * share)]), STREAMED[kind]))


@some
@given(kind=kinds, head=st.integers(4, 600), rest=st.binary(max_size=4_000))
def test_a_true_head_with_anything_after_it(kind: Kind, head: int, rest: bytes) -> None:
    check(decoded(RECORDED[kind][:head] + rest))


@pytest.mark.parametrize("encoding", ["webm", "opus", None])
def test_nothing_at_all(encoding: str | None) -> None:
    pcm, code = decoded(b"", encoding)
    assert len(pcm) == 0
    assert code == "audio_invalid"


def ebml(number: bytes, length: int, body: bytes = b"") -> bytes:
    """An element of Matroska that says it is ``length`` bytes long."""
    return number + (length | 1 << 56).to_bytes(8, "big") + body


EBML_HEAD = RECORDED[WEBM][: RECORDED[WEBM].index(b"\x18\x53\x80\x67")]
SEGMENT, TRACKS = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"
CODEC_DATA = ebml(b"\x63\xa2", 0x0FF0_0000)  # of 255 MiB


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (EBML_HEAD + ebml(SEGMENT, 2**55) + ebml(TRACKS, 2**54) + ebml(b"\xae", 2**53), "webm"),
        (
            EBML_HEAD + ebml(SEGMENT, 2**55) + ebml(TRACKS, 2**28, ebml(b"\xae", 2**28, CODEC_DATA)),
            "webm",
        ),
        (b"\0\0\0\x01ftyp" + (2**62).to_bytes(8, "big") + b"M4A " * 100, None),
        (RECORDED[M4A].replace(b"stsz", b"stsz\0\0\0\0\0\0\0\0\xff\xff\xff\xff", 1), None),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\x7f" + b"\0" * 1_000, None),
        (b"fLaC\x80\xff\xff\xff" + b"\xff" * 10_000, None),
        (b"OggS" + b"\xff" * 10_000, "opus"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"\0" * 1_000, None),
    ],
    ids=["tracks", "codec data", "box", "table", "wav", "flac", "page", "tag"],
)
def test_lengths_that_nothing_stands_behind(data: bytes, encoding: str | None) -> None:
    pcm, code = decoded(data, encoding)
    assert code in CODES - {None} or len(pcm) <= len(SHORT) + 1_600


def wav(rate_hz: int, channels: int, samples: int) -> bytes:
    size = 2 * channels
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate_hz, rate_hz * size, size, 16)
    data = b"\1\0" * samples * channels
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVE"
        + head
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


@pytest.mark.parametrize(("rate_hz", "channels"), [(1, 1), (300, 2), (2_000_000_000, 1), (16_000, 65)])
def test_a_few_bytes_that_claim_to_be_hours_of_sound(rate_hz: int, channels: int) -> None:
    pcm, code = decoded(wav(rate_hz, channels, 20_000))
    assert code in ("audio_unsupported", "audio_invalid")
    assert len(pcm) == 0


def test_garbage_without_an_end_is_given_up() -> None:
    """A true beginning, then bytes for as long as anybody reads them."""
    garbage = np.random.default_rng(5).bytes(1 << 20)

    async def run() -> str | None:
        async with decoding(stream_of("webm")) as decoder, asyncio.TaskGroup() as tasks:
            await decoder.feed(RECORDED[WEBM][:3_000])

            async def feed() -> None:
                while True:
                    await decoder.feed(garbage)

            feeding = tasks.create_task(feed(), name="feeding")
            _, code = await _heard(decoder)
            feeding.cancel()
            return code

    with no_child_left():
        assert asyncio.run(run()) == "audio_invalid"
