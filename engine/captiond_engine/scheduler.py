"""Which streams' jobs the device runs next. One device, one batch at a time, and no queue.

Takes: streams, and notice that one of them has heard more. Gives: their jobs to the device, the answers
back to them, and whether the device still answers. A stream is only marked as changed; newer audio joins
the pass that is due anyway, so a slow device makes passes fewer, never older. Knows no audio and no wire;
its only clock is the loop's. Whose turn it is, ``turns`` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from captiond_engine.capacity import Capacity
from captiond_engine.errors import DeviceError
from captiond_engine.pace import Pace
from captiond_engine.speech_model import Device
from captiond_engine.stream import Stream
from captiond_engine.turns import Seat, Taken, take_batch
from captiond_engine.types import SAMPLE_RATE_HZ, Decoding

T = TypeVar("T")

FIRST_PAUSE_S = 0.25  # after a failure, so that a failing device is not asked thousands of times a second
LONGEST_PAUSE_S = 8.0
# How long a call of the device may take before the device is taken for hung: so many times the longest batch
# that was answered, as a long window with much text in it takes thirty times as long as a short one. Before
# the first batch, so many times the probe, which reads every weight, as each token of a text does.
PATIENCE_S = 20.0  # at least
BATCHES_OF_PATIENCE = 30
PROBES_OF_PATIENCE = 300
FIRST_PATIENCE_S = 180.0  # at most before the first batch, and before the first probe


class Scheduler:
    """``run`` it in a task; ``attach`` streams, ``notify`` after each push, flush or close.

    ``on_error`` hears of every failure of the device, ``on_recovery`` of the first answer after them. The
    scheduler goes on after a pause that grows from 0.25 to 8 s while the device keeps failing. Whoever wants
    to know of a device that nobody asks calls ``probe`` now and then.
    """

    def __init__(
        self,
        device: Device,
        *,
        batch_limit: int = 1,
        on_error: Callable[[DeviceError], None] = lambda error: None,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        if batch_limit < 1:
            raise ValueError(f"a batch holds at least one job, not {batch_limit}")
        self._device = device
        self._batch_limit = batch_limit
        self._on_error = on_error
        self._on_recovery = on_recovery
        self._seats: dict[Stream, Seat] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()  # the device is asked one thing at a time
        self._longest_batch_s = self._longest_probe_s = 0.0  # of those that were answered
        self.capacity = Capacity()
        self.failures = 0  # of the device, in a row
        self.answered_at: float | None = None  # the loop's time of the last answer that was no failure

    def attach(
        self,
        stream: Stream,
        on_events: Callable[[], None],
        boundary: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Serve ``stream``; ``on_events`` is called on the loop after every answer.

        All that is done for the stream is done inside ``boundary()``, so that a fault of ours can end this
        stream and leave the others.
        """
        if stream in self._seats:
            raise ValueError(f"stream {stream.name} is attached already")
        pace = Pace(asyncio.get_running_loop().time(), stream.heard_until)
        self._seats[stream] = Seat(stream, on_events, boundary, pace)
        self.notify(stream)

    def detach(self, stream: Stream) -> None:
        """Serve ``stream`` no more. An answer that is on its way is forgotten."""
        self._seats.pop(stream, None)

    def notify(self, stream: Stream) -> None:
        """``stream`` has heard more, or was flushed or closed: look at it again."""
        seat = self._seats.get(stream)
        if seat is None:
            return
        seat.look(asyncio.get_running_loop().time())
        if seat.changed_at is not None:
            self._changed.set()

    def speech_share(self, stream: Stream) -> float:
        """How much of ``stream``'s time is speech, 0 to 1; 1 while that is not known, 0 without a seat."""
        seat = self._seats.get(stream)
        if seat is None:
            return 0.0
        seat.follow(asyncio.get_running_loop().time())
        return seat.pace.share

    async def run(self) -> None:
        """Serve until cancelled. Only one call may run."""
        while True:
            batch = self._next_batch()
            if batch:
                await self._serve(batch)
            else:
                self._changed.clear()
                await self._changed.wait()

    @property
    def busy(self) -> bool:
        """Whether the device is being asked something now."""
        return self._turn.locked()

    @property
    def patience_s(self) -> float:
        """How long the device may take for one call before it is taken for hung."""
        if self._longest_batch_s:
            return max(PATIENCE_S, BATCHES_OF_PATIENCE * self._longest_batch_s)
        if not self._longest_probe_s:
            return FIRST_PATIENCE_S
        return min(FIRST_PATIENCE_S, max(PATIENCE_S, PROBES_OF_PATIENCE * self._longest_probe_s))

    async def probe(self) -> None:
        """Ask the device for the least that it can do. It ends like a batch: a failure, or an answer."""
        try:
            _, took_s = await self._ask(self._device.probe)
        except DeviceError as error:
            self.failures += 1
            self._on_error(error)
        else:
            self._longest_probe_s = max(self._longest_probe_s, took_s)
            self.capacity.probed(took_s)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """The device's answer once its turn has come, and the seconds that it took. Raises DeviceError."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            began = loop.time()
            answer = await call()
        self.answered_at = loop.time()
        if self.failures:
            self.failures = 0
            self._on_recovery()
        return answer, self.answered_at - began

    def _next_batch(self) -> list[Taken]:
        now = asyncio.get_running_loop().time()
        return take_batch([*self._seats.values()], now, self._batch_limit, self.capacity.batches)

    async def _serve(self, batch: list[Taken]) -> None:
        try:
            decodings, took_s = await self._ask(lambda: self._device.run([taken.job for taken in batch]))
        except DeviceError as error:
            await self._fail(batch, error)
            return
        except Exception as error:  # no fault of a device: what was asked of it cannot be answered
            self._refuse(batch, error)
            return
        self._longest_batch_s = max(self._longest_batch_s, took_s)
        self.capacity.measure(
            batch[0].job.kind,
            len(batch),
            sound_s=sum(taken.sound_s for taken in batch),
            new_s=sum(taken.new_s for taken in batch),
            took_s=took_s,
        )
        for taken, decoding in zip(batch, decodings, strict=True):
            self._answer(taken, decoding, took_s)

    def _refuse(self, batch: list[Taken], error: Exception) -> None:
        """One job of ``batch`` ends its stream. Of several it is not known which: each is tried alone."""
        if len(batch) == 1:
            with batch[0].seat.boundary():
                raise error
        else:
            self._on_error(DeviceError(f"Of {len(batch)} passes together one cannot be decoded: {error!r}."))
            self._give_back(batch)

    async def _fail(self, batch: list[Taken], error: DeviceError) -> None:
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures, 10))
        self.failures += 1
        self._on_error(error)
        self._give_back(batch)
        await asyncio.sleep(pause)

    def _give_back(self, batch: list[Taken]) -> None:
        for taken in batch:
            taken.seat.alone = taken.seat.alone or len(batch) > 1
            self._answer(taken, None)

    def _answer(self, taken: Taken, decoding: Decoding | None, took_s: float = 0.0) -> None:
        """Give the stream its answer, unless it has left; a new stream in its slot is another one."""
        seat = taken.seat
        if self._seats.get(seat.stream) is not seat:
            return
        with seat.boundary():
            if decoding is None:
                seat.stream.fail(taken.job)
            else:
                seat.alone = False
                took = round(took_s * SAMPLE_RATE_HZ)
                seat.stream.complete(taken.job, decoding, queued_ms=taken.queued_ms, took=took)
            self.notify(seat.stream)
            seat.on_events()
