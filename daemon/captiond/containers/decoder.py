"""The daemon's side of a decoding child: container bytes, a file or an address in; samples out.

Takes: what to open. Gives: its sound as it is decoded, gaps in it, and one ``AudioError`` for whatever goes
wrong with the child: a crash, silence past a deadline, or words that it does not have. What the child says
is bounded and believed no further than it must be. The child is always ended and reaped. Knows no stream.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from captiond_engine.errors import AudioError
from captiond_engine.types import Float32Array
from msgspec import Struct

from captiond.containers import media
from captiond.containers.child import Child, started
from captiond.containers.framing import HEADER, MOST_BYTES, SAMPLES, Kind, pack

log = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE_S = 20.0  # for the child's next word, whenever it owes one
MOST_GAP_SAMPLES = 3_600 * 16_000 + 16_000
MOST_WORDS = 400
PING = b"p"
CODES = ("audio_invalid", "audio_unsupported", "decoder_failed")


class Opened(Struct, frozen=True):
    """What the child has found. ``length_ms``: what the container says of itself; None: nothing."""

    format: str
    codec: str
    rate_hz: int
    length_ms: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """So many samples of the container's own time that have no sound."""

    samples: int


@dataclass(frozen=True, slots=True)
class Reached:
    """Everything before a mark is told."""

    mark: bytes


class _Failed(Struct, frozen=True):
    code: str
    message: str


Heard = Opened | Float32Array | Gap | Reached
Request = dict[str, str | float]


class Decoder:
    """One child. Made by ``decoding``; feed it and iterate over what it tells, in two tasks."""

    def __init__(self, child: Child, deadline_s: float, *, owes: bool) -> None:
        self._child = child
        self._deadline_s = deadline_s
        self._always = owes
        self._ready = self._ended = self._gone = False
        self._marks = 0
        self._patience: asyncio.Timeout | None = None

    @property
    def process_id(self) -> int:
        return self._child.process.pid

    # --- what it is given ------------------------------------------------------------------------

    async def feed(self, data: bytes) -> None:
        """Bytes of the container, cut anywhere. Waits while the child is busy; nothing after its end."""
        asked = bool(self._marks)  # a child that answers nothing, though it was fed, is given up
        if data and not asked:
            self._owe()
        for start in range(0, len(data), MOST_BYTES):
            await self._send(Kind.DATA, data[start : start + MOST_BYTES])
        if data and not asked:
            await self._send(Kind.MARK, PING)

    async def mark(self, body: bytes) -> None:
        """Ask for ``Reached(body)`` once everything that was fed is told."""
        self._owe()
        await self._send(Kind.MARK, body)

    async def end(self) -> None:
        """No more bytes will come."""
        if not self._ended:
            self._ended = True
            self._be_patient()
            with suppress(OSError):  # it has gone: whoever listens to it is told why
                self._child.writer.write_eof()

    def _owe(self) -> None:
        self._marks += 1
        if self._marks == 1:
            self._be_patient()

    async def _send(self, kind: Kind, body: bytes) -> None:
        if self._ended or self._gone:
            return
        try:
            self._child.writer.write(pack(kind, body))
            await self._child.writer.drain()
        except ConnectionError:
            self._gone = True  # whoever listens to it is told why

    # --- what it tells ---------------------------------------------------------------------------

    async def heard(self) -> AsyncIterator[Heard]:
        """Everything until the container's end, in order. Raises AudioError."""
        while True:
            kind, body = await self._next()
            match kind:
                case Kind.AUDIO if self._ready and len(body) % 2 == 0:
                    yield np.frombuffer(body, "<i2").astype(np.float32) / np.float32(32_768)
                case Kind.GAP if self._ready and len(body) == SAMPLES.size:
                    yield Gap(min(SAMPLES.unpack(body)[0], MOST_GAP_SAMPLES))
                case Kind.MARK if self._marks:
                    self._marks -= 1
                    if body != PING:
                        yield Reached(body)
                case Kind.READY:
                    _note_confinement(_parse(body, tuple[str, ...]))
                case Kind.OPENED:
                    self._ready = True
                    yield _parse(body, Opened)
                case Kind.FAILED:
                    raise _explained(_parse(body, _Failed))
                case Kind.DONE:
                    return
                case _:
                    raise _confused()

    async def _next(self) -> tuple[int, bytes]:
        """The next message. What the child owes must come before the deadline."""
        try:
            async with asyncio.timeout(None) as self._patience:
                self._be_patient()
                kind, length = HEADER.unpack(await self._child.reader.readexactly(HEADER.size))
                if length > MOST_BYTES:
                    raise _confused()
                return kind, await self._child.reader.readexactly(length)
        except TimeoutError:
            raise AudioError("The decoder does not answer.", code="decoder_failed") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._obituary() from None
        finally:
            self._patience = None

    def _be_patient(self) -> None:
        owes = self._always or self._ended or self._marks > 0
        if owes and self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + self._deadline_s)

    async def _obituary(self) -> AudioError:
        code = await self._child.exit_code()
        how = signal.strsignal(-code) if code is not None and code < 0 else f"exit status {code}"
        return AudioError(f"The decoder has ended by itself ({how}).", code="decoder_failed")


@asynccontextmanager
async def decoding(
    request: Request, *, descriptor: int | None = None, deadline_s: float = DEADLINE_S
) -> AsyncIterator[Decoder]:
    """A child that decodes what ``request`` asks for; see ``stream_of``, ``file_of`` and ``address_of``.

    Raises AudioError (extra_missing, decoder_failed) where none can be started.
    """
    by_itself = request["mode"] != "bytes"
    async with started(network=request["mode"] == "url", descriptor=descriptor) as child:
        decoder = Decoder(child, deadline_s, owes=by_itself)
        await decoder._send(Kind.OPEN, msgspec.json.encode(request))
        if by_itself:
            await decoder.end()
        yield decoder


def stream_of(encoding: str) -> Request:
    """Bytes that come as they are recorded; ``encoding`` is one of ``media.STREAMED``."""
    return {"mode": "bytes", "format": media.STREAMED[encoding]}


def address_of(url: str, timeout_s: float) -> Request:
    """What an address gives; its server may be silent for ``timeout_s``."""
    return {"mode": "url", "url": url, "timeout_s": timeout_s}


@asynccontextmanager
async def file_of(path: Path) -> AsyncIterator[Decoder]:
    """A child that decodes a file of any format. Raises OSError where it cannot be opened, and AudioError."""
    descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY)
    try:
        async with decoding({"mode": "file", "descriptor": descriptor}, descriptor=descriptor) as decoder:
            yield decoder
    finally:
        os.close(descriptor)


def _parse(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.MsgspecError:
        raise _confused() from None


def _explained(failed: _Failed) -> AudioError:
    """The child's own words, as far as a child may choose them: a code that we know, and a short line."""
    code = failed.code if failed.code in CODES else "decoder_failed"
    line = "".join(c if c.isprintable() else " " for c in failed.message[:MOST_WORDS])
    return AudioError(line, code=code)


@lru_cache(maxsize=16)
def _note_confinement(layers: tuple[str, ...]) -> None:
    """What this kernel allows a decoder to be confined by, once."""
    level = logging.INFO if "seccomp" in layers else logging.WARNING
    log.log(level, "decoders are confined by %s", ", ".join(layers)[:MOST_WORDS])


def _confused() -> AudioError:
    return AudioError("The decoder says what makes no sense.", code="decoder_failed")
