"""A websocket connection whose peer cannot hold up the others, nor fill our memory.

Takes: what asyncio received. Gives: websockets' own protocol small pieces of it, one after another. It reads
no further while the peer does not read what it is answered (websockets answers every ping at once and keeps
the answers), while as many messages wait as may, and while frames come faster than anybody speaks. TCP then
pushes back, and nothing is lost. Knows no route.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import Event

PIECE_BYTES = 4_096  # of empty frames this is 700, which take about 10 ms
FRAMES_A_SECOND = 4_000  # messages of 20 ms at 80 times the pace of speech
AHEAD_S = 0.25  # worth of frames may come at once


class FairConnection(ServerConnection):
    """As ``websockets`` makes it, with a measure."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rest = b""  # received and not looked at yet; never more than asyncio reads at once
        self._timer: asyncio.Handle | None = None
        self._frames = 0
        self._paid_until = 0.0  # when the frames so far would have come at the measured pace

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.recv_messages.resume = self._go_on

    def data_received(self, data: bytes) -> None:
        self._rest = self._rest + data if self._rest else data
        self._go_on()

    def eof_received(self) -> None:
        self._take_all()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._take_all()
        super().connection_lost(exc)
        # It must not hold on to itself: a stream's memory would wait for the collector of cycles, which has
        # much else to look at and comes late.
        self.recv_messages.resume = _nothing
        vars(self.protocol).pop("select_subprotocol", None)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def process_event(self, event: Event) -> None:
        self._frames += 1
        super().process_event(event)

    def _go_on(self) -> None:
        """Look at the next piece, and read on once there is none and nothing is in the way."""
        if self._timer is not None:
            return
        if self._rest and not self._held():
            self._take(PIECE_BYTES)
        ahead_s = self._paid_until - self.loop.time()
        if ahead_s > AHEAD_S:
            self._timer = self.loop.call_later(ahead_s, self._next)
        elif self._rest and not self._held():
            self._timer = self.loop.call_soon(self._next)
        if self._timer is not None or self._held():
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _next(self) -> None:
        self._timer = None
        self._go_on()

    def _held(self) -> bool:
        return self.paused or self.recv_messages.paused

    def _take(self, size: int) -> None:
        piece, self._rest = self._rest[:size], self._rest[size:]
        before = self._frames
        super().data_received(piece)
        now = self.loop.time()
        self._paid_until = max(now, self._paid_until) + (self._frames - before) / FRAMES_A_SECOND

    def _take_all(self) -> None:
        """Nothing more will come, so that what is there needs no measure."""
        if self._rest:
            self._take(len(self._rest))


def _nothing() -> None:
    """What is resumed when there is nobody any more."""
