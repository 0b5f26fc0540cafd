"""A speaker's bytes into its session: raw PCM at once, a container through a decoder of its own.

Takes: binary messages as they come, and commands between them. Gives: samples and gaps, in order. Raises
ClientError for an encoding that cannot be had here, AudioError for bytes that cannot be read. Knows no
socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import numpy as np
from captiond_engine.audio.pcm import PcmDecoder
from captiond_engine.types import Float32Array

from captiond.containers import media
from captiond.containers.decoder import Decoder, Gap, Reached, decoding, stream_of
from captiond.messages import ClientError
from captiond.query import SpeakQuery

Hear = Callable[[Float32Array], Awaitable[None]]
Skip = Callable[[int], None]
Action = Callable[[], None]


class Intake(Protocol):
    """``run`` in a task of its own, beside the rest; it returns when no more sound will come."""

    @property
    def mended(self) -> int:
        """Samples that were no numbers or too loud."""

    async def run(self) -> None: ...

    async def take(self, data: bytes) -> None:
        """Bytes, cut anywhere. Waits while there is no room for their sound."""

    async def then(self, action: Action) -> None:
        """Do ``action`` once everything that was taken is heard."""

    async def finish(self) -> None:
        """No more bytes: everything that was taken is heard when this returns."""

    async def leave(self) -> None:
        """The speaker is gone without an end; as ``finish``, but the last sound may go on elsewhere."""


def intake_of(query: SpeakQuery, hear: Hear, skip: Skip) -> Intake:
    """What takes the bytes that ``query`` promises."""
    if query.encoding not in media.STREAMED:
        return PcmIntake(query, hear)
    if not media.installed():
        raise ClientError(
            "extra_missing",
            f"This daemon cannot read encoding={query.encoding}: PyAV is not installed. {media.ADVICE}",
        )
    return ContainerIntake(query.encoding, hear, skip)


class PcmIntake:
    """Raw PCM needs no child: it is decoded where it arrives."""

    def __init__(self, query: SpeakQuery, hear: Hear) -> None:
        self._decoder = PcmDecoder(query.encoding, query.rate_hz, query.channels)
        self._hear = hear

    @property
    def mended(self) -> int:
        return self._decoder.nonfinite + self._decoder.clipped

    async def run(self) -> None:
        """Nothing runs beside."""

    async def take(self, data: bytes) -> None:
        await self._hear(self._decoder.decode(data))

    async def then(self, action: Action) -> None:
        action()

    async def finish(self) -> None:
        await self._hear(self._decoder.finish())

    async def leave(self) -> None:
        """What the resampler still holds is sent again by a speaker that comes back."""


class ContainerIntake:
    """A container as it is recorded; its sound comes when the decoder has it."""

    mended = 0

    def __init__(self, encoding: str, hear: Hear, skip: Skip) -> None:
        self._encoding = encoding
        self._hear = hear
        self._skip = skip
        self._decoder: Decoder | None = None
        self._started, self._over = asyncio.Event(), asyncio.Event()
        self._actions: deque[Action] = deque()  # one a mark: no more than the pipe to the decoder holds

    async def run(self) -> None:
        try:
            async with decoding(stream_of(self._encoding)) as self._decoder:
                self._started.set()
                async for heard in self._decoder.heard():
                    if isinstance(heard, np.ndarray):
                        await self._hear(heard)
                    elif isinstance(heard, Gap):
                        self._skip(heard.samples)
                    elif isinstance(heard, Reached) and self._actions:
                        self._actions.popleft()()
        finally:
            self._decoder = None
            self._started.set()
            self._over.set()

    async def take(self, data: bytes) -> None:
        await self._started.wait()
        if self._decoder is not None:
            await self._decoder.feed(data)

    async def then(self, action: Action) -> None:
        await self._started.wait()
        if self._decoder is not None:
            self._actions.append(action)
            await self._decoder.mark(b"then")

    async def finish(self) -> None:
        await self._started.wait()
        if self._decoder is not None:
            await self._decoder.end()
        await self._over.wait()

    async def leave(self) -> None:
        await self.finish()
