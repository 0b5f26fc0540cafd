"""Laws of a crowded device, in simulated time: who is served when, and that nobody waits for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from captiond_engine.errors import DeviceError
from captiond_engine.pace import LONGEST_LEAD_S
from captiond_engine.scheduler import Scheduler
from captiond_engine.turns import LONGEST_BATCH_PASSES, LONGEST_BATCH_S
from captiond_engine.types import Decoding, Job, Transcript, samples_from_ms
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.crowd import (
    LISTENING,
    Crowd,
    S,
    Speaker,
    TimedDevice,
    conversation,
    monologue,
    percentile,
    simulate,
)

LEARNING = 20  # batches, until costs are known


def cost(fixed_s: float, per_job_s: float) -> Callable[[Sequence[Job]], float]:
    return lambda jobs: fixed_s + per_job_s * len(jobs)


@settings(max_examples=12, deadline=None)
@given(
    streams=st.integers(1, 9),
    limit=st.integers(1, 6),
    fixed_s=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    per_job_s=st.sampled_from([0.005, 0.05, 0.3]),
)
def test_a_batch_is_of_one_kind_and_keeps_within_its_time(
    streams: int, limit: int, fixed_s: float, per_job_s: float
) -> None:
    scripts = [conversation(2, at=S + i * 5_000) for i in range(streams)]
    crowd = simulate(scripts, batch_limit=limit, cost_s=cost(fixed_s, per_job_s))
    longest_s = max(LONGEST_BATCH_S, LONGEST_BATCH_PASSES * (fixed_s + per_job_s)) + 1e-6
    for _, _, jobs in crowd.batches:
        assert len({job.kind for job in jobs}) == 1
        assert len({job.slot for job in jobs}) == len(jobs) <= limit
    longer = [took for _, took, jobs in crowd.batches[LEARNING:] if took > longest_s and len(jobs) > 1]
    assert len(longer) <= limit, "larger batches than were measured are tried, and not again soon"
    for speaker in crowd.speakers:
        assert speaker.words == [word.text for word in speaker.script]


def test_batches_grow_with_the_crowd_where_rows_are_cheap() -> None:
    def mean_rows(streams: int) -> float:
        scripts = [conversation(3, at=S + i * 3_000) for i in range(streams)]
        crowd = simulate(scripts, batch_limit=8, cost_s=cost(0.1, 0.005))
        return sum(len(jobs) for _, _, jobs in crowd.batches) / len(crowd.batches)

    assert mean_rows(1) == 1
    assert mean_rows(3) < mean_rows(10)
    assert mean_rows(14) > 2


@settings(max_examples=8, deadline=None)
@given(streams=st.integers(2, 8), limit=st.integers(1, 3), batch_s=st.sampled_from([0.3, 0.7]))
def test_nobody_is_passed_over_while_another_is_served_again_and_again(
    streams: int, limit: int, batch_s: float
) -> None:
    """All speak without a pause, and the device is too slow for that: each has its turn."""
    scripts = [monologue(12, at=S + i * 4_000) for i in range(streams)]
    crowd = simulate(scripts, batch_limit=limit, decode_s=batch_s)
    served = [{job.slot for job in jobs} for _, _, jobs in crowd.batches if jobs[0].kind == "partial"]
    for slot in range(streams):
        turns = [i for i, slots in enumerate(served) if slot in slots]
        for one, next_one in pairwise(turns):
            between = Counter(other for slots in served[one + 1 : next_one] for other in slots)
            assert max(between.values(), default=0) <= 2, (slot, served)


class Watched(TimedDevice):
    """Notes what was left waiting when each batch began."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.speakers: list[Speaker] = []
        self.left: list[list[int]] = []

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        urgencies = [speaker.stream.urgency for speaker in self.speakers]
        self.left.append([urgency for urgency in urgencies if urgency is not None])
        return await super().run(jobs)


@settings(max_examples=8, deadline=None)
@given(streams=st.integers(2, 10), limit=st.integers(1, 4), batch_s=st.sampled_from([0.1, 0.25, 0.6]))
def test_no_partial_is_decoded_while_a_final_waits(streams: int, limit: int, batch_s: float) -> None:
    scripts = [conversation(2, words=3 + i % 6, at=S + i * 2_500) for i in range(streams)]

    def watch(speakers: list[Speaker], _: Scheduler) -> None:
        device.speakers = speakers

    device = Watched(dict(enumerate(scripts)), decode_s=batch_s)
    crowd = simulate(scripts, batch_limit=limit, also=watch, device=device)
    for (_, _, jobs), left in zip(crowd.batches, device.left, strict=True):
        if jobs[0].kind == "partial":
            assert min(left, default=2) == 2


def test_overload_makes_partials_rare_and_finals_hardly_later() -> None:
    """Half as much again as the device can do: a partial every second and a half, and every final."""

    def crowd_of(streams: int) -> Crowd:
        scripts = [conversation(5, at=S + i * 3_000) for i in range(streams)]
        return simulate(scripts, batch_limit=4, cost_s=cost(0.1, 0.05))

    few, many = crowd_of(3), crowd_of(9)
    assert many.busy > 0.95
    for crowd in (few, many):
        for speaker in crowd.speakers:
            assert speaker.words == [word.text for word in speaker.script]
            assert not speaker.lost
    assert len(many.speakers[0].partials) < len(few.speakers[0].partials)
    waits = [wait for speaker in many.speakers for wait in speaker.waits]
    assert percentile(waits, 0.95) < 1.5
    early = [wait for speaker in many.speakers for wait in speaker.waits[:2]]
    late = [wait for speaker in many.speakers for wait in speaker.waits[-2:]]
    assert max(late) <= max(early) + 0.5, "it does not grow"


def test_a_file_as_fast_as_it_goes_costs_the_others_no_more_than_one_who_speaks() -> None:
    turns = 5
    live = [conversation(turns, at=S + i * 3_000) for i in range(6)]
    costs = {"batch_limit": 4, "cost_s": cost(0.1, 0.05)}
    with_file = simulate(live, files=[conversation(30)], **costs)
    with_speaker = simulate([*live, conversation(turns)], **costs)
    longest_s = max(took for _, took, _ in with_file.batches)

    def of_live(crowd: Crowd) -> tuple[float, float, int]:
        waits = [wait for speaker in crowd.speakers[:6] for wait in speaker.waits]
        partials = sum(len(speaker.partials) for speaker in crowd.speakers[:6])
        return percentile(waits, 0.5), percentile(waits, 0.95), partials

    (half, most, partials), (half_then, most_then, partials_then) = of_live(with_file), of_live(with_speaker)
    assert half <= half_then + longest_s / 2
    assert most <= most_then + longest_s
    assert partials >= 0.85 * partials_then
    file = with_file.speakers[-1]
    assert file.words == [word.text for word in file.script]
    over_s, turn_s = live[0][-1].end / S, 8 * 0.3 + 1
    in_time = [e for t, e in file.came if isinstance(e, Transcript) and e.final and t <= over_s]
    assert in_time[-1].heard_until / S >= over_s - LONGEST_LEAD_S - turn_s, "nor is the file starved"


def test_a_file_alone_has_the_whole_device() -> None:
    script = conversation(30)
    crowd = simulate([], files=[script], decode_s=0.1)
    assert crowd.speakers[0].came[-1][0] < script[-1].end / S / 5
    assert crowd.busy > 0.95


def test_a_stream_that_is_far_behind_is_no_file() -> None:
    """A device that stood still for long: all catch up, those first whose sound is the oldest."""
    scripts = [conversation(6, at=S + i * 3_000) for i in range(4)]
    stall = iter([0.05] * 10 + [12.0])
    crowd = simulate(scripts, batch_limit=2, cost_s=lambda jobs: next(stall, 0.05))
    for speaker in crowd.speakers:
        assert speaker.words == [word.text for word in speaker.script]
        assert not speaker.lost
        assert speaker.waits[-1] < 0.6
    began = next(at for at, took, _ in crowd.batches if took > 10) + 12
    after = [jobs for at, _, jobs in crowd.batches if at >= began and jobs[0].kind == "final"][:4]
    for earlier, later in pairwise(after):
        assert max(job.payload.end for job in earlier) <= max(job.payload.end for job in later) + S // 2


class Poisoned(TimedDevice):
    """Cannot take the passes of one slot, alone or among others."""

    def __init__(self, *args: Any, error: Exception, slot: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._error, self._slot = error, slot

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        answers = await super().run(jobs)
        if any(job.slot == self._slot for job in jobs):
            raise self._error
        return answers


@pytest.mark.parametrize("error", [DeviceError("It refuses."), ValueError("a window of another shape")])
def test_passes_that_fail_in_a_batch_cost_the_others_nothing(error: Exception) -> None:
    """What cannot be decoded is tried without the others, and fails without them."""
    scripts = [conversation(3, at=at) for at in (S, 3 * S, 3 * S, 3 * S)]  # three of them in one batch
    device = Poisoned(dict(enumerate(scripts)), error=error, slot=1, cost_s=cost(0.05, 0.001))
    broken: list[Exception] = []

    @contextmanager
    def boundary() -> Iterator[None]:
        try:
            yield
        except ValueError as fault:
            broken.append(fault)
            speakers[1].answered.set()

    def bound(found: list[Speaker], scheduler: Scheduler) -> None:
        speakers.extend(found)
        found[1].boundary = boundary

    speakers: list[Speaker] = []
    crowd = simulate(scripts, batch_limit=4, device=device, also=bound, closed=(0, 2, 3))
    for slot in (0, 2, 3):
        assert crowd.speakers[slot].words == [word.text for word in scripts[slot]]
        assert not crowd.speakers[slot].lost
    together = [jobs for _, _, jobs in crowd.batches if len(jobs) > 1]
    assert any(job.slot == 1 for jobs in together for job in jobs)
    assert sum(job.slot == 1 for jobs in together for job in jobs) == 1, "once, and then alone"
    assert crowd.speakers[1].finals == []
    assert bool(broken) == isinstance(error, ValueError)


PATIENT = replace(LISTENING, silence=samples_from_ms(1_200), early_silence=samples_from_ms(500))


@pytest.mark.parametrize("words", [2, 4])
@pytest.mark.parametrize(("streams", "pass_s"), [(1, 2.0), (4, 0.6)])
def test_who_speaks_does_not_wait_for_texts_that_a_slow_device_has_no_time_for(
    streams: int, pass_s: float, words: int
) -> None:
    """A pause within a sentence costs a pass only where there is time for one: the lag does not grow."""
    scripts = [conversation(60, words, pause=samples_from_ms(700), at=S + i * 3_000) for i in range(streams)]
    crowd = simulate(scripts, cost_s=lambda jobs: pass_s * len(jobs), settings=PATIENT, live_waits=True)
    for speaker in crowd.speakers:
        assert speaker.words == [word.text for word in speaker.script]
        assert speaker.lost == []
        behind = [at - told.heard_until / S for at, told in speaker.partials]
        assert percentile(behind, 0.95) < 3 * streams * pass_s
        assert max(speaker.waits) < 4 * streams * pass_s


def test_a_file_is_cut_where_somebody_who_says_it_is() -> None:
    script = tuple(
        replace(word, text=f"{word.text}.") if i % 4 == 3 else word
        for i, word in enumerate(conversation(30, 2, pause=samples_from_ms(700)))
    )
    crowd = simulate([script], files=[script], decode_s=0.1, settings=PATIENT)
    live, file = crowd.speakers
    assert file.finals == live.finals
    assert 10 < len(live.finals) < 20
