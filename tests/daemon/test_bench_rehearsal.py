"""Sessions in virtual time: what is received when, with a scripted model."""

from __future__ import annotations

import numpy as np
import pytest
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import samples_from_ms

from daemon.bench.rehearsal import Rehearsal, combinations
from daemon.bench.timeline import read_timeline
from tests.sim.driving import Driver
from tests.sim.scripted import say

SECOND = samples_from_ms(1_000)


def played(pass_ms: int) -> list[tuple[float, str]]:
    """What came when, of a sentence from 1 s to 2.2 s."""
    driver = Driver(say("turn on the lights", at=SECOND), settings=StreamSettings())
    rehearsal = Rehearsal(driver.stream, driver.model.decode, pass_ms)
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


def test_settings_are_combined_in_order() -> None:
    found = list(combinations(["a=1,2", "b.c=x"]))
    assert found == [("a=1", "b.c=x"), ("a=2", "b.c=x")]
    assert list(combinations([])) == [()]
    with pytest.raises(ValueError, match="varies nothing"):
        list(combinations(["a"]))
