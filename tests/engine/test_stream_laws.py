"""The laws of ARCHITECTURE.md as properties of the stream, with a scripted model.

Laws 1, 2, 3 and 7 under any order of frames, answers, failures, flushes and gaps; law 4 over any cut into
frames; the stream's half of law 5: a window grown as audio came equals one made of the whole audio.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.commit import POLICIES
from captiond_engine.stream import StreamSettings
from captiond_engine.types import AudioFrame, Flushed, Job, SpeechEnded, samples_from_ms
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.driving import Driver, check_accounted, check_order
from tests.sim.scripted import LoudDetector, Script, ScriptedModel, ScriptWord

S = samples_from_ms(1_000)
WINDOW = samples_from_ms(30)
QUICK = StreamSettings(
    max_segment=samples_from_ms(6_000), cut_search=samples_from_ms(2_000), ring=samples_from_ms(8_000)
)


@st.composite
def scripts(draw: st.DrawFn, least_ms: int = 160, marks: tuple[str, ...] = ("",)) -> Script:
    """Up to 14 different words with pauses of up to two seconds; behind each is one of ``marks``."""
    at, words = 0, []
    for i in range(draw(st.integers(0, 14))):
        at += samples_from_ms(draw(st.one_of(st.integers(0, 150), st.integers(0, 2_000))))
        end = at + samples_from_ms(draw(st.integers(least_ms, 700)))
        words.append(ScriptWord(f"word{i}{draw(st.sampled_from(marks))}", at, end))
        at = end
    return tuple(words)


def length_of(script: Script) -> int:
    return max((word.end for word in script), default=0) + samples_from_ms(900)


models = st.fixed_dictionaries(
    {
        "unstable": st.sampled_from([0.0, 0.4, 1.0]),
        "unstable_finals": st.sampled_from([0.0, 0.5]),
        "timed": st.booleans(),
    }
)

STEPS = ["take", "answer", "answer", "answer", "fail", "flush", "jump"]
actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 9_000)),
        st.tuples(
            st.sampled_from(["take", "answer", "answer", "answer", "fail", "flush", "jump"]), st.just(0)
        ),
    ),
    max_size=80,
)


wishes = st.fixed_dictionaries(
    {
        "partials": st.booleans(),
        "commit": st.sampled_from(list(POLICIES)),
        "commit_hold": st.sampled_from([0, samples_from_ms(400)]),
        "show_probability": st.sampled_from([0.0, 0.6, 0.95]),  # the scripted model's is 0.99
        "early_silence": st.sampled_from([0, samples_from_ms(300)]),
    }
)


@settings(max_examples=80, deadline=None)
@given(script=scripts(marks=("", ".")), model=models, steps=actions, wished=wishes)
def test_laws_hold_in_any_order_of_frames_answers_and_failures(
    script: Script, model: dict[str, float], steps: list[tuple[str, int]], wished: dict[str, Any]
) -> None:
    """Whatever policy commits, and whether or not the model tells when words were said."""
    quick = replace(QUICK, **wished)
    driver = Driver(script, settings=quick, model=ScriptedModel(script, **model))
    out: list[Job] = []
    flushes = 0
    for step, amount in [*steps, ("push", max(0, length_of(script) - driver.stream.heard_until))]:
        if step == "push":
            driver.push(amount)
        elif step == "take" and (job := driver.take()) is not None:
            out.append(job)
        elif step == "answer":
            job = out.pop(0) if out else driver.take()
            if job is not None:
                driver.answer(job)
        elif step == "fail" and out:
            driver.fail(out.pop())
        elif step == "flush":
            flushes += 1
            driver.flush()
        elif step == "jump":
            driver.stream.jump_to_live()
            driver.collect()
        check_order(driver.events, closed=False)
    driver.close()
    for job in out:
        driver.answer(job)
    driver.finish()
    check_order(driver.events)
    if not wished["show_probability"]:  # all at once, and nothing that is no longer said
        for told in driver.partials:
            assert told.committed + told.tentative == "".join(word.text for word in told.words).strip()
    # A flush in the middle of a word may leave less than the three windows that make an onset.
    check_accounted(driver, script, margin=WINDOW if not flushes else 4 * WINDOW)


@settings(max_examples=20, deadline=None)
@given(
    script=scripts(),
    unstable=st.sampled_from([0.0, 1.0]),
    frames=st.lists(st.integers(1, samples_from_ms(1_900)), min_size=1, max_size=40),
    flush_ms=st.one_of(st.none(), st.integers(0, 4_000)),
)
def test_finals_do_not_depend_on_how_the_audio_was_cut(
    script: Script, unstable: float, frames: list[int], flush_ms: int | None
) -> None:
    """Law 4; and so neither do boundaries, times and reasons."""

    def finals(cuts: list[int]) -> list[object]:
        driver = Driver(script, settings=QUICK, model=ScriptedModel(script, unstable=unstable))
        flush_at = None if flush_ms is None else samples_from_ms(flush_ms)
        i = 0
        while driver.stream.heard_until < length_of(script):
            heard = driver.stream.heard_until
            stop = flush_at if flush_at is not None and flush_at > heard else length_of(script)
            driver.push(min(cuts[i % len(cuts)], stop - heard, length_of(script) - heard))
            driver.work()
            i += 1
            if driver.stream.heard_until == flush_at:
                driver.flush()
        driver.finish()
        return [
            (e.segment, e.committed, e.start, e.heard_until, tuple((w.text, w.start, w.end) for w in e.words))
            for e in driver.finals
        ]

    assert finals(frames) == finals([320])


PATIENT = replace(
    QUICK, silence=samples_from_ms(1_200), early_silence=samples_from_ms(400), ring=samples_from_ms(12_000)
)


@settings(max_examples=60, deadline=None)
@given(
    script=scripts(marks=("", ".", "?")),
    steps=st.lists(
        st.one_of(st.integers(1, samples_from_ms(900)), st.sampled_from(["take", "answer", "fail"])),
        min_size=1,
        max_size=40,
    ),
    flush_ms=st.one_of(st.none(), st.integers(0, 4_000)),
)
def test_finals_whose_text_decides_when_they_end_do_not_depend_on_how_late_it_comes(
    script: Script, steps: list[int | str], flush_ms: int | None
) -> None:
    """Law 4 where a sentence ends a segment, as long as who pushes heeds ``room``."""
    rustle = np.random.default_rng(len(script)).normal(0, 0.1, length_of(script) + S).astype(np.float32)

    def told(steps: list[int | str]) -> list[object]:
        driver = Driver(script, settings=PATIENT, pcm=rustle)
        stops = [length_of(script) + S]
        if flush_ms is not None:
            stops.insert(0, min(samples_from_ms(flush_ms), stops[0]))
        out: list[Job] = []
        for stop in stops:
            i = 0
            while (left := stop - driver.stream.heard_until) > 0:
                step = steps[i % len(steps)]
                i += 1
                if isinstance(step, int) and driver.stream.room:
                    driver.push(min(step, left, driver.stream.room))
                elif step == "take" and (job := driver.take()) is not None:
                    out.append(job)
                elif step == "fail" and out and out[0].kind == "partial":
                    driver.fail(out.pop(0))
                elif job := out.pop(0) if out else driver.take():
                    driver.answer(job)
            driver.flush()
        driver.close()
        for job in out:
            driver.answer(job)
        events = driver.finish()
        ends = [(e.segment, e.at, e.reason) for e in events if isinstance(e, SpeechEnded)]
        flushed = [e for e in events if isinstance(e, Flushed)]
        return [*ends, *flushed, *((e.segment, e.committed, e.start, e.heard_until) for e in driver.finals)]

    assert told([*steps, 1_600]) == told([320, "answer"])


@settings(max_examples=20, deadline=None)
@given(script=scripts(), gaps=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40_000)), max_size=4))
def test_a_gap_ends_the_segment_and_is_reported(script: Script, gaps: list[tuple[int, int]]) -> None:
    """Laws 1, 2, 3 and 7 over a timeline with holes."""
    length = length_of(script)
    pcm = np.zeros(length + 1, np.float32)
    for word in script:
        pcm[word.start : word.end] = 0.1
    driver = Driver(script, settings=QUICK, detector=LoudDetector(), pcm=pcm)
    holes = dict(gaps)
    frame = 0
    while driver.stream.heard_until < length:
        start = min(driver.stream.heard_until + holes.get(frame, 0), length)
        driver.push_frame(AudioFrame("a", start, pcm[start : min(start + 1_600, length)]))
        driver.work()
        frame += 1
    driver.finish()
    check_order(driver.events)
    # Next to a hole, up to two voiced windows and a part of one are too little for an onset.
    check_accounted(driver, script, margin=WINDOW if not gaps else 4 * WINDOW)


@settings(max_examples=15, deadline=None)
@given(script=scripts(), seed=st.integers(0, 99), frame=st.integers(100, 20_000))
def test_a_window_that_grew_equals_one_made_of_the_whole_audio(script: Script, seed: int, frame: int) -> None:
    pcm = np.random.default_rng(seed).normal(0, 0.1, length_of(script)).astype(np.float32)
    driver = Driver(script, settings=QUICK, pcm=pcm)
    driver.listen(len(pcm), frame)
    driver.finish()
    for job in driver.jobs:
        window = job.payload
        whole = log_mel(pcm[window.start : window.end], 80, window.mel.shape[1])
        np.testing.assert_allclose(window.mel, whole, atol=1e-6)
        assert window.mel.shape[1] * 160 >= window.end - window.start
