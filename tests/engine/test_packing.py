"""Passages: what shares a window, what goes along, and where one is cut in two. And where voice was heard."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from captiond_engine.packing import Packer, Passage, Speech
from captiond_engine.types import EndReason, Float32Array, samples_from_ms
from captiond_engine.vad.segmenter import SegmenterSettings
from captiond_engine.vad.voiced import LEAST_PAUSE, RememberingDetector
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.scripted import LoudDetector

SECOND = 16_000
W = samples_from_ms(30)
SETTINGS = SegmenterSettings()


def sound(*spans_ms: tuple[int, int], length_ms: int) -> Float32Array:
    pcm = np.zeros(samples_from_ms(length_ms), np.float32)
    for start, end in spans_ms:
        pcm[samples_from_ms(start) : samples_from_ms(end)] = 0.1
    return pcm


def passages(pcm: Float32Array, longest_ms: int, settings: SegmenterSettings = SETTINGS) -> list[Passage]:
    packer = Packer(
        LoudDetector(),
        settings,
        longest=samples_from_ms(longest_ms),
        min_speech=samples_from_ms(150),
    )
    return packer.hear(pcm) + packer.close()


def spans(found: list[Passage]) -> list[tuple[int, int, bool]]:
    return [(p.speech.start * 10 // 160, p.speech.end * 10 // 160, p.speech.short) for p in found]


def test_speech_shares_a_window_as_long_as_all_of_it_fits() -> None:
    pcm = sound((1_020, 2_010), (4_020, 5_010), (9_000, 9_990), length_ms=12_000)
    assert spans(passages(pcm, 0)) == [(720, 2210, False), (3720, 5210, False), (8700, 10190, False)]
    assert spans(passages(pcm, 5_000)) == [(720, 5210, False), (8700, 10190, False)]
    assert spans(passages(pcm, 30_000)) == [(720, 10190, False)]


def test_short_speech_goes_along_between_others_and_stays_alone_at_the_edges() -> None:
    blip = 90
    pcm = sound(
        *((at, at + blip) for at in (1_020, 5_010, 9_000)), (3_000, 3_990), (7_020, 8_010), length_ms=12_000
    )
    assert spans(passages(pcm, 30_000)) == [(720, 1310, True), (2700, 8210, False), (8700, 9290, True)]
    apart = passages(pcm, 0)
    assert [short for *_, short in spans(apart)] == [True, False, True, False, True]
    assert all(len(p.pcm) == (0 if p.speech.short else p.speech.end - p.speech.start) for p in apart)


def test_a_passage_has_its_own_audio_and_knows_where_voice_was() -> None:
    pcm = sound((1_020, 2_010), (4_020, 5_010), length_ms=7_000)
    (passage,) = passages(pcm, 30_000)
    np.testing.assert_array_equal(passage.pcm, pcm[passage.speech.start : passage.speech.end])
    assert [(a * 10 // 160, b * 10 // 160) for a, b in passage.stretches] == [(1020, 2010), (4020, 5010)]


def test_a_passage_is_told_as_soon_as_nothing_more_can_fit() -> None:
    packer = Packer(LoudDetector(), SETTINGS, longest=5 * SECOND, min_speech=0)
    pcm = sound((1_020, 2_010), length_ms=20_000)
    told_at = None
    for start in range(0, len(pcm), W):
        if packer.hear(pcm[start : start + W]):
            told_at = start + W
    assert told_at is not None
    assert 0.72 + 5 <= told_at / SECOND <= 0.72 + 5 + 0.5 + 0.06


@given(
    st.lists(st.tuples(st.integers(100, 4_000), st.integers(30, 9_000)), max_size=12),
    st.sampled_from([0, 3_000, 8_000]),
)
def test_passages_are_in_order_and_no_longer_than_they_may_be(
    parts: list[tuple[int, int]], longest_ms: int
) -> None:
    settings = SegmenterSettings(max_segment=samples_from_ms(6_000), cut_search=samples_from_ms(2_000))
    at, where = 0, []
    for pause, voice in parts:
        where.append((at + pause, at + pause + voice))
        at += pause + voice
    found = passages(sound(*where, length_ms=at + 1_000), longest_ms, settings)
    assert all(a.speech.end <= b.speech.start for a, b in pairwise(found))
    limit = max(samples_from_ms(longest_ms), settings.max_segment + W)
    for passage in found:
        speech = passage.speech
        assert 0 < speech.end - speech.start <= limit
        times = [time for stretch in passage.stretches for time in stretch]
        assert times == sorted(times)
        assert all(speech.start <= time <= speech.end for time in times)


def passage_of(pcm: Float32Array, *stretches: tuple[int, int], start: int = 5_000) -> Passage:
    speech = Speech(start, start + 10, start + len(pcm) - 10, start + len(pcm), EndReason.FLUSH)
    return Passage(speech, pcm, tuple((a + start, b + start) for a, b in stretches))


def test_halves_are_cut_in_the_longest_pause_of_the_middle() -> None:
    pcm = np.arange(40_000, dtype=np.float32)
    whole = passage_of(pcm, (10, 4_000), (9_000, 17_000), (20_000, 25_000), (27_000, 39_990))
    first, second = whole.halves()
    assert first.speech.end == second.speech.start == 5_000 + 18_500
    assert (first.stretches, second.stretches) == (
        ((5_010, 9_000), (14_000, 22_000)),
        ((25_000, 30_000), (32_000, 44_990)),
    )
    assert (first.speech.reason, second.speech.reason) == (EndReason.MAX_LENGTH, EndReason.FLUSH)
    np.testing.assert_array_equal(np.concatenate([first.pcm, second.pcm]), pcm)


@given(st.integers(4, 40_000), st.integers(0, 5))
def test_halves_are_all_of_a_passage_and_cut_where_it_is_quiet(length: int, seed: int) -> None:
    pcm = np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)
    quiet = length * 2 // 5
    pcm[quiet : quiet + 1_440] = 0
    first, second = passage_of(pcm, (10, length - 10)).halves()
    np.testing.assert_array_equal(np.concatenate([first.pcm, second.pcm]), pcm)
    if length >= 10_000:
        assert first.speech.end - first.speech.start == pytest.approx(quiet + 720, abs=2)
    assert length // 4 - 1 <= len(first.pcm) <= length - length // 4 + 1


def test_the_voice_that_was_heard_is_remembered_until_it_is_forgotten() -> None:
    detector = RememberingDetector(LoudDetector(W), 0.5)
    marks = "..###.#....##......#"
    for mark in marks:
        detector.probability(np.full(W, 0.1 if mark == "#" else 0.0, np.float32))
    assert LEAST_PAUSE == 5 * W
    assert detector.stretches(0, 99 * W) == [(2 * W, 13 * W), (19 * W, 20 * W)]
    assert detector.stretches(3 * W, 5 * W) == [(3 * W, 5 * W)]
    assert detector.stretches(13 * W, 19 * W) == []
    detector.forget(13 * W)
    assert detector.stretches(0, 99 * W) == [(19 * W, 20 * W)]
