"""How a stream has its finals decoded, and what it tells of one that failed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from captiond_engine.decoding.options import PLAIN, DecodingOptions, FallbackOptions, Thresholds
from captiond_engine.stream import StreamSettings
from captiond_engine.types import Decoding, Job, Suppressed, SuppressReason, samples_from_ms

from tests.sim.driving import Driver, check_order
from tests.sim.scripted import ScriptedModel, say

S = samples_from_ms(1_000)
HELLO = say("hello world this is captiond", at=S)
BEAMS = FallbackOptions(PLAIN, (0.0, 0.4), beam_size=5)


class Failing(ScriptedModel):
    """Its finals failed at every temperature."""

    reason = SuppressReason.REPETITION
    held_back = True

    def decode(self, job: Job) -> Decoding:
        decoding = super().decode(job)
        if job.kind == "partial":
            return decoding
        return replace(decoding, failure=self.reason, held_back=self.held_back)


def test_finals_are_decoded_as_was_asked_and_partials_greedily() -> None:
    driver = Driver(HELLO, settings=StreamSettings(decoding=BEAMS))
    driver.listen(5 * S)
    asked = {(job.kind, job.payload.options) for job in driver.jobs}
    assert asked == {("partial", None), ("final", BEAMS)}
    assert [final.committed for final in driver.finals] == ["hello world this is captiond"]


def test_what_the_graph_does_by_itself_is_asked_for_without_options() -> None:
    """So that it shares a batch with everything else."""
    driver = Driver(HELLO)
    driver.listen(5 * S)
    assert {job.payload.options for job in driver.jobs} == {None}
    assert {job.payload.prompt.task for job in driver.jobs} == {"transcribe"}


def test_a_translation_is_asked_of_partials_and_finals() -> None:
    """Or words would change their language when they settle."""
    translated = FallbackOptions(replace(PLAIN, task="translate"), (0.0,))
    driver = Driver(HELLO, settings=StreamSettings(decoding=translated))
    driver.listen(5 * S)
    assert {(job.payload.prompt.task, job.payload.options) for job in driver.jobs} == {("translate", None)}


@pytest.mark.parametrize("reason", [SuppressReason.REPETITION, SuppressReason.LOW_CONFIDENCE])
def test_a_final_that_failed_is_held_back_and_told_with_its_reason(reason: SuppressReason) -> None:
    model = Failing(HELLO)
    model.reason = reason
    driver = Driver(HELLO, model=model, settings=StreamSettings(partials=False, decoding=BEAMS))
    driver.listen(5 * S)
    assert driver.finals == []
    assert driver.of(Suppressed) == [Suppressed(1, reason, "hello world this is captiond")]
    check_order(driver.finish())


def test_what_was_committed_is_told_even_if_the_final_failed() -> None:
    driver = Driver(HELLO, model=Failing(HELLO), settings=StreamSettings(decoding=BEAMS))
    driver.listen(5 * S)
    committed = [partial.committed for partial in driver.partials][-1]
    assert committed
    assert [final.committed for final in driver.finals] == [committed]
    check_order(driver.finish())


def test_a_final_that_failed_may_be_shown() -> None:
    model = Failing(HELLO)
    model.held_back = False
    driver = Driver(HELLO, model=model, settings=StreamSettings(partials=False, decoding=BEAMS))
    driver.listen(5 * S)
    assert [final.committed for final in driver.finals] == ["hello world this is captiond"]


@pytest.mark.parametrize(
    ("thresholds", "silent"),
    [(Thresholds(), True), (Thresholds(no_speech=None), False), (Thresholds(no_speech=0.99), False)],
)
def test_silence_is_what_the_thresholds_say(thresholds: Thresholds, silent: bool) -> None:
    class Doubtful(ScriptedModel):
        def decode(self, job: Job) -> Decoding:
            decoding = super().decode(job)
            count = len(decoding.tokens) + 1
            return replace(decoding, no_speech_probability=0.9, sum_log_probability=-2.0 * count)

    options = FallbackOptions(PLAIN, (0.0,), thresholds=thresholds)
    driver = Driver(HELLO, model=Doubtful(HELLO), settings=StreamSettings(decoding=options))
    driver.listen(5 * S)
    assert bool(driver.of(Suppressed)) is silent
    assert bool(driver.finals) is not silent


def test_timestamps_can_be_asked_of_finals() -> None:
    options = FallbackOptions(DecodingOptions(), (0.0,))
    driver = Driver(HELLO, settings=StreamSettings(decoding=options))
    driver.listen(5 * S)
    assert {job.payload.options for job in driver.jobs if job.kind == "final"} == {options}
