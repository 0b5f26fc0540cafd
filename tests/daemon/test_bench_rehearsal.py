"""Sessions in virtual time: what is received when, with a scripted model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import Decoding, Job, PromptSpec, Window, samples_from_ms

from daemon.bench.rehearsal import Passes, Rehearsal, combinations
from daemon.bench.timeline import read_timeline
from tests.sim.driving import Driver
from tests.sim.scripted import say

SECOND = samples_from_ms(1_000)


def played(pass_ms: int) -> list[tuple[float, str]]:
    """What came when, of a sentence from 1 s to 2.2 s."""
    driver = Driver(say("turn on the lights", at=SECOND), settings=StreamSettings())
    rehearsal = Rehearsal(driver.stream, lambda job: (driver.model.decode(job), 0.0), pass_ms)
    received = rehearsal.play(np.zeros(5 * SECOND, np.float32))
    [segment] = read_timeline(received).segments
    shown = [(display.at, display.text) for display in segment.displays]
    assert segment.final_at is not None
    assert segment.ended_at is not None
    return [*shown, (segment.final_at, segment.final_text or "")]


def test_a_pass_takes_its_time_and_its_answer_comes_then() -> None:
    quick, slow = played(10), played(250)
    assert quick[-1][1] == slow[-1][1] == "turn on the lights"
    assert slow[0][0] - quick[0][0] > 0.2
    assert len(slow) <= len(quick)


def test_a_pass_that_outlasts_the_endpoint_is_waited_for() -> None:
    (at, text) = played(2_000)[-1]
    assert text == "turn on the lights"
    assert at > 2.7


def job(mel: float, *, end: int = 320, hints: str = "") -> Job:
    window = Window(1, 0, end, np.full((80, 2), mel, np.float32), PromptSpec(hints=hints))
    return Job(0, 1, "partial", 0, window)


def test_the_same_pass_is_decoded_once() -> None:
    made: list[Job] = []

    def run(jobs: Sequence[Job]) -> list[Decoding]:
        made.extend(jobs)
        return [Decoding((len(made),), ()) for _ in jobs]

    passes = Passes(run)
    asked = [job(0.0), job(1.0), job(0.0), job(0.0, end=321), job(0.0, hints="Ada"), job(1.0)]
    told = [passes(each) for each in asked]
    assert [answer.tokens[0] for answer, _ in told] == [1, 2, 1, 3, 4, 2]
    assert told[0][1] == told[2][1]


def test_settings_are_combined_in_order() -> None:
    found = list(combinations(["a=1,2", "b.c=x"]))
    assert found == [("a=1", "b.c=x"), ("a=2", "b.c=x")]
    assert list(combinations([])) == [()]
    with pytest.raises(ValueError, match="varies nothing"):
        list(combinations(["a"]))
