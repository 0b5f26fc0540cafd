"""Law 6 at the scheduler: a slot that was used before gives what a fresh one gives, however late the device.

The device really listens (``tests.sim.audible``): each stream says words that no other stream says, so that
an answer in the wrong place is seen by its words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from captiond_engine.scheduler import Scheduler
from captiond_engine.stream import Stream, StreamSettings
from captiond_engine.types import (
    SAMPLE_RATE_HZ,
    AudioFrame,
    Decoding,
    Float32Array,
    Job,
    StreamEvent,
    Transcript,
)
from captiond_engine.vad.detector import open_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.audible import AudibleDevice, spoken
from tests.sim.clock import run_jumping
from tests.sim.driving import check_order
from tests.sim.scripted import scripted_traits

FRAME = SAMPLE_RATE_HZ // 10
WORDS = 18  # that can be told apart by their length
SLOTS = 2


class LateDevice(AudibleDevice):
    """Takes its time, a different one with each batch."""

    def __init__(self, delays_s: Sequence[float]) -> None:
        super().__init__()
        self._delays_s = delays_s
        self.batches: list[tuple[Job, ...]] = []

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        self.batches.append(tuple(jobs))
        answers = [self.decode(job) for job in jobs]
        await asyncio.sleep(self._delays_s[len(self.batches) % len(self._delays_s)])
        return answers


@dataclass
class Turn:
    """One stream's use of a slot: what it says, and when it leaves without an end (None: it stays)."""

    words: list[int]
    leaves_s: float | None = None
    events: list[StreamEvent] = field(default_factory=list)
    gone: bool = False

    @property
    def texts(self) -> list[str]:
        return [event.committed for event in self.events if isinstance(event, Transcript) and event.final]

    @property
    def seen(self) -> set[str]:
        """Every word that was ever shown."""
        told = [event for event in self.events if isinstance(event, Transcript)]
        return {word for event in told for word in f"{event.committed} {event.tentative}".split()}


async def use(slot: int, turns: Sequence[Turn], device: LateDevice, scheduler: Scheduler) -> None:
    """One stream after another in one slot, with no pause between them."""
    for turn in turns:
        pcm, _ = spoken(turn.words)
        stream = Stream(
            f"slot{slot}",
            traits=scripted_traits(),
            tokenizer=device.tokenizer,
            detector=open_detector("webrtc", 2),
            settings=StreamSettings(),
            slot=slot,
        )
        answered = asyncio.Event()

        def collect(turn: Turn = turn, stream: Stream = stream, answered: asyncio.Event = answered) -> None:
            assert not turn.gone, "who has left is told nothing"
            turn.events += stream.take_events()
            if stream.done:
                answered.set()

        scheduler.attach(stream, collect)
        await say(stream, pcm, turn, scheduler)
        if turn.leaves_s is None:
            stream.close()
            scheduler.notify(stream)
            collect()
            await answered.wait()
            check_order(turn.events)
        scheduler.detach(stream)
        turn.gone = True


async def say(stream: Stream, pcm: Float32Array, turn: Turn, scheduler: Scheduler) -> None:
    """At the pace of speech, until it is over or the speaker leaves."""
    for start in range(0, len(pcm), FRAME):
        if turn.leaves_s is not None and start / SAMPLE_RATE_HZ >= turn.leaves_s:
            return
        await asyncio.sleep(FRAME / SAMPLE_RATE_HZ)
        stream.push(AudioFrame(stream.name, stream.heard_until, pcm[start : start + FRAME]))
        scheduler.notify(stream)


@st.composite
def uses(draw: st.DrawFn) -> list[list[Turn]]:
    """For each slot some streams one after another; all words of all streams are different."""
    left = list(draw(st.permutations(range(WORDS))))
    slots = []
    for _ in range(SLOTS):
        turns = []
        for _ in range(draw(st.integers(1, 3))):
            words = [left.pop() for _ in range(draw(st.integers(1, 3)))]
            turns.append(Turn(words, draw(st.one_of(st.none(), st.floats(0.3, 2.5)))))
        slots.append(turns)
    return slots


@settings(max_examples=25, deadline=None)
@given(
    slots=uses(),
    delays_s=st.lists(st.sampled_from([0.0, 0.05, 0.4, 1.5, 4.0]), min_size=1, max_size=5),
    limit=st.integers(1, SLOTS),
)
def test_what_a_slot_held_before_never_shows(
    slots: list[list[Turn]], delays_s: list[float], limit: int
) -> None:
    async def main() -> None:
        device = LateDevice(delays_s)
        scheduler = Scheduler(device, batch_limit=limit)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(scheduler.run(), name="scheduler")
            async with asyncio.TaskGroup() as speaking:
                for slot, turns in enumerate(slots):
                    speaking.create_task(use(slot, turns, device, scheduler), name=f"slot {slot}")
            serving.cancel()

    run_jumping(main())
    for turns in slots:
        for turn in turns:
            own = {f"w{number}" for number in turn.words}
            assert turn.seen <= own, "nothing of another stream is shown"
            if turn.leaves_s is None:
                assert " ".join(turn.texts).split() == [f"w{number}" for number in turn.words]
