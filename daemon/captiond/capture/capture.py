"""One open device, from PortAudio's callback to the task that wants its sound.

Takes: PortAudio's callbacks, in its thread. Gives: blocks on the event loop, and a CaptureError when no more
will come. The callback copies into a ring and wakes the loop; it logs nothing, waits for nothing and holds
no lock. Knows no PortAudio.
"""

from __future__ import annotations

import asyncio
from typing import Any

from captiond_engine.types import Float32Array

from captiond.capture.inputs import CaptureError, CaptureInterruptedError, InputDevice
from captiond.capture.ring import Block, BlockRing

BLOCK_MS = 50
RING_S = 30
STALL_S = 3.0  # without a block, and the device counts as gone, whatever it says of itself


class Capture:
    """``hear`` and ``finish`` are PortAudio's to call, ``take`` is one task's."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, device: InputDevice, rate_hz: int, channel: int
    ) -> None:
        self.device = device
        self.rate_hz = rate_hz
        self.block_frames = rate_hz * BLOCK_MS // 1000
        self._loop = loop
        self._ring = BlockRing(RING_S * 1000 // BLOCK_MS, self.block_frames, channel)
        self._news = asyncio.Event()
        self._told = False  # the loop has been asked to wake us, and we have not looked since
        self._finished = False
        self._interrupted = False

    def hear(self, data: Float32Array, frames: int, time: Any, status: Any) -> None:
        """PortAudio's callback: float32 [frames, channels]."""
        self._ring.put(data, self._loop.time(), bool(status.input_overflow))
        self._wake()

    def finish(self) -> None:
        """No more will come: the device is gone, or closed. From any thread."""
        self._finished = True
        self._wake()

    def interrupt(self) -> None:
        """Ask the task that takes to close the device for a moment."""
        self._interrupted = True
        self._wake()

    async def take(self) -> list[Block]:
        """The blocks that have come, at least one; waits for it.

        Raises CaptureError when the device is gone, or says that it runs and gives nothing, and
        CaptureInterruptedError when it is to be opened anew.
        """
        deadline = self._loop.time() + STALL_S
        while True:
            self._told = False
            self._news.clear()
            finished = self._finished  # before the ring, so that its last blocks are not passed over
            blocks = list(self._ring.take())
            if blocks:
                return blocks
            if self._interrupted:
                raise CaptureInterruptedError(f"{self.device.full_name} is opened anew.")
            if finished:
                raise CaptureError(f"{self.device.full_name} is gone.")
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                if not self._told:
                    raise CaptureError(
                        f"{self.device.full_name} has given no sound for {STALL_S:g} s."
                    ) from None

    def _wake(self) -> None:
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:
                return  # the loop is closed: nobody is left to hear
