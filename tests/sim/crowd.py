"""Many speakers at one scheduler, in simulated time: live ones at the pace of speech, files faster than that.

Takes: scripts and a device. Gives: what each speaker was told and when, and every batch with its time. Knows
no socket and no session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from captiond_engine.errors import DeviceError
from captiond_engine.scheduler import Scheduler
from captiond_engine.stream import Stream, StreamSettings
from captiond_engine.types import (
    SAMPLE_RATE_HZ,
    AudioFrame,
    AudioLost,
    Decoding,
    Job,
    StreamEvent,
    Transcript,
    samples_from_ms,
)

from tests.sim.clock import run_jumping
from tests.sim.driving import check_order
from tests.sim.scripted import Script, ScriptedDetector, ScriptedDevice, say, scripted_traits

S = SAMPLE_RATE_HZ
FRAME = S // 10
READ_AHEAD = samples_from_ms(20_000)  # of a file that is read as fast as it is decoded
LISTENING = StreamSettings(ring=2 * READ_AHEAD)


def conversation(turns: int, words: int = 8, pause: int = S, at: int = S) -> Script:
    """Turns of so many different words, with a pause after each."""
    script: Script = ()
    for turn in range(turns):
        text = " ".join(f"t{turn}w{i}" for i in range(words))
        script = (*script, *say(text, at=at + turn * (words * 4_800 + pause)))
    return script


def monologue(seconds: float, at: int = S) -> Script:
    """Words without a pause."""
    return say(" ".join(f"w{i}" for i in range(round(seconds / 0.3))), at=at)


class Speaker:
    """Speaks one script into one stream, and notes when each event came."""

    def __init__(
        self,
        slot: int,
        script: Script,
        device: ScriptedDevice,
        scheduler: Scheduler,
        settings: StreamSettings = LISTENING,
    ) -> None:
        self.script = script
        self.stream = Stream(
            f"stream{slot}",
            traits=scripted_traits(),
            tokenizer=device.tokenizer,
            detector=ScriptedDetector(script),
            settings=settings,
            slot=slot,
        )
        self.events: list[StreamEvent] = []
        self.came: list[tuple[float, StreamEvent]] = []
        self.scheduler = scheduler
        self.answered = asyncio.Event()
        self.boundary: Callable[[], AbstractContextManager[None]] = nullcontext
        self._progress = asyncio.Event()
        self._opened = 0.0

    def collect(self) -> None:
        now = asyncio.get_running_loop().time() - self._opened
        for event in self.stream.take_events():
            self.events.append(event)
            self.came.append((now, event))
        self._progress.set()
        if self.stream.done:
            self.answered.set()

    async def speak(self, until: int, *, waits: bool = False) -> None:
        """At the pace of speech; ``waits``: no further than there is room, as a socket is read."""
        began = asyncio.get_running_loop().time()

        async def before() -> None:
            said_at = began + (self.stream.heard_until + FRAME) / S
            await asyncio.sleep(max(0.0, said_at - asyncio.get_running_loop().time()))
            if waits:
                await self._room()

        await self._say(until, before)

    async def read(self, until: int) -> None:
        """As a file: as fast as there is room, and no slower than the device decodes."""
        await self._say(until, self._room)

    async def _say(self, until: int, before: Callable[[], Awaitable[None]]) -> None:
        self._opened = asyncio.get_running_loop().time()
        self.scheduler.attach(self.stream, self.collect, self.boundary)
        while self.stream.heard_until < until:
            await before()
            self.push(FRAME)
        self.stream.close()
        self._look()
        await self.answered.wait()

    def push(self, samples: int) -> None:
        """Silence: what is said, the script knows."""
        pcm = np.zeros(samples, np.float32)
        self.stream.push(AudioFrame(self.stream.name, self.stream.heard_until, pcm))
        self._look()

    async def _room(self) -> None:
        while self.stream.backlog > READ_AHEAD or self.stream.room < FRAME:
            self._progress.clear()
            await self._progress.wait()

    def _look(self) -> None:
        self.collect()
        self.scheduler.notify(self.stream)

    @property
    def finals(self) -> list[str]:
        return [e.committed for e in self.events if isinstance(e, Transcript) and e.final]

    @property
    def words(self) -> list[str]:
        return " ".join(self.finals).split()

    @property
    def waits(self) -> list[float]:
        """Seconds from the end of each segment's last sample to its final, of a live speaker."""
        return [t - e.heard_until / S for t, e in self.came if isinstance(e, Transcript) and e.final]

    @property
    def partials(self) -> list[tuple[float, Transcript]]:
        return [(t, e) for t, e in self.came if isinstance(e, Transcript) and not e.final]

    @property
    def lost(self) -> list[AudioLost]:
        return [e for e in self.events if isinstance(e, AudioLost)]


class TimedDevice(ScriptedDevice):
    """Notes when each batch began and how long it took."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timed: list[tuple[float, float, tuple[Job, ...]]] = []

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await super().run(jobs)
        finally:
            self.timed.append((began, loop.time() - began, tuple(jobs)))


@dataclass
class Crowd:
    """What came of a simulation."""

    speakers: list[Speaker]
    device: TimedDevice
    scheduler: Scheduler
    errors: list[DeviceError] = field(default_factory=list)

    @property
    def batches(self) -> list[tuple[float, float, tuple[Job, ...]]]:
        """Beginning, seconds, jobs."""
        return self.device.timed

    @property
    def busy(self) -> float:
        """Share of the device's time, from its first batch to its last."""
        first, last = self.batches[0], self.batches[-1]
        return sum(took for _, took, _ in self.batches) / (last[0] + last[1] - first[0])


def simulate(
    live: Sequence[Script],
    until: int | None = None,
    *,
    files: Sequence[Script] = (),
    batch_limit: int = 1,
    also: Callable[[list[Speaker], Scheduler], object] | None = None,
    device: TimedDevice | None = None,
    closed: Sequence[int] | None = None,
    settings: StreamSettings = LISTENING,
    live_waits: bool = False,
    **device_options: Any,
) -> Crowd:
    """All speakers at once, until everything is answered. Slots: the live ones first, then the files.

    Live ones speak ``until`` a sample, by default a second longer than their script. ``closed``: slots whose
    streams must end in good order, by default all.
    """

    async def main() -> Crowd:
        scripts = dict(enumerate([*live, *files]))
        timed = device or TimedDevice(scripts, **device_options)
        errors: list[DeviceError] = []
        scheduler = Scheduler(timed, batch_limit=batch_limit, on_error=errors.append)
        speakers = [Speaker(slot, script, timed, scheduler, settings) for slot, script in scripts.items()]
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(scheduler.run(), name="scheduler")
            async with asyncio.TaskGroup() as speaking:
                for slot, speaker in enumerate(speakers):
                    length = speaker.script[-1].end + S
                    if slot < len(live):
                        said = speaker.speak(until or length, waits=live_waits)
                    else:
                        said = speaker.read(length)
                    speaking.create_task(said, name=speaker.stream.name)
                if also is not None:
                    also(speakers, scheduler)
            serving.cancel()
        for slot, speaker in enumerate(speakers):
            check_order(speaker.events, closed=closed is None or slot in closed)
        return Crowd(speakers, timed, scheduler, errors)

    return run_jumping(main())


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 100) * len(ordered) // 100) - 1)]
