"""Recordings with a scripted model: the laws of ARCHITECTURE.md; blocks and batches leave no trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from captiond_engine.decoding.options import PLAIN_ONCE, FallbackOptions
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import (
    AudioLost,
    Decoding,
    EndReason,
    Job,
    SpeechEnded,
    SpeechStarted,
    StreamEvent,
    Suppressed,
    SuppressReason,
    Transcript,
    samples_from_ms,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.driving import Driver, check_accounted, check_order
from tests.sim.recorded import RecordingDriver
from tests.sim.scripted import LoudDetector, Script, ScriptedModel, ScriptWord, say, speech_audio

WINDOW = samples_from_ms(30)
SECOND = 16_000
QUICK = StreamSettings(
    partials=False,
    max_segment=samples_from_ms(6_000),
    cut_search=samples_from_ms(2_000),
    ring=samples_from_ms(8_000),
)
packs = st.sampled_from([0, 3 * SECOND, 8 * SECOND, 30 * SECOND])


@st.composite
def scripts(draw: st.DrawFn, most: int = 20) -> Script:
    """Different words with pauses of up to three seconds."""
    at, words = 0, []
    for i in range(draw(st.integers(0, most))):
        at += samples_from_ms(draw(st.one_of(st.integers(0, 150), st.integers(0, 3_000))))
        end = at + samples_from_ms(draw(st.integers(100, 700)))
        words.append(ScriptWord(f"word{i}", at, end))
        at = end
    return tuple(words)


def length_of(script: Script) -> int:
    return max((word.end for word in script), default=0) + samples_from_ms(900)


def told(events: Sequence[StreamEvent]) -> list[object]:
    """Everything that is told, without how long it took."""
    return [
        (e.segment, e.committed, e.start, e.heard_until, e.words) if isinstance(e, Transcript) else e
        for e in events
    ]


@settings(max_examples=30, deadline=None)
@given(
    script=scripts(),
    pack=packs,
    limit=st.integers(1, 5),
    blocks=st.lists(st.integers(1, 60_000), min_size=1, max_size=8),
)
def test_nothing_depends_on_blocks_and_batches(
    script: Script, pack: int, limit: int, blocks: list[int]
) -> None:
    """Law 4, and the recording's half of law 5: batch = single."""

    def run(blocks: list[int], limit: int) -> list[object]:
        driver = RecordingDriver(script, settings=QUICK, pack=pack, look_ahead=limit)
        driver.listen(length_of(script), blocks, limit)
        return told(driver.finish(limit))

    assert run(blocks, limit) == run([SECOND], 1)


@settings(max_examples=30, deadline=None)
@given(script=scripts())
def test_without_packing_a_recording_says_what_a_live_stream_says(script: Script) -> None:
    """Boundaries, finals and suppressions; only the words' times are better, as pauses are looked at."""
    live = Driver(script, settings=QUICK)
    live.listen(length_of(script), frame=1_600)
    live.finish()
    recorded = RecordingDriver(script, settings=QUICK)
    recorded.listen(length_of(script))
    recorded.finish()

    def facts(events: list[StreamEvent]) -> list[object]:
        kept = [(e.segment, e.committed, e.start, e.heard_until) for e in events if isinstance(e, Transcript)]
        return [
            kept,
            [e for e in events if isinstance(e, SpeechStarted)],
            [e for e in events if isinstance(e, SpeechEnded)],
            [e for e in events if isinstance(e, Suppressed)],
        ]

    assert facts(recorded.events) == facts(live.events)
    windows = {(job.payload.start, job.payload.end): job.payload.mel for job in live.passes}
    for job in recorded.passes:
        np.testing.assert_array_equal(job.payload.mel, windows[job.payload.start, job.payload.end])


@settings(max_examples=50, deadline=None)
@given(
    script=scripts(),
    pack=packs,
    look_ahead=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from(["hear", "take", "answer", "fail"]), st.integers(0, 40_000))),
    room=st.sampled_from([None, 3]),
)
def test_laws_hold_in_any_order_of_blocks_answers_and_failures(
    script: Script, pack: int, look_ahead: int, steps: list[tuple[str, int]], room: int | None
) -> None:
    """Laws 2, 3 and 7, and the bounds of what is held."""
    driver = RecordingDriver(script, settings=QUICK, pack=pack, look_ahead=look_ahead, room=room)
    recording, length = driver.recording, length_of(script)
    out: list[Job] = []
    done = 0
    for step, amount in steps:
        if step == "hear" and not recording.full and recording.heard_until < length:
            driver.hear(min(amount + 1, length - recording.heard_until))
        elif step == "take":
            out += driver.take(amount % 3 + 1)
        elif step in ("answer", "fail") and out:
            job = out.pop(amount % len(out))
            driver.answer(job) if step == "answer" else driver.fail(job)
        check_order(driver.events)
        assert done <= recording.told_until <= recording.heard_until
        done = recording.told_until
    for job in out:
        driver.answer(job)
    driver.work()
    driver.listen(length)
    driver.finish()
    check_order(driver.events)
    check_accounted(driver, script, margin=WINDOW)  # type: ignore[arg-type]  # the same names
    assert recording.told_until == recording.heard_until == length


@settings(max_examples=25, deadline=None)
@given(script=scripts(), pack=packs)
def test_packing_loses_no_word_and_makes_no_window_longer_than_it_may_be(script: Script, pack: int) -> None:
    apart, packed = (
        RecordingDriver(script, settings=QUICK),
        RecordingDriver(script, settings=QUICK, pack=pack),
    )
    for driver in (apart, packed):
        driver.listen(length_of(script))
        driver.finish()
    assert set(apart.text.split()) <= set(packed.text.split())  # a short one may go along with its neighbours
    assert len(packed.passes) <= len(apart.passes)
    longest = max(pack, QUICK.max_segment + WINDOW)
    assert all(job.payload.end - job.payload.start <= longest for job in packed.passes)
    assert all(a.payload.end <= b.payload.start for a, b in pairwise(packed.passes))


def test_neighbours_share_a_window_and_are_one_segment() -> None:
    script = (*say("turn on", at=SECOND), *say("the lights", at=3 * SECOND), *say("now", at=40 * SECOND))
    driver = RecordingDriver(script, pack=30 * SECOND)
    driver.listen(45 * SECOND)
    driver.finish()
    assert [final.committed for final in driver.finals] == ["turn on the lights", "now"]
    first = driver.finals[0]
    (ended, _) = [event for event in driver.events if isinstance(event, SpeechEnded)]
    assert (ended.at, ended.reason) == (first.heard_until, EndReason.SILENCE)
    # Where they were said, not spread over the silence between.
    starts = [word.start for word in first.words]
    assert abs(starts[0] - SECOND) <= WINDOW
    assert abs(starts[2] - 3 * SECOND) <= WINDOW
    assert abs(first.words[1].end - script[1].end) <= WINDOW


def test_three_hours_are_heard_in_bounded_memory() -> None:
    """Sound and silence by turns; what is kept is counted, as resident memory depends on the allocator."""
    speech = np.tile(speech_audio(say("one two three", word=8_000), 3 * SECOND), 20)
    minutes = (speech, np.zeros(60 * SECOND, np.float32), np.zeros(60 * SECOND, np.float32))
    coarse = LoudDetector(samples_from_ms(120))  # and few mels: nothing here depends on them
    driver = RecordingDriver((), detector=coarse, pack=30 * SECOND, look_ahead=4, mels=8)
    recording, most = driver.recording, 0
    for minute in range(180):
        for start in range(0, 60 * SECOND, SECOND):
            recording.hear(minutes[minute % 3][start : start + SECOND])
            most = max(most, recording.held)
            if recording.full:
                for job in recording.next_jobs(4):
                    recording.complete(job, Decoding((), ()))
            recording.take_events()
    driver.finish(4)
    assert recording.heard_until == 180 * 60 * SECOND
    assert most <= (30 + 25 + 3) * SECOND + (4 + 1) * 30 * SECOND


def test_no_more_is_heard_than_may_wait() -> None:
    driver = RecordingDriver(say("turn on", at=SECOND), look_ahead=1)
    driver.listen(4 * SECOND - 1)
    driver.recording.close()
    full = RecordingDriver(say("turn on", at=SECOND), look_ahead=1)
    full.hear(4 * SECOND)
    assert full.recording.full
    with pytest.raises(ValueError, match="wait for the device"):
        full.recording.hear(np.zeros(1, np.float32))
    full.work()
    full.recording.hear(np.zeros(1, np.float32))
    full.recording.close()
    with pytest.raises(ValueError, match="closed"):
        full.recording.hear(np.zeros(1, np.float32))


def test_a_window_that_the_device_fails_on_twice_is_lost_and_told_in_its_place() -> None:
    script = (*say("turn on", at=SECOND), *say("the lights", at=5 * SECOND), *say("now", at=9 * SECOND))
    driver = RecordingDriver(script, look_ahead=4)
    driver.listen(12 * SECOND)
    driver.recording.close()
    first, second, third = driver.take(3)
    driver.answer(third)
    driver.fail(second)
    assert driver.events == []
    driver.answer(first)
    (again,) = driver.take(3)
    driver.fail(again)
    lost = [event for event in driver.events if isinstance(event, AudioLost)]
    assert lost == [AudioLost(second.payload.start, second.payload.end, "device")]
    assert Suppressed(2, SuppressReason.LOW_CONFIDENCE) in driver.events
    assert [final.segment for final in driver.finals] == [1, 3]
    with pytest.raises(KeyError):
        driver.recording.complete(second, driver.decode(second))


def test_a_text_that_has_no_room_in_the_decoder_is_asked_again_in_halves() -> None:
    script = say(" ".join(f"word{i}" for i in range(60)), at=SECOND)
    driver = RecordingDriver(script, room=25)
    driver.listen(22 * SECOND)
    driver.finish()
    assert driver.text.split() == [word.text for word in script]
    assert len(driver.finals) == 4
    check_order(driver.events)
    reasons = [event.reason for event in driver.events if isinstance(event, SpeechEnded)]
    assert reasons == [EndReason.MAX_LENGTH] * 3 + [EndReason.SILENCE]


def test_a_window_is_halved_in_a_pause_where_it_has_one() -> None:
    script = (
        *say("one two three four five six", at=SECOND, word=9_600),
        *say("seven eight nine", at=5 * SECOND, word=9_600),
        *say("ten eleven twelve", at=8 * SECOND + 8_000, word=9_600),
    )
    driver = RecordingDriver(script, room=9, pack=30 * SECOND)
    driver.listen(12 * SECOND)
    driver.finish()
    assert [len(final.words) for final in driver.finals] == [9, 3]


def test_a_short_window_whose_text_has_no_room_is_believed() -> None:
    driver = RecordingDriver(say("one two three", at=SECOND), room=2)
    driver.listen(4 * SECOND)
    driver.finish()
    assert driver.text == "one two"


class LanguageModel(ScriptedModel):
    """Hears no words in the first window, then German in all that it may choose for."""

    def decode(self, job: Job) -> Decoding:
        if job.payload.start < 2 * SECOND:
            return Decoding((), (), no_speech_probability=0.9, language="fr")
        heard = super().decode(job)
        language = job.payload.prompt.language
        return Decoding(heard.tokens, heard.log_probabilities, language=language or "de")


@pytest.mark.parametrize("limit", [1, 3])
def test_a_recording_has_one_language_that_of_its_first_words(limit: int) -> None:
    script = tuple(word for n in range(5) for word in say(f"word{n}", at=(1 + 4 * n) * SECOND))
    driver = RecordingDriver(script, model=LanguageModel(script), look_ahead=limit, languages=("en", "de"))
    driver.listen(22 * SECOND, limit=limit)
    driver.finish(limit)
    assert [final.language for final in driver.finals] == ["de"] * 4
    asked = [job.payload.prompt.language for job in driver.jobs]
    assert asked == [None, None, "de", "de", "de"]


def test_a_language_that_is_named_is_asked_for_and_auto_is_found_for_each_window() -> None:
    script = tuple(word for n in range(3) for word in say(f"word{n}", at=(3 + 4 * n) * SECOND))
    for language in ("en", "auto"):
        driver = RecordingDriver(
            script, settings=StreamSettings(language=language), look_ahead=3, languages=("en", "de")
        )
        driver.listen(15 * SECOND, limit=3)
        driver.finish(3)
        assert [job.payload.prompt.language for job in driver.jobs] == [language] * 3


def test_windows_are_decoded_as_the_settings_say_without_their_limit_on_time() -> None:
    """Nobody waits for a recording; greedy ones carry no options: the graph has a loop of its own."""
    once = FallbackOptions(beam_size=5, budget_ms=3_000)
    asked = []
    for decoding in (PLAIN_ONCE, once):
        driver = RecordingDriver(
            (ScriptWord("word", SECOND, 2 * SECOND),), settings=replace(QUICK, decoding=decoding), pack=0
        )
        driver.listen(3 * SECOND)
        driver.finish()
        asked += [job.payload.options for job in driver.jobs]
    assert asked == [None, replace(once, budget_ms=None)]
