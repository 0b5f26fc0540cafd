"""Which stream's job the device runs next. One device, one batch at a time, and no queue.

Takes: streams, and notice that one of them has heard more. Gives: their jobs to the device, the answers
back to them, and whether the device still answers. A stream is only marked as changed; newer audio joins
the pass that is due anyway, so a slow device makes passes fewer, never older. Finals come before partials,
and within these the stream that has waited longest. Knows no audio and no wire; its only clock is the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from captiond_engine.errors import DeviceError
from captiond_engine.speech_model import Device
from captiond_engine.stream import Stream
from captiond_engine.types import Decoding, Job

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


@dataclass(slots=True, eq=False)
class _Seat:
    stream: Stream
    on_events: Callable[[], None]
    boundary: Callable[[], AbstractContextManager[None]]
    changed_at: float | None = None  # when work was first due that the device has not taken yet


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
        self._seats: dict[Stream, _Seat] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()  # the device is asked one thing at a time
        self._longest_batch_s = self._longest_probe_s = 0.0  # of those that were answered
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
        self._seats[stream] = _Seat(stream, on_events, boundary)
        self.notify(stream)

    def detach(self, stream: Stream) -> None:
        """Serve ``stream`` no more. An answer that is on its way is forgotten."""
        self._seats.pop(stream, None)

    def notify(self, stream: Stream) -> None:
        """``stream`` has heard more, or was flushed or closed: look at it again."""
        seat = self._seats.get(stream)
        if seat is not None and seat.changed_at is None and stream.has_work:
            seat.changed_at = asyncio.get_running_loop().time()
            self._changed.set()

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
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._ask(self._device.probe)
        except DeviceError as error:
            self.failures += 1
            self._on_error(error)
        else:
            self._longest_probe_s = max(self._longest_probe_s, loop.time() - began)

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the device answers, when its turn has come. Raises DeviceError."""
        async with self._turn:
            answer = await call()
        self.answered_at = asyncio.get_running_loop().time()
        if self.failures:
            self.failures = 0
            self._on_recovery()
        return answer

    def _next_batch(self) -> list[tuple[_Seat, Job, float]]:
        """The most urgent jobs, each with the milliseconds that it waited."""
        changed = [seat for seat in self._seats.values() if seat.changed_at is not None]
        due = []
        for i, seat in enumerate(changed):
            with seat.boundary():
                urgency = seat.stream.urgency
                if urgency is not None:
                    due.append((urgency, seat.changed_at or 0.0, i, seat))
        now = asyncio.get_running_loop().time()
        batch = []
        for _, changed_at, _, seat in sorted(due, key=lambda entry: entry[:3])[: self._batch_limit]:
            with seat.boundary():
                job = seat.stream.next_job()
                if job is not None:
                    batch.append((seat, job, (now - changed_at) * 1000))
        for seat in changed:
            with seat.boundary():
                if not seat.stream.has_work:
                    seat.changed_at = None
        return batch

    async def _serve(self, batch: list[tuple[_Seat, Job, float]]) -> None:
        began = asyncio.get_running_loop().time()
        try:
            decodings = await self._ask(lambda: self._device.run([job for _, job, _ in batch]))
        except DeviceError as error:
            await self._fail(batch, error)
            return
        except Exception as error:  # no fault of a device: what was asked of it cannot be answered
            for seat, _, _ in batch:
                with seat.boundary():
                    raise error
            return
        took_s = asyncio.get_running_loop().time() - began
        self._longest_batch_s = max(self._longest_batch_s, took_s)
        for (seat, job, queued_ms), decoding in zip(batch, decodings, strict=True):
            self._answer(seat, job, decoding, queued_ms)

    async def _fail(self, batch: list[tuple[_Seat, Job, float]], error: DeviceError) -> None:
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures, 10))
        self.failures += 1
        self._on_error(error)
        for seat, job, _ in batch:
            self._answer(seat, job, None, 0.0)
        await asyncio.sleep(pause)

    def _answer(self, seat: _Seat, job: Job, decoding: Decoding | None, queued_ms: float) -> None:
        if self._seats.get(seat.stream) is not seat:
            return
        with seat.boundary():
            if decoding is None:
                seat.stream.fail(job)
            else:
                seat.stream.complete(job, decoding, queued_ms=queued_ms)
            seat.on_events()
            self.notify(seat.stream)
