"""Audio on standard input: raw PCM as it was announced, or WAV, whose header says what it is.

Takes an open binary stream. Gives the shape of its samples, and pieces of bytes as they come. Other
containers are refused by name, so that they are not spoken as noise. Knows no socket and no pace.
"""

from __future__ import annotations

import asyncio
import stat
import struct
from collections.abc import AsyncIterator, Callable
from os import fstat
from typing import BinaryIO

import numpy as np

from captiond_clients.audio_outbox import AudioShape, Encoding
from captiond_clients.errors import AudioError

PIECE_MS = 20
READ_BYTES = 65_536
HEAD_BYTES = 1 << 20  # of a WAV before its samples
ENDLESS_BYTES = 0x7FFF_0000  # a recorder that cannot know the length writes one from here on
LEAST_RATE_HZ, MOST_RATE_HZ, MOST_CHANNELS = 8_000, 192_000, 8  # what a daemon takes (protocol.md)
CONTAINERS = (
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (0, b"ID3", "MP3"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (4, b"ftyp", "MP4"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
)
Convert = Callable[[bytes], bytes]


class PipedAudio:
    """``shape`` is known once ``open`` has returned; then ``pieces`` gives the samples."""

    def __init__(self, stream: BinaryIO, shape: AudioShape) -> None:
        self.shape = shape
        self._source = _Source(stream)
        self._left: int | None = None  # bytes of samples; None: until the end
        self._convert: Convert | None = None
        self._sample_bytes = 1

    async def open(self) -> None:
        """Look at the first bytes. Raises AudioError for what is neither raw PCM nor a WAV of samples."""
        try:
            await self._look()
        except AudioError:
            self._source.close()
            raise

    async def _look(self) -> None:
        head = await self._source.peek(12)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            await self._read_wav_head()
            return
        for at, magic, name in CONTAINERS:
            if head[at : at + len(magic)] == magic:
                raise AudioError(
                    f"Standard input is {name}, not raw audio.",
                    advice="Give the file by its name, or decode it first: ffmpeg -i FILE -f wav - |",
                )

    async def pieces(self) -> AsyncIterator[bytes]:
        """The samples as they come, PIECE_MS at most at a time."""
        try:
            size = max(self.shape.frame_bytes, self.shape.bytes_of(PIECE_MS))
            carry = b""
            while piece := await self._source.take(size if self._left is None else min(size, self._left)):
                if self._left is not None:
                    self._left -= len(piece)
                if self._convert is not None:
                    piece = carry + piece
                    whole = len(piece) - len(piece) % self._sample_bytes
                    piece, carry = self._convert(piece[:whole]), piece[whole:]
                if piece:
                    yield piece
        finally:
            self._source.close()

    async def _read_wav_head(self) -> None:
        """To the first sample (Microsoft's RIFF WAVE). What lies between format and samples is skipped."""
        await self._source.exactly(12)
        seen, shaped = 0, False
        while seen < HEAD_BYTES:
            kind, length = struct.unpack("<4sI", await self._source.exactly(8))
            if kind == b"data":
                if not shaped:
                    break
                self._left = length if 0 < length < ENDLESS_BYTES else None
                return
            if length > HEAD_BYTES:
                break
            body = await self._source.exactly(length + length % 2)
            if kind == b"fmt " and length >= 16:
                self._take_format(body)
                shaped = True
            seen += 8 + len(body)
        raise AudioError("Standard input begins like a WAV file, but its header cannot be read.")

    def _take_format(self, body: bytes) -> None:
        tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", body[:16])
        if tag == 0xFFFE and len(body) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the format proper begins its GUID
            (tag,) = struct.unpack("<H", body[24:26])
        known = FORMATS.get((tag, bits))
        if known is None:
            raise AudioError(f"Standard input is WAV of a kind that is not read here ({tag}, {bits} bits).")
        if not (LEAST_RATE_HZ <= rate_hz <= MOST_RATE_HZ and 1 <= channels <= MOST_CHANNELS):
            raise AudioError(
                f"Standard input is WAV with {channels} channels at {rate_hz} Hz.",
                advice=f"1 to {MOST_CHANNELS} channels at {LEAST_RATE_HZ} to {MOST_RATE_HZ} Hz are taken.",
            )
        encoding, self._convert = known
        self._sample_bytes = bits // 8
        self.shape = AudioShape(encoding, rate_hz, channels)


class _Source:
    """Bytes of a file or a pipe. A pipe is waited for without a thread, so that Ctrl-C ends the wait."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._is_file = stat.S_ISREG(fstat(stream.fileno()).st_mode)
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._waiting = b""

    async def peek(self, size: int) -> bytes:
        """Up to ``size`` of the next bytes, fewer only at the end."""
        while len(self._waiting) < size and (piece := await self._read(size)):
            self._waiting += piece
        return self._waiting[:size]

    async def take(self, size: int) -> bytes:
        """Whatever has come, ``size`` at most; nothing at the end."""
        if not self._waiting:
            return await self._read(size)
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        return taken

    async def exactly(self, size: int) -> bytes:
        taken = await self.peek(size)
        if len(taken) < size:
            raise AudioError("Standard input ends within the header of a WAV file.")
        self._waiting = self._waiting[size:]
        return taken

    async def _read(self, size: int) -> bytes:
        if self._is_file:
            return self._stream.read(size)
        if self._reader is None:
            reader = self._reader = asyncio.StreamReader(READ_BYTES)
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), self._stream
            )
        return await self._reader.read(size)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _from_u8(data: bytes) -> bytes:
    return ((np.frombuffer(data, np.uint8).astype("<i2") - 128) << 8).astype("<i2").tobytes()


def _from_s24(data: bytes) -> bytes:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 3)[:, 1:]).tobytes()


def _from_s32(data: bytes) -> bytes:
    return (np.frombuffer(data, "<i4") >> 16).astype("<i2").tobytes()


def _from_f64(data: bytes) -> bytes:
    return np.frombuffer(data, "<f8").astype("<f4").tobytes()


# By WAVE format tag and bits: what it is on the wire, and what must be done to it before.
FORMATS: dict[tuple[int, int], tuple[Encoding, Convert | None]] = {
    (1, 8): ("pcm_s16le", _from_u8),
    (1, 16): ("pcm_s16le", None),
    (1, 24): ("pcm_s16le", _from_s24),
    (1, 32): ("pcm_s16le", _from_s32),
    (3, 32): ("pcm_f32le", None),
    (3, 64): ("pcm_f32le", _from_f64),
    (6, 8): ("pcm_alaw", None),
    (7, 8): ("pcm_mulaw", None),
}
