"""One stream by hand: what it asks, what it tells, and what it does when things go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.options import PLAIN_ONCE
from captiond_engine.stream import StreamSettings
from captiond_engine.types import (
    AudioFrame,
    AudioLost,
    Decoding,
    EndReason,
    Flushed,
    Job,
    SpeechEnded,
    SpeechStarted,
    Suppressed,
    SuppressReason,
    Transcript,
    Window,
    samples_from_ms,
)
from captiond_engine.vad.detector import WebrtcDetector

from tests.sim.driving import Driver, check_accounted, check_order, names
from tests.sim.scripted import LoudDetector, ScriptedModel, ScriptWord, say, speech_audio

S = samples_from_ms(1_000)
HELLO = say("hello world this is captiond", at=S)  # ends at 2.5 s
SMALL = StreamSettings(max_segment=6 * S, cut_search=2 * S, ring=8 * S)


def talk(seconds: float, at: int = 0) -> tuple[ScriptWord, ...]:
    """One word after another for so long."""
    count = int(seconds * S / samples_from_ms(300))
    return say(" ".join(f"w{i}" for i in range(count)), at=at)


# --- the ordinary course ---------------------------------------------------------------------------------


def test_a_sentence_gives_a_growing_partial_and_one_final() -> None:
    driver = Driver(HELLO)
    driver.listen(5 * S)
    assert names(driver.events) == ["started", *["partial"] * len(driver.partials), "ended", "final"]
    assert [final.committed for final in driver.finals] == ["hello world this is captiond"]
    committed = [partial.committed for partial in driver.partials]
    assert committed == sorted(committed, key=len)
    assert committed[-1].startswith("hello world")
    driver.finish()
    check_order(driver.events)


def test_webrtc_hears_the_same_sentence_in_sound() -> None:
    driver = Driver(HELLO, detector=WebrtcDetector(), pcm=speech_audio(HELLO, 5 * S))
    driver.listen(5 * S)
    assert [final.committed for final in driver.finals] == ["hello world this is captiond"]
    assert [final.language for final in driver.finals] == ["en"]


def test_the_final_is_out_at_the_endpoint_without_another_pass() -> None:
    driver = Driver(HELLO)
    ended_at = 0
    while not driver.of(SpeechEnded):
        driver.push(320)
        ended_at = len(driver.jobs)
        if not driver.of(SpeechEnded):
            driver.work()
    assert names(driver.events)[-2:] == ["ended", "final"]
    assert len(driver.jobs) == ended_at
    last = driver.jobs[-1]
    assert (last.kind, last.payload.end) == ("final", driver.finals[0].heard_until)
    assert last.payload.prompt.prefix == ()


def test_partial_windows_end_on_a_grid_and_only_the_newest_is_run_when_behind() -> None:
    driver = Driver(talk(4))
    for heard in (S + 480, int(3.2 * S)):
        driver.listen(heard, work=False)
        driver.work()
    ends = [job.payload.end for job in driver.jobs if job.kind == "partial"]
    step = driver.stream.settings.partial_step
    assert ends == [4 * step, 12 * step]  # of 250 ms


@pytest.mark.parametrize("took_ms", [0, 100, 500, 530, 730, 1_900])
def test_a_partial_covers_as_much_as_the_last_one_took_and_all_that_was_heard(took_ms: int) -> None:
    """A slow device is not asked for passes that have hardly anything new in them."""
    driver = Driver(talk(12))
    took, step = samples_from_ms(took_ms), StreamSettings().partial_step
    windows, late = [], []
    while driver.stream.heard_until < 12 * S:
        job = driver.take()
        if job is None:
            driver.push(480)
            continue
        windows.append(job.payload)
        late.append(job.deadline - job.payload.end)
        done_at = driver.stream.heard_until + took
        while driver.stream.heard_until < done_at:
            driver.push(min(480, done_at - driver.stream.heard_until))
        driver.stream.complete(job, driver.model.decode(job), took=took)
    new = [later.end - earlier.end for earlier, later in pairwise(windows)]
    assert len(new) >= 4
    assert min(new) >= max(step, took)
    assert max(new) < max(step, took) + 2 * 480 + (0 if took > step else step)
    assert took <= step or max(late[1:]) < 480, "newer sound joins the pass that is due"


def test_later_passes_are_forced_to_go_on_from_what_was_committed() -> None:
    driver = Driver(talk(4, at=S))
    driver.listen(6 * S)
    tokens = driver.model.tokenizer.encode(driver.finals[0].committed)
    prefixes = [job.payload.prompt.prefix for job in driver.jobs if job.kind == "partial"]
    assert prefixes[0] == ()
    assert prefixes[-1]
    assert all(list(prefix) == tokens[: len(prefix)] for prefix in prefixes)


def test_no_more_is_committed_than_the_decoder_can_be_made_to_repeat() -> None:
    driver = Driver(talk(9, at=S), max_prefix_tokens=5)
    driver.listen(12 * S)
    prefixes = [len(job.payload.prompt.prefix) for job in driver.jobs]
    assert max(prefixes) == 5
    assert driver.partials[-1].committed == "w0 w1 w2 w3 w4"
    assert driver.finals[0].committed.split() == [f"w{i}" for i in range(30)]
    check_order(driver.events)


def test_windows_are_fitted_or_full_as_the_model_wants() -> None:
    def hops(**traits: object) -> set[tuple[str, int]]:
        driver = Driver(HELLO, **traits)
        driver.listen(5 * S)
        return {(job.kind, job.payload.mel.shape[1]) for job in driver.jobs}

    assert hops() == {("partial", 300), ("final", 300)}
    assert hops(window_partial="full", window_final="full") == {("partial", 3_000), ("final", 3_000)}
    assert hops(window_final="full", min_fitted_window=S) >= {
        ("partial", 100),
        ("partial", 150),
        ("final", 3_000),
    }


def test_without_partials_only_finals_are_told_and_they_are_the_same() -> None:
    driver = Driver(HELLO, settings=StreamSettings(partials=False))
    driver.listen(5 * S)
    assert names(driver.events) == ["started", "ended", "final"]
    assert [job.kind for job in driver.jobs] == ["final"]
    assert driver.finals[0].committed == "hello world this is captiond"


def test_language_and_hints_apply_from_the_next_segment_on() -> None:
    script = HELLO + say("and again", at=5 * S)
    driver = Driver(script, settings=StreamSettings(language="en", hints="captiond"))
    driver.listen(2 * S)
    driver.stream.configure(language="de")
    driver.listen(8 * S)
    told = {
        (job.payload.segment, job.payload.prompt.language, job.payload.prompt.hints) for job in driver.jobs
    }
    assert told == {(1, "en", "captiond"), (2, "de", "captiond")}


# --- pauses, endpoints, cuts -----------------------------------------------------------------------------


def test_speech_that_resumes_makes_the_early_final_void() -> None:
    script = say("one two", at=S) + say("three", at=S + samples_from_ms(600 + 400))
    driver = Driver(script)
    driver.listen(5 * S)
    ends = [job.payload.end for job in driver.jobs if job.kind == "final"]
    assert len(ends) == 2
    assert ends[0] < script[-1].start
    assert [final.committed for final in driver.finals] == ["one two three"]
    assert driver.finals[0].heard_until == ends[1]


def test_an_early_final_still_running_at_the_endpoint_is_the_final() -> None:
    driver = Driver(HELLO)
    while (job := driver.take()) is None or job.kind != "final":
        if job is not None:
            driver.answer(job)
        driver.push(320)
    driver.listen(5 * S, work=False)
    assert names(driver.events)[-1] == "ended"
    driver.answer(job)
    assert [final.committed for final in driver.finals] == ["hello world this is captiond"]
    assert driver.take() is None


def test_an_early_final_still_running_when_speech_resumes_is_shown_as_a_partial() -> None:
    script = say("one two", at=S) + say("three", at=S + samples_from_ms(600 + 400))
    driver = Driver(script)
    while (job := driver.take()) is None or job.kind != "final":
        if job is not None:
            driver.answer(job)
        driver.push(320)
    driver.listen(script[-1].end, work=False)
    driver.answer(job)
    assert (driver.partials[-1].committed + driver.partials[-1].tentative) == "one two"
    driver.listen(5 * S)
    assert [final.committed for final in driver.finals] == ["one two three"]


def test_a_partial_that_comes_after_the_endpoint_is_dropped() -> None:
    driver = Driver(HELLO)
    driver.listen(2 * S, work=False)
    late = driver.take()
    assert late is not None
    driver.listen(5 * S, work=False)
    driver.answer(late)
    assert driver.partials == []
    driver.work()
    assert names(driver.events) == ["started", "ended", "final"]
    assert driver.finals[0].committed == "hello world this is captiond"


def test_a_burst_of_noise_is_suppressed_undecoded() -> None:
    driver = Driver([ScriptWord("click", S, S + samples_from_ms(110))])
    driver.listen(4 * S)
    assert names(driver.events) == ["started", "ended", "suppressed"]
    assert driver.of(Suppressed) == [Suppressed(1, SuppressReason.TOO_SHORT)]
    assert driver.jobs == []


def test_an_empty_final_is_suppressed() -> None:
    driver = Driver(HELLO, model=ScriptedModel([]))
    driver.listen(5 * S)
    assert names(driver.events) == ["started", "ended", "suppressed"]
    assert driver.of(Suppressed) == [Suppressed(1, SuppressReason.NO_SPEECH)]


class DoubtfulModel(ScriptedModel):
    """Says its words of what is most likely silence."""

    def decode(self, job: Job) -> Decoding:
        said = super().decode(job)
        return replace(said, no_speech_probability=0.9, sum_log_probability=-3.0 * (len(said.tokens) + 1))


def test_a_text_that_was_held_back_is_kept_for_those_who_ask() -> None:
    driver = Driver(HELLO, model=DoubtfulModel(HELLO))
    driver.listen(5 * S)
    assert names(driver.events) == ["started", "ended", "suppressed"]
    held_back = " ".join(word.text for word in HELLO)
    assert driver.of(Suppressed) == [Suppressed(1, SuppressReason.NO_SPEECH, held_back)]


def test_speech_without_a_pause_is_divided_and_no_word_is_told_twice_or_missed() -> None:
    script = talk(30)
    energy = np.full(32 * S, 0.1, np.float32)
    for word in script:
        energy[word.start : word.start + 600] = 0.0  # words begin softly: the quietest places
    driver = Driver(script, settings=SMALL, pcm=energy)
    driver.listen(32 * S)
    driver.finish()
    check_order(driver.events)
    reasons = [event.reason for event in driver.events if isinstance(event, SpeechEnded)]
    assert reasons[:-1] == [EndReason.MAX_LENGTH] * (len(reasons) - 1)
    assert len(reasons) > 4
    told = " ".join(final.committed for final in driver.finals).split()
    assert told == [word.text for word in script]
    assert all(final.heard_until - final.start <= 6 * S for final in driver.finals)


@pytest.mark.parametrize("quiet_s", [4.2, 4.9, 5.7])
def test_a_cut_far_back_takes_back_nothing_and_repeats_nothing(quiet_s: float) -> None:
    """Passes had heard beyond the cut: what they showed there is told by the next segment alone."""
    script = talk(9)
    quiet = round(quiet_s / 0.3) * samples_from_ms(300)
    pcm = np.random.default_rng(3).normal(0, 0.1, 11 * S).astype(np.float32)
    pcm[quiet - 800 : quiet + 800] *= 0.01
    driver = Driver(script, settings=SMALL, pcm=pcm)
    driver.listen(11 * S)
    driver.finish()
    check_order(driver.events)
    assert abs(driver.finals[0].heard_until - quiet) < samples_from_ms(60)
    assert " ".join(final.committed for final in driver.finals).split() == [word.text for word in script]
    for job in driver.jobs:
        window = job.payload
        whole = log_mel(pcm[window.start : window.end], 80, window.mel.shape[1])
        np.testing.assert_allclose(window.mel, whole, atol=1e-6)


def test_speech_from_the_first_to_the_last_sample_is_decoded_whole() -> None:
    script = say("first middle last", at=0)
    driver = Driver(script)
    driver.listen(script[-1].end + 37)
    driver.finish()
    assert [(f.committed, f.start, f.heard_until) for f in driver.finals] == [
        ("first middle last", 0, script[-1].end + 37)
    ]
    assert [e.reason for e in driver.events if isinstance(e, SpeechEnded)] == [EndReason.END]


def test_an_hour_of_zeros_asks_for_nothing_and_keeps_nothing() -> None:
    driver = Driver([], detector=WebrtcDetector())
    for _ in range(3_600 // 20):
        driver.push(20 * S)
        assert driver.take() is None
    assert driver.events == []
    assert driver.stream.backlog == 0
    assert driver.stream.oldest_unheard == driver.stream.heard_until == 3_600 * S
    assert len(driver.stream._listener._segmenter._windows) <= 4 * 34


# --- flush, close, gap -----------------------------------------------------------------------------------


def test_flush_in_silence_is_answered_at_once() -> None:
    driver = Driver([])
    driver.listen(S)
    driver.flush()
    assert driver.events == [Flushed(S)]


def test_flush_in_speech_is_answered_after_the_final() -> None:
    driver = Driver(HELLO)
    driver.listen(2 * S)
    driver.flush()
    assert driver.of(Flushed) == []
    driver.work()
    assert names(driver.events)[-3:] == ["ended", "final", "flushed"]
    assert driver.of(SpeechEnded) == [SpeechEnded(1, 2 * S, EndReason.FLUSH)]
    driver.listen(5 * S)
    assert " ".join(final.committed for final in driver.finals) == "hello world this is captiond"


def test_flush_waits_for_every_segment_before_it_and_none_after() -> None:
    script = HELLO + say("second", at=4 * S) + say("third", at=6 * S)
    driver = Driver(script)
    driver.listen(5 * S, work=False)
    driver.flush()
    driver.listen(8 * S, work=False)
    driver.work()
    told = [name for name in names(driver.events) if name in ("final", "flushed")]
    assert told == ["final", "final", "flushed", "final"]


def test_after_close_the_tail_is_decoded_and_no_audio_is_taken() -> None:
    driver = Driver(HELLO)
    driver.listen(HELLO[-1].end, work=False)
    driver.close()
    assert not driver.stream.done
    with pytest.raises(ValueError, match="closed"):
        driver.push(320)
    driver.work()
    assert driver.stream.done
    assert driver.finals[0].committed == "hello world this is captiond"
    driver.close()
    assert len(driver.finals) == 1


def test_audio_heard_already_is_refused_and_an_empty_frame_is_nothing() -> None:
    driver = Driver(HELLO)
    driver.push(1_000)
    with pytest.raises(ValueError, match="already"):
        driver.push_frame(AudioFrame("a", 900, np.zeros(200, np.float32)))
    driver.push_frame(AudioFrame("a", 1_000, np.zeros(0, np.float32)))
    assert driver.stream.heard_until == 1_000


def test_a_gap_ends_the_segment_and_its_audio_is_still_decoded() -> None:
    script = say("one two three four", at=S)
    pcm = np.abs(speech_audio(script)) + 0.0
    for word in script:
        pcm[word.start : word.end] = 0.1
    driver = Driver(script, detector=LoudDetector(), pcm=pcm)
    driver.listen(script[1].end, work=False)
    far = script[1].end + 3_600 * S
    driver.push_frame(AudioFrame("a", far, np.zeros(320, np.float32)))
    driver.work()
    assert names(driver.events) == ["started", "ended", "lost", "final"]
    assert driver.of(AudioLost) == [AudioLost(script[1].end, far, "gap")]
    assert driver.finals[0].committed == "one two"


def test_time_that_nobody_heard_is_told_as_lost_with_its_reason() -> None:
    driver = Driver(HELLO)
    driver.listen(HELLO[1].end, work=False)
    driver.stream.skip(0, "network")
    driver.stream.skip(7 * S, "network")
    driver.work()
    assert names(driver.events) == ["started", "ended", "lost", "final"]
    lost = AudioLost(HELLO[1].end, HELLO[1].end + 7 * S, "network")
    assert driver.of(AudioLost) == [lost]
    assert driver.stream.heard_until == lost.end
    driver.stream.close()
    with pytest.raises(ValueError, match="closed"):
        driver.stream.skip(1)


# --- a slow or failing device ------------------------------------------------------------------------------


def test_segments_that_ended_before_the_device_answered_get_their_finals_in_order() -> None:
    script = say("one", at=S) + say("two", at=3 * S) + say("three", at=5 * S)
    driver = Driver(script)
    driver.listen(4 * S, work=False)
    running = driver.take()
    assert running is not None
    driver.listen(7 * S, work=False)
    assert driver.take() is None  # one at a time
    assert driver.stream.backlog > 0
    assert driver.stream.oldest_unheard < 2 * S
    driver.answer(running)
    driver.work()
    assert [final.committed for final in driver.finals] == ["one", "two", "three"]
    assert driver.stream.backlog == 0


def test_a_final_that_contradicts_what_was_committed_continues_it() -> None:
    driver = Driver(HELLO, model=ScriptedModel(HELLO, unstable_finals=1.0))
    driver.listen(5 * S)
    assert (
        driver.finals[0].committed == "hello world this is captiond"
    )  # the model said "not-hello world ..."
    finals = [job for job in driver.jobs if job.kind == "final"]
    assert [job.payload.prompt.prefix for job in finals] == [()]
    check_order(driver.events)


def test_a_failed_partial_is_dropped_and_the_stream_goes_on() -> None:
    driver = Driver(HELLO)
    driver.listen(2 * S, work=False)
    job = driver.take()
    assert job is not None
    driver.fail(job)
    assert driver.take() is None
    driver.listen(5 * S)
    assert driver.finals[0].committed == "hello world this is captiond"


def test_a_failed_final_is_tried_once_more() -> None:
    driver = Driver(HELLO)
    driver.listen(5 * S, work=False)
    job = driver.take()
    assert job is not None
    driver.fail(job)
    driver.work()
    assert driver.finals[0].committed == "hello world this is captiond"
    assert driver.of(AudioLost) == []


def test_a_final_that_fails_twice_is_reported_lost_and_the_next_is_decoded() -> None:
    script = HELLO + say("later", at=5 * S)
    driver = Driver(script)
    driver.listen(7 * S, work=False)
    for _ in range(2):
        job = driver.take()
        assert job is not None
        driver.fail(job)
    driver.work()
    ended = driver.of(SpeechEnded)[0]
    started = driver.of(SpeechStarted)[0]
    assert isinstance(ended, SpeechEnded)
    assert isinstance(started, SpeechStarted)
    assert driver.of(AudioLost) == [AudioLost(started.at, ended.at, "device")]
    assert driver.of(Suppressed) == [Suppressed(1, SuppressReason.LOW_CONFIDENCE)]
    assert [final.committed for final in driver.finals] == ["later"]


def test_when_finals_fail_what_was_shown_becomes_the_final() -> None:
    driver = Driver(HELLO)
    driver.listen(HELLO[2].end)
    shown = driver.partials[-1]
    driver.flush()
    for _ in range(2):
        job = driver.take()
        assert job is not None
        driver.fail(job)
    assert driver.finals[0].committed == shown.committed + shown.tentative
    assert driver.of(AudioLost) == [AudioLost(shown.heard_until, HELLO[2].end, "device")]
    assert names(driver.events)[-1] == "flushed"
    check_order(driver.events)


def test_an_answer_to_a_forgotten_job_changes_nothing() -> None:
    driver = Driver(HELLO)
    driver.listen(5 * S, work=False)
    job = driver.take()
    assert job is not None
    driver.fail(replace(job, generation=job.generation + 1))
    driver.answer(job)
    driver.answer(job)
    driver.fail(job)
    assert len(driver.finals) == 1


def test_speech_that_no_device_took_before_it_was_overwritten_is_reported_lost() -> None:
    script = tuple(w for i in range(10) for w in say(f"a{i} b{i}", at=(2 * i + 1) * S))
    driver = Driver(script, settings=SMALL)
    driver.listen(21 * S, work=False)
    lost = [event for event in driver.events if isinstance(event, AudioLost)]
    assert {event.reason for event in lost} == {"overrun"}
    assert len(lost) >= 5
    driver.work()
    driver.finish()
    check_order(driver.events)
    check_accounted(driver, script, margin=samples_from_ms(30))
    assert driver.finals[-1].committed == "a9 b9"
    assert len(driver.finals) + len(lost) == 10


def test_a_job_that_was_taken_needs_the_ring_no_more() -> None:
    script = tuple(w for i in range(10) for w in say(f"a{i} b{i}", at=(2 * i + 1) * S))
    driver = Driver(script, settings=SMALL)
    driver.listen(3 * S, work=False)
    job = driver.take()
    assert job is not None
    driver.listen(21 * S, work=False)
    driver.answer(job)
    assert driver.finals[0].committed == "a0 b0"


def test_a_device_that_never_answers_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captiond_engine.answers.MOST_WAITING", 10)
    count = 30
    script = tuple(w for i in range(count) for w in say("x y", at=(2 * i + 1) * S))
    driver = Driver(script, settings=SMALL)
    driver.listen(3 * S, work=False)
    hung = driver.take()
    assert hung is not None
    driver.listen(script[-1].end + S, frame=S, work=False)
    assert len(driver.stream._answers) <= 10
    assert len(driver.of(AudioLost)) > 15
    driver.answer(hung)
    driver.finish()
    check_order(driver.events)
    check_accounted(driver, script, margin=samples_from_ms(30))


def test_a_jump_to_live_gives_up_what_nobody_took_and_keeps_what_is_running() -> None:
    script = tuple(w for i in range(4) for w in say(f"a{i} b{i}", at=(2 * i + 1) * S))
    driver = Driver(script)
    driver.listen(3 * S, work=False)
    running = driver.take()
    assert running is not None
    driver.listen(script[-1].end, work=False)
    driver.stream.jump_to_live()
    driver.collect()
    assert [event.reason for event in driver.events if isinstance(event, AudioLost)] == ["behind"] * 2
    driver.answer(running)
    driver.finish()
    assert [final.committed for final in driver.finals] == ["a0 b0", "a3 b3"]
    check_order(driver.events)
    check_accounted(driver, script, margin=samples_from_ms(30))


def test_a_file_that_keeps_to_the_room_loses_nothing_and_finds_an_end() -> None:
    script = talk(40, at=S)
    driver = Driver(script, settings=SMALL)
    while driver.stream.heard_until < 43 * S:
        room = driver.stream.room
        assert room > 0
        driver.push(min(room, 43 * S - driver.stream.heard_until))
        driver.work()
    driver.finish()
    assert driver.of(AudioLost) == []
    assert " ".join(final.committed for final in driver.finals).split() == [word.text for word in script]


def test_room_is_used_up_by_speech_that_is_not_decoded() -> None:
    driver = Driver(talk(60), settings=SMALL)
    room = driver.stream.room
    driver.listen(5 * S, work=False)
    assert driver.stream.room <= room - 3 * S


# --- settings --------------------------------------------------------------------------------------------


def test_a_ring_too_small_for_a_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="ring"):
        StreamSettings(ring=25 * S)


def test_a_segment_is_never_longer_than_the_model_takes() -> None:
    driver = Driver(talk(20), settings=StreamSettings(), max_segment=4 * S)
    driver.listen(20 * S, frame=4_800)
    driver.finish()
    assert max(final.heard_until - final.start for final in driver.finals) <= 4 * S


def test_timings_of_the_pass_are_told() -> None:
    driver = Driver(HELLO)
    driver.listen(5 * S, work=False)
    job = driver.take()
    assert job is not None
    decoding = replace(driver.model.decode(job), encode_ms=7.0, decode_ms=9.0)
    driver.stream.complete(job, decoding, queued_ms=3.0)
    driver.collect()
    timings = driver.finals[0].timings
    assert timings is not None
    assert (timings.queued_ms, timings.encode_ms, timings.decode_ms, timings.tokens) == (3.0, 7.0, 9.0, 5)
    assert all(isinstance(word.probability, float) for word in driver.finals[0].words)
    assert isinstance(driver.finals[0], Transcript)


# --- when words were said --------------------------------------------------------------------------------


def test_words_stand_where_the_model_heard_them() -> None:
    """And a word that follows a pause does not begin in it."""
    script = (*say("turn on", at=S), *say("the light", at=S + 8_000 + 6_400))
    driver = Driver(script, model=ScriptedModel(script, timed=True))
    driver.listen(5 * S)
    [final] = driver.finals
    starts = [word.start for word in final.words]
    assert starts == pytest.approx([word.start for word in script], abs=samples_from_ms(40))
    assert final.words[-1].end == pytest.approx(script[-1].end, abs=samples_from_ms(40))


class Contiguous(ScriptedModel):
    """Tells that a word begins where the one before it ends, also across a pause."""

    @staticmethod
    def _times(window: Window, words: Sequence[ScriptWord]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        starts, heeded = ScriptedModel._times(window, words)
        ends = [word.end - window.start for word in words[:-1]]
        return (*starts[:1], *ends, *starts[-1:]) if words else starts, heeded


def test_a_word_after_a_pause_begins_where_the_voice_does() -> None:
    script = (*say("turn on", at=S), *say("the light", at=S + 8_000 + 6_400))
    driver = Driver(script, model=Contiguous(script, timed=True))
    driver.listen(5 * S)
    [final] = driver.finals
    assert final.words[2].start == pytest.approx(script[2].start, abs=samples_from_ms(60))
    assert final.words[1].end <= final.words[2].start


def test_words_are_committed_as_soon_as_they_were_heard_well_before_the_end() -> None:
    """Without a second pass that agrees, by the policy that trusts attention."""
    script = talk(3, at=S)

    def first_commit(policy: str) -> int:
        settings = StreamSettings(commit=policy, commit_hold=samples_from_ms(100))
        driver = Driver(script, settings=settings, model=ScriptedModel(script, timed=True))
        driver.listen(5 * S)
        return next(partial.heard_until for partial in driver.partials if partial.committed)

    assert first_commit("align-att") < first_commit("local-agreement")


# --- an end before the silence is over -------------------------------------------------------------------


def ended_at(text: str, probability: float = 0.99, **settings: int) -> list[tuple[int, EndReason]]:
    """When each segment of ``text`` was said to have ended, in milliseconds heard; passes take no time."""
    script = say(text, at=S)
    model = ScriptedModel(script, probability=probability)
    driver = Driver(script, settings=StreamSettings(silence=S, **settings), model=model)
    told: list[tuple[int, EndReason]] = []
    for _ in range(5 * S // 320):
        driver.push(320)
        driver.work()
        seen = [event.reason for event in driver.events if isinstance(event, SpeechEnded)]
        told += [(driver.stream.heard_until // 16, reason) for reason in seen[len(told) :]]
    return told


def test_a_sentence_that_the_model_is_sure_of_ends_before_the_silence_is_over() -> None:
    text = "turn on the light."
    [(usual, _)] = ended_at(text)
    [(early, reason)] = ended_at(text, early_silence=samples_from_ms(400))
    assert usual - early == pytest.approx(600, abs=60)
    assert reason is EndReason.SILENCE


def test_a_sentence_that_the_model_is_not_sure_of_waits_for_all_of_the_silence() -> None:
    """As it says of speech that it cannot follow."""
    text = "turn on the light."
    assert ended_at(text, 0.8, early_silence=samples_from_ms(400)) == ended_at(text, 0.8)
    assert ended_at(text, 0.9, early_silence=samples_from_ms(400)) != ended_at(text, 0.9)


def test_a_text_that_ends_no_sentence_waits_for_all_of_the_silence() -> None:
    assert ended_at("turn on the", early_silence=samples_from_ms(400)) == ended_at("turn on the")


# --- where a text decides, it is waited for ---------------------------------------------------------------

PATIENT = StreamSettings(silence=2 * S, early_silence=samples_from_ms(500))
TWO_SENTENCES = (*say("turn on the light.", at=S), *say("what is the time?", at=7 * S // 2))


def paused() -> Driver:
    """Half a second of the second sentence is pushed, too, and no pass was answered."""
    driver = Driver(TWO_SENTENCES, settings=PATIENT)
    driver.push(4 * S)
    return driver


def test_a_sentence_ends_where_it_does_though_its_text_comes_when_the_next_has_begun() -> None:
    driver = paused()
    assert names(driver.events) == ["started"]
    driver.work()
    assert names(driver.events)[:4] == ["started", "partial", "ended", "final"]
    assert driver.finals[0].committed == "turn on the light."
    driver.listen(6 * S)
    driver.finish()
    assert [final.committed for final in driver.finals] == ["turn on the light.", "what is the time?"]


def test_what_waits_for_a_text_counts_as_behind_and_takes_room() -> None:
    driver = paused()
    behind, room = driver.stream.backlog, driver.stream.room
    driver.push(S)
    assert driver.stream.backlog == behind + S
    assert driver.stream.room == room - S
    driver.work()
    driver.finish()
    assert driver.stream.backlog == 0


def test_flushes_and_the_end_come_behind_what_waits() -> None:
    driver = paused()
    driver.flush()
    driver.push(S)
    driver.close()
    assert names(driver.events) == ["started"]
    assert not driver.stream.done
    driver.finish()
    told = [name for name in names(driver.events) if name in ("final", "flushed")]
    assert told == ["final", "final", "flushed", "final"]


def test_who_pushes_more_than_there_is_room_for_is_heard_without_the_text() -> None:
    """A live source cannot wait: both sentences are in one segment then, and nothing is lost."""
    driver = paused()
    driver.push(driver.stream.room + samples_from_ms(100))
    driver.listen(7 * S)
    assert [event.reason for event in driver.events if isinstance(event, SpeechEnded)] == [EndReason.SILENCE]
    driver.finish()
    assert [final.committed for final in driver.finals] == ["turn on the light. what is the time?"]
    assert "lost" not in names(driver.events)


@pytest.mark.parametrize("hurry", ["jump", "gap", "flushes", "fail"])
def test_nothing_is_waited_for_that_will_not_come_or_by_who_has_no_time(hurry: str) -> None:
    driver = paused()
    job = driver.take()
    assert job is not None
    if hurry == "jump":
        driver.stream.jump_to_live()
    elif hurry == "gap":
        driver.stream.skip(S)
    elif hurry == "flushes":
        for _ in range(9):
            driver.flush()
    else:
        driver.fail(job)
    driver.answer(job)
    driver.push(S)
    driver.finish()
    assert driver.finals[0].committed.startswith("turn on the light. what")


def test_a_text_that_comes_when_much_more_was_heard_cuts_as_one_that_came_at_once() -> None:
    """The pass is on the device when the next sentence is pushed."""
    live, late = Driver(TWO_SENTENCES, settings=PATIENT), Driver(TWO_SENTENCES, settings=PATIENT)
    live.listen(4 * S)
    late.listen(samples_from_ms(2_300))
    while (job := late.take()) is None:
        late.push(320)
    assert job.kind == "final"
    late.push(4 * S - late.stream.heard_until)
    assert SpeechEnded not in map(type, late.events)
    late.answer(job)
    assert late.of(SpeechEnded) == live.of(SpeechEnded) != []


def test_a_pass_that_fails_lets_the_end_come_that_waited_for_it() -> None:
    driver = paused()
    job = driver.take()
    assert job is not None
    driver.close()
    driver.fail(job)
    driver.work()
    assert driver.stream.done
    assert [final.committed for final in driver.finals] == ["turn on the light. what is"]


def test_a_sound_too_short_for_a_pass_is_not_waited_for() -> None:
    blip = [ScriptWord("a", S, S + samples_from_ms(120)), *say("what is the time?", at=4 * S)]
    driver = Driver(blip, settings=PATIENT)
    driver.push(5 * S)
    assert names(driver.events)[:2] == ["started", "ended"]


@pytest.mark.parametrize("fast", [False, True])
def test_wishes_hold_for_what_is_pushed_after_them(fast: bool) -> None:
    driver = Driver((*TWO_SENTENCES, *say("where are you?", at=8 * S)), settings=PATIENT)
    driver.listen(4 * S, work=not fast)
    driver.stream.configure(language="de")
    driver.listen(5 * S, work=not fast)
    driver.listen(10 * S)
    driver.finish()
    languages = {job.payload.segment: job.payload.prompt.language for job in driver.passes}
    assert languages == {1: None, 2: None, 3: "de"}


def test_a_flush_tells_where_it_was_asked_for() -> None:
    driver = paused()
    driver.flush()
    driver.push(S)
    driver.finish()
    assert driver.of(Flushed) == [Flushed(4 * S)]


def test_a_source_that_does_not_wait_is_listened_to_though_the_text_is_late() -> None:
    driver = paused()
    held = driver.stream.backlog
    driver.stream.hurry()
    assert driver.stream.backlog == held, "silence alone would not have ended the segment yet"
    driver.push(S)
    driver.stream.hurry()
    assert driver.take().payload.end > 4 * S, "the pass is of all that was heard"  # type: ignore[union-attr]
    assert names(driver.events) == ["started"]


def test_what_is_held_is_little() -> None:
    """One answer may not make the loop listen to half a minute at once."""
    driver = paused()
    assert driver.stream.room <= samples_from_ms(3_000)
    driver.push(driver.stream.room)
    assert driver.stream.room == 0


# --- few words, and not likely ones -----------------------------------------------------------------------


def heard_with(probability: float, text: str, unsure: float | None) -> list[object]:
    """The answers to one utterance of ``text``."""
    options = replace(PLAIN_ONCE, thresholds=replace(PLAIN_ONCE.thresholds, unsure=unsure))
    script = say(text, at=S)
    model = ScriptedModel(script, probability=probability)
    driver = Driver(script, settings=StreamSettings(decoding=options), model=model)
    driver.listen(6 * S)
    driver.finish()
    return [event for event in driver.events if isinstance(event, Suppressed)] or [
        final.committed for final in driver.finals
    ]


def test_a_few_words_that_are_not_likely_are_not_believed() -> None:
    assert heard_with(0.4, "see you", 0.6) == [Suppressed(1, SuppressReason.LOW_CONFIDENCE, "see you")]
    assert heard_with(0.7, "see you", 0.6) == ["see you"]
    assert heard_with(0.4, "see you", None) == ["see you"]


def test_many_words_are_believed_however_likely() -> None:
    assert heard_with(0.4, "a b c d e f", 0.6) == ["a b c d e f"]


def test_what_was_committed_is_not_unsaid_for_being_unlikely() -> None:
    """The model was sure, and no longer is."""
    options = replace(PLAIN_ONCE, thresholds=replace(PLAIN_ONCE.thresholds, unsure=0.6))
    script = say("see you there soon", at=S)
    driver = Driver(script, settings=StreamSettings(decoding=options))
    driver.listen(script[-1].end)
    assert driver.partials[-1].committed
    driver.model = ScriptedModel(script, driver.model.tokenizer, probability=0.4)
    driver.finish()
    assert [final.committed for final in driver.finals] == ["see you there soon"]
