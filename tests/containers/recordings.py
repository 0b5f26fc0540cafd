"""Recordings in every container that is read, made by PyAV's own muxers and encoders.

Takes: float32 mono at 16 kHz. Gives: the bytes of a file. Knows nothing of captiond.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from captiond_engine.types import Float32Array

av = pytest.importorskip("av", reason="needs PyAV: pip install 'captiond[av]'")

RATE_HZ = 16_000


class Kind(NamedTuple):
    """A container as FFmpeg's muxer is called, a codec, and what a recorder may choose."""

    muxer: str
    codec: str
    rate_hz: int = 48_000
    layout: str = "mono"
    options: tuple[tuple[str, str], ...] = ()
    bit_rate: int = 0

    @property
    def id(self) -> str:
        return f"{self.muxer}-{self.codec}-{self.rate_hz}-{self.layout}"


# As a browser's MediaRecorder writes it: clusters of unknown length, no duration, no index.
WEBM = Kind("webm", "libopus", options=(("live", "1"), ("cluster_time_limit", "1000")))
OGG = Kind("ogg", "libopus", options=(("page_duration", "100000"),))
M4A = Kind("ipod", "aac", 44_100, "stereo")
_KINDS = [
    WEBM,
    OGG,
    M4A,
    Kind("webm", "libopus", 48_000, "stereo"),
    Kind("matroska", "flac", 44_100),
    Kind("mp4", "aac", 48_000),
    Kind("mov", "pcm_s16be", 44_100, "stereo"),
    Kind("3gp", "aac", 32_000),
    Kind("mp3", "libmp3lame", 44_100, "stereo"),
    Kind("mp2", "mp2", 48_000),
    Kind("flac", "flac", 96_000),
    Kind("wav", "pcm_s16le", 16_000),
    Kind("wav", "pcm_f32le", 44_100, "5.1"),
    Kind("wav", "pcm_mulaw", 8_000),
    Kind("wav", "adpcm_ima_wav", 22_050),
    Kind("w64", "pcm_s24le", 48_000),
    Kind("aiff", "pcm_s16be", 44_100),
    Kind("au", "pcm_s16be", 44_100),
    Kind("caf", "alac", 44_100, "stereo"),
    Kind("adts", "aac", 48_000),
    Kind("mpegts", "aac", 48_000),
    Kind("mpegts", "ac3", 48_000, "stereo"),
    Kind("amr", "libopencore_amrnb", 8_000, bit_rate=12_200),
    Kind("flv", "aac", 44_100),
    Kind("avi", "libmp3lame", 44_100),
    Kind("asf", "wmav2", 44_100, "stereo", bit_rate=96_000),
]


def _can_be_made(kind: Kind) -> bool:
    """Not every build of PyAV has every encoder."""
    try:
        av.Codec(kind.codec, "w")
    except ValueError:  # UnknownCodecError
        return False
    return True


KINDS = [kind for kind in _KINDS if _can_be_made(kind)]


class _Pipe(io.RawIOBase):
    """A file that cannot be gone back in, so that nothing written can be mended afterwards."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(bytes(data))


def record(pcm: Float32Array, kind: Kind = WEBM, *, gap_at: int = 0, gap: int = 0, title: str = "") -> bytes:
    """``pcm`` recorded. ``gap``: samples of time that pass unrecorded after the sample ``gap_at``."""
    seekable = kind.muxer in ("ipod", "mp4", "mov", "3gp", "wav", "w64", "aiff", "caf", "avi", "asf", "flac")
    target: Any = io.BytesIO() if seekable else _Pipe()
    with av.open(target, "w", format=kind.muxer, options=dict(kind.options)) as container:
        stream = container.add_stream(kind.codec, rate=kind.rate_hz, layout=kind.layout)
        container.metadata.update({"title": title} if title else {})
        if kind.bit_rate:
            stream.bit_rate = kind.bit_rate
        for frame in _frames(pcm, stream.codec_context, kind):
            if gap_at and frame.pts * RATE_HZ >= gap_at * kind.rate_hz:
                frame.pts += gap * kind.rate_hz // RATE_HZ
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return target.getvalue() if seekable else bytes(target.data)


def _frames(pcm: Float32Array, context: Any, kind: Kind) -> Iterator[Any]:
    """``pcm`` as the encoder wants it."""
    if not context.is_open:
        context.open()
    frame = av.AudioFrame.from_ndarray(pcm[None, :].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate = RATE_HZ
    frame.pts = 0
    size = context.frame_size or 1_024
    resampler = av.AudioResampler(context.format.name, kind.layout, kind.rate_hz, frame_size=size)
    at = 0
    for made in [*resampler.resample(frame), *resampler.resample(None)]:
        made.pts = at
        at += made.samples
        yield made


def write(path: Path, pcm: Float32Array, kind: Kind) -> Path:
    path.write_bytes(record(pcm, kind))
    return path


def with_pictures(pcm: Float32Array | None) -> bytes:
    """An MP4 with two seconds of grey video, and with ``pcm`` as AAC if there is any."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono") if pcm is not None else None
        for number in range(20):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None and pcm is not None:
            for frame in _frames(pcm, audio.codec_context, Kind("mp4", "aac")):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return target.getvalue()


def hls(pcm: Float32Array, folder: Path) -> dict[str, bytes]:
    """``pcm`` as segments of a second, by name and in order, as an HLS server has them."""
    options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "part%03d.ts")}
    kind = Kind("hls", "aac")
    with av.open(str(folder / "all.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream(kind.codec, rate=kind.rate_hz, layout=kind.layout)
        for frame in _frames(pcm, stream.codec_context, kind):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part*.ts"))}
