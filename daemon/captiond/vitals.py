"""Whether the daemon lives: the event loop and the device have both answered, and systemd hears of it.

Takes: the loop's own timer, and a small job for a device that nobody asks. Gives: how late the loop was to
``metrics``, a hung or failing device to ``/readyz``, and signs of life to systemd's watchdog, which are
withheld while the device does not answer: then systemd starts the daemon anew. Knows no stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from captiond_engine.scheduler import Scheduler

from captiond.metrics import Metrics
from captiond.readiness import Readiness
from captiond.systemd import Notifier

BEAT_S = 0.5  # a loop that is blocked for longer than a second is seen by a beat that comes late
STATUS_S = 2.0  # between sentences for `systemctl status`
PROBE_S = 10.0  # a device that has not answered for so long is asked
PROBE_AGAIN_S = 3.0  # the same while it fails
PROBE_SHARE = 0.01  # of the time, and of one processor core, is spent on asking at most
SIGNS = 3  # of life in the time that systemd waits for one


class Vitals:
    """``beat`` and ``keep_asking`` run in two tasks: a device that hangs does not stop the beat."""

    def __init__(
        self,
        scheduler: Scheduler,
        readiness: Readiness,
        metrics: Metrics,
        notifier: Notifier,
        sentence: Callable[[], str],
    ) -> None:
        self._scheduler = scheduler
        self._readiness = readiness
        self._metrics = metrics
        self._notifier = notifier
        self._sentence = sentence
        self._began_at = asyncio.get_running_loop().time()
        self._pause_s = PROBE_S
        self._hangs = False
        self._next_sign_at = self._next_status_at = 0.0

    @property
    def silent_s(self) -> float:
        """How long ago the device answered."""
        answered_at = self._scheduler.answered_at
        return asyncio.get_running_loop().time() - (self._began_at if answered_at is None else answered_at)

    @property
    def device_answers(self) -> bool:
        """Whether its last answer is as recent as that of a device must be, busy or not."""
        return self.silent_s <= self._pause_s + self._scheduler.patience_s

    async def beat(self) -> None:
        """Look at everything every half second, and measure how late this comes; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._metrics.stalled(max(0.0, loop.time() - due))
            self._look_at_device()
            self._tell_systemd(loop.time())

    async def keep_asking(self) -> None:
        """Probe a device that has not answered for a while; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(PROBE_AGAIN_S, self._pause_s - self.silent_s))
            if self._scheduler.busy or self.silent_s < self._pause_s:
                continue
            began, computed_s = loop.time(), time.process_time()
            await self._scheduler.probe()
            cost_s = max(loop.time() - began, time.process_time() - computed_s)
            self._pause_s = PROBE_AGAIN_S if self._scheduler.failures else max(PROBE_S, cost_s / PROBE_SHARE)

    def _look_at_device(self) -> None:
        if not self.device_answers:
            self._hangs = True
            if not self._scheduler.failures:  # else it is told what it says
                self._readiness.block("device", f"The device has not answered for {self.silent_s:.0f} s.")
        elif self._hangs:
            self._hangs = False
            self._readiness.clear("device")

    def _tell_systemd(self, now: float) -> None:
        every_s = self._notifier.watchdog_s
        if every_s and now >= self._next_sign_at and not self._hangs:
            self._next_sign_at = now + every_s / SIGNS
            self._notifier.watchdog()
        if now >= self._next_status_at:
            self._next_status_at = now + STATUS_S
            self._notifier.status(self._sentence())
