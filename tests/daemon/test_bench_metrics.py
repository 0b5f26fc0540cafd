"""The bench's figures, on timelines whose figures can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from daemon.bench import clips, metrics, report
from daemon.bench.clips import Clip, ClipError, Utterance
from daemon.bench.cuts import torn_sentences
from daemon.bench.feeding import Recording
from daemon.bench.timeline import Display, Received, Segment, read_timeline


def segment(
    *displays: tuple[float, str, str], final: tuple[float, str] | None = None, **fields: object
) -> Segment:
    made = Segment(0, displays=[Display(*row) for row in displays], **fields)  # type: ignore[arg-type]
    if final is not None:
        made.final_at, made.final_text = final
    return made


def utterance(start: float, end: float, text: str) -> Utterance:
    return clips.spread(text, [(start, end)])[0]


# --- what a client saw ---------------------------------------------------------------------------------

EVENTS = [
    (0.01, {"type": "stream.opened", "source": "websocket"}),
    (1.30, {"type": "speech.started", "segment": 4, "at_ms": 1000}),
    (1.80, {"type": "transcript.partial", "segment": 4, "committed": "", "tentative": "Turn"}),
    (2.30, {"type": "transcript.partial", "segment": 4, "committed": "Turn", "tentative": " of"}),
    (3.50, {"type": "speech.ended", "segment": 4, "at_ms": 3100, "reason": "silence"}),
    (
        3.55,
        {
            "type": "transcript.final",
            "segment": 4,
            "text": "Turn on.",
            "start_ms": 900,
            "end_ms": 3100,
            "timings": {"endpoint_to_final_ms": 40},
        },
    ),
    (5.00, {"type": "audio.lost", "start_ms": 4000, "end_ms": 4250, "reason": "overload"}),
    (5.10, {"type": "error", "code": "device_failed", "message": "", "fatal": False}),
    (6.00, {"type": "something.new", "segment": 4}),
    (7.00, {"type": "stream.closed", "reason": "end"}),
]


def test_a_timeline_holds_each_segment_with_its_times() -> None:
    timeline = read_timeline(Received(at, event) for at, event in EVENTS)
    (heard,) = timeline.segments
    assert (heard.id, heard.start, heard.end) == (4, 0.9, 3.1)
    assert (heard.started_at, heard.ended_at, heard.final_at) == (1.30, 3.50, 3.55)
    assert [display.text for display in heard.displays] == ["Turn", "Turn of"]
    assert heard.final_text == "Turn on."
    assert heard.end_reason == "silence"
    assert heard.endpoint_to_final_ms == 40
    assert timeline.lost_s == pytest.approx(0.25)
    assert timeline.faults == ["device_failed"]
    assert timeline.closed


# --- segments and utterances ---------------------------------------------------------------------------


def test_segments_are_matched_to_the_utterances_that_they_overlap() -> None:
    first, second = utterance(1.0, 2.0, "one two"), utterance(4.0, 6.0, "three four")
    segments = [
        segment(start=0.8, end=2.2),
        segment(start=3.8, end=4.9),
        segment(start=5.0, end=6.2),
        segment(start=8.0, end=8.5),
    ]
    matches = metrics.match_segments(segments, [first, second])
    assert [m.utterances for m in matches] == [(first,), (second,), (second,), ()]
    assert [m.opens for m in matches] == [True, True, False, False]
    assert [m.closes for m in matches] == [True, False, True, False]


def test_a_segment_over_two_utterances_opens_the_first_and_closes_the_second() -> None:
    first, second = utterance(1.0, 2.0, "one"), utterance(2.3, 3.0, "two")
    heard = segment((1.9, "", "one"), final=(3.6, "One two."), start=0.9, end=3.1, ended_at=3.5)
    heard.end_reason = "silence"
    matches = metrics.match_segments([heard], [first, second])
    assert metrics.first_partials(matches) == pytest.approx([0.9])
    assert metrics.finalizations(matches) == pytest.approx([0.6])
    assert metrics.endpoint_delays(matches) == pytest.approx([0.5])
    assert metrics.cut_early(matches) == 0


def test_pre_roll_that_touches_the_last_utterance_does_not_match_it() -> None:
    first, second = utterance(1.0, 2.0, "one"), utterance(2.4, 3.0, "two")
    matches = metrics.match_segments([segment(start=1.95, end=3.1)], [first, second])
    assert matches[0].utterances == (second,)


# --- latency -------------------------------------------------------------------------------------------


def test_the_first_partial_is_the_first_with_text_and_empty_ones_do_not_count() -> None:
    heard = segment((1.4, "", " "), (1.7, "", "Turn"), (2.1, "", "Turn on"), start=1.0, end=2.0)
    matches = metrics.match_segments([heard], [utterance(1.2, 2.0, "turn on")])
    assert metrics.first_partials(matches) == pytest.approx([0.5])


def test_finalization_counts_from_the_true_end_of_speech_and_compute_from_the_endpoint() -> None:
    heard = segment(final=(2.75, "Turn on."), start=1.0, end=2.1, ended_at=2.7, end_reason="silence")
    matches = metrics.match_segments([heard], [utterance(1.2, 2.0, "turn on")])
    assert metrics.finalizations(matches) == pytest.approx([0.75])
    assert metrics.compute_finalizations([heard]) == pytest.approx([0.05])


def test_an_endpoint_inside_an_utterance_is_cut_early_and_has_no_finalization() -> None:
    early = segment(final=(2.0, "Turn"), start=0.9, end=1.5, ended_at=1.9, end_reason="silence")
    late = segment(final=(4.6, "on."), start=2.0, end=4.1, ended_at=4.5, end_reason="silence")
    matches = metrics.match_segments([early, late], [utterance(1.0, 4.0, "turn on")])
    assert metrics.cut_early(matches) == 1
    assert metrics.finalizations(matches) == pytest.approx([0.6])
    assert metrics.endpoint_delays(matches) == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("finals", "torn"),
    [
        (("Turn on the lamp.", "It is dark."), 0),
        (("Turn of the lump.", "It is dark."), 0),  # the word behind the end opens a sentence
        (("Turn on the lamp.", "Hit is dark."), 0),  # the word before the end closes one
        (("Turn of the lump.", "Hit is dark."), 1),  # nothing shows where it was
        (("Turn on the.", "Lamp. It is dark."), 1),
        (("Turn on the lamp. It", "is dark."), 1),
        (("", "Turn on the lamp. It is dark."), 0),
    ],
)
def test_an_early_end_tears_a_sentence_unless_a_neighbouring_word_shows_that_it_does_not(
    finals: tuple[str, str], torn: int
) -> None:
    row = utterance(1.0, 5.0, "Turn on the lamp. It is dark.")
    early = segment(final=(3.0, finals[0]), start=0.9, end=2.5, ended_at=2.9, end_reason="silence")
    late = segment(final=(5.6, finals[1]), start=3.0, end=5.1, ended_at=5.5, end_reason="silence")
    matches = metrics.match_segments([early, late], [row])
    assert metrics.cut_early(matches) == 1
    assert torn_sentences(matches, [row]) == torn


def test_without_marks_in_the_reference_each_early_end_counts_as_torn() -> None:
    row = utterance(1.0, 4.0, "turn on")
    early = segment(final=(2.0, "Turn"), start=0.9, end=1.5, ended_at=1.9, end_reason="silence")
    late = segment(final=(4.6, "on."), start=2.0, end=4.1, ended_at=4.5, end_reason="silence")
    assert torn_sentences(metrics.match_segments([early, late], [row]), [row]) == 1


def test_a_segment_cut_by_its_length_is_not_cut_early() -> None:
    full = segment(final=(2.0, "Turn"), start=0.9, end=1.5, ended_at=1.9, end_reason="max_length")
    assert metrics.cut_early(metrics.match_segments([full], [utterance(1.0, 4.0, "turn on")])) == 0


def test_a_word_is_shown_from_when_it_stays_and_committed_from_when_it_is_said_to() -> None:
    heard = segment(
        (1.0, "", "turn on"),
        (1.5, "", "turn off the"),
        (2.0, "turn", " on the light"),
        (2.5, "turn on the", " lights"),
        final=(3.0, "Turn on the lights."),
    )
    assert metrics.word_times(heard) == [
        metrics.WordTimes("turn", 1.0, 2.0),
        metrics.WordTimes("on", 2.0, 2.5),  # shown at 1.0 too, but gone at 1.5
        metrics.WordTimes("the", 1.5, 2.5),
        metrics.WordTimes("lights", 2.5, 3.0),
    ]


def test_word_latencies_count_words_that_the_reference_has() -> None:
    heard = segment((1.5, "", "one"), (2.5, "one", " too"), final=(3.0, "One, too three."))
    said = Utterance(0.5, 2.9, "one two three", (1.0, 2.0, 2.9))
    shown, committed = metrics.word_latencies([heard], [said])
    assert shown == pytest.approx([0.5, 0.1])
    assert committed == pytest.approx([1.5, 0.1])


def test_no_words_give_no_latencies() -> None:
    assert metrics.word_latencies([], [utterance(0, 1, "one")]) == ([], [])
    assert metrics.word_times(segment((1.0, "", "one"), suppressed="no_speech")) == []


def test_a_summary_has_percentiles_in_milliseconds_and_its_n() -> None:
    assert metrics.summarise([0.1, 0.2, 0.3]) == metrics.Summary(3, 200.0, 280.0, 298.0)
    assert metrics.summarise([]) == metrics.Summary(0, None, None, None)


# --- stability -----------------------------------------------------------------------------------------


def test_flicker_counts_words_that_changed_or_went_each_time() -> None:
    heard = segment(
        (1.0, "", "turn of"),  # of -> on
        (1.5, "", "turn on the night"),  # night -> light
        (2.0, "turn on", " the light now"),  # now goes
        final=(3.0, "Turn on the light."),
    )
    counted = metrics.flicker(heard)
    assert (counted.tentative, counted.final_words) == (3, 4)


def test_capitals_and_punctuation_flicker_only_in_the_exact_count() -> None:
    counted = metrics.flicker(segment((1.0, "", "turn on."), final=(2.0, "Turn on.")))
    assert (counted.tentative, counted.tentative_exact, counted.committed) == (0, 1, 0)


def test_a_suppressed_segment_takes_its_words_away() -> None:
    counted = metrics.flicker(segment((1.0, "", "thank you"), suppressed="no_speech"))
    assert (counted.tentative, counted.final_words) == (2, 0)


def test_committed_words_that_change_are_seen_though_the_law_forbids_them() -> None:
    counted = metrics.flicker(segment((1.0, "Turn of", " the"), final=(2.0, "Turn on the")))
    assert (counted.committed, counted.tentative) == (1, 0)


# --- word error rate -----------------------------------------------------------------------------------


def test_word_errors_are_pooled() -> None:
    errors = metrics.WordErrors()
    errors.add("one two three four", "one too three")
    errors.add("five", "five six")
    errors.add("", "ghost")
    assert (errors.substituted, errors.deleted, errors.inserted, errors.words) == (1, 1, 2, 5)
    assert errors.rate == 80.0


def test_without_words_there_is_no_rate() -> None:
    assert metrics.WordErrors().rate is None


# --- measuring sets ------------------------------------------------------------------------------------


def tone(*pieces: tuple[float, float], seconds: float) -> clips.Float32Array:
    """Quiet noise with a loud tone in each piece."""
    time = np.arange(round(seconds * clips.SAMPLE_RATE_HZ)) / clips.SAMPLE_RATE_HZ
    pcm = np.random.default_rng(1).normal(0, 0.001, len(time))
    for start, end in pieces:
        pcm += np.where((time >= start) & (time < end), 0.3 * np.sin(2 * np.pi * 220 * time), 0)
    return pcm.astype(np.float32)


def test_speech_is_found_by_its_energy_and_cut_at_pauses() -> None:
    found = clips.speech_pieces(tone((0.5, 1.0), (1.2, 1.5), (2.5, 3.0), (4.0, 4.05), seconds=5))
    assert np.allclose(found, [(0.5, 1.5), (2.5, 3.0)])


def test_silence_has_no_speech() -> None:
    assert clips.speech_pieces(np.zeros(16000, np.float32)) == []
    assert clips.speech_pieces(np.zeros(10, np.float32)) == []


def test_words_are_spread_by_their_length_over_the_speech_alone() -> None:
    first, second = clips.spread("abc abc abc abc", [(1.0, 2.0), (5.0, 6.0)])
    assert (first.text, second.text) == ("abc abc", "abc abc")
    assert first.word_ends == pytest.approx((1.5, 2.0))
    assert second.word_ends == pytest.approx((5.5, 6.0))


def write_set(folder: Path, *rows: dict[str, object]) -> Path:
    folder.mkdir()
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


def test_a_manifest_gives_single_clips_sessions_and_silence(tmp_path: Path) -> None:
    manifest = write_set(
        tmp_path / "mixed",
        {"id": "a", "path": "a.flac", "seconds": 2.0, "text": "Turn on."},
        {
            "id": "b",
            "path": "b.flac",
            "seconds": 9.0,
            "text": "  One. Two. ",
            "segments": [
                {"start": 0.5, "end": 2.5, "speech_start": 1.0, "speech_end": 2.0, "text": "One."},
                {"start": 4.5, "end": 6.5, "speech_start": 5.0, "speech_end": 6.0, "text": "Two."},
            ],
        },
        {"id": "c", "path": "c.flac", "seconds": 5.0, "text": "", "human_babble": True},
        {
            "id": "d",
            "path": "d.flac",
            "seconds": 3.0,
            "text": "up",
            "speech_start": 1.0,
            "speech_end": 2.0,
            "words": [{"text": "up", "end": 1.9}],
            "condition": "mix",
        },
    )
    soundfile.write(tmp_path / "mixed" / "a.flac", tone((0.5, 1.5), seconds=2), 16000)
    single, session, silent, marked = clips.read_manifest(manifest)
    assert (single.bounds, single.word_ends, single.condition) == ("energy", "spread", "mixed")
    assert (single.utterances[0].start, single.utterances[0].end) == pytest.approx((0.5, 1.5))
    assert session.is_session
    assert session.cuts == ((0.5, 2.5), (4.5, 6.5))
    assert session.text == "One. Two."
    assert [u.end for u in session.utterances] == [2.0, 6.0]
    assert silent.voices
    assert not silent.is_speech
    assert (marked.word_ends, marked.utterances[0].word_ends, marked.condition) == ("manifest", (1.9,), "mix")
    assert clips.find_manifests(tmp_path) == [manifest]
    assert clips.find_manifests(tmp_path / "nowhere") == []


def test_a_row_that_is_no_clip_is_named_with_its_line(tmp_path: Path) -> None:
    manifest = write_set(tmp_path / "bad", {"id": "a", "path": "a.flac", "text": ""})
    with pytest.raises(ClipError, match=r"manifest\.jsonl:1: not a clip \(KeyError: 'seconds'\)"):
        clips.read_manifest(manifest)


def test_audio_of_another_rate_or_none_is_refused_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fast.wav", np.zeros(480, np.float32), 48000)
    with pytest.raises(ClipError, match=r"fast\.wav: 48000 Hz"):
        clips.read_audio(tmp_path / "fast.wav")
    with pytest.raises(ClipError, match="cannot be read"):
        clips.read_audio(tmp_path / "none.wav")


# --- the whole -----------------------------------------------------------------------------------------


def recording(
    clip_id: str, text: str, *events: tuple[float, dict[str, object]], **fields: object
) -> Recording:
    utterances = (Utterance(1.0, 3.0, text, (2.0, 3.0)),) if text else ()
    defaults: dict[str, object] = {
        "id": clip_id,
        "group": "single",
        "condition": "clean",
        "path": Path(clip_id),
        "seconds": 4.0,
        "text": text,
        "utterances": utterances,
        "bounds": "manifest" if text else "none",
        "word_ends": "spread",
        "voices": False,
        "cuts": (),
    }
    clip = Clip(**(defaults | fields))  # type: ignore[arg-type]
    return Recording(clip, tuple(Received(at, event) for at, event in events), 0.002, "scripted")


def test_figures_are_given_by_group_with_streaming_and_offline_errors() -> None:
    speech = recording("a", "turn on", *EVENTS)
    ghost_event = {"type": "transcript.final", "segment": 0, "text": "you", "start_ms": 0, "end_ms": 500}
    ghost = recording("b", "", (2.0, ghost_event), seconds=1800.0)
    voices = recording("c", "", (2.0, ghost_event), voices=True)
    figures = report.group_figures([speech, ghost, voices], {Path("a"): "Turn off."})

    spoken = figures["single"]
    rates = {"clips": 1, "words": 2, "streaming": 0.0, "offline": 50.0, "delta": -50.0}
    assert spoken["wer"]["all"] == {**rates, "plain": rates}
    assert spoken["latency_ms"]["first_partial"] == {"n": 1, "p50": 800.0, "p90": 800.0, "p99": 800.0}
    assert spoken["latency_ms"]["finalization"]["p50"] == 550.0
    assert spoken["latency_ms"]["compute_finalization"]["p50"] == 50.0
    assert spoken["flicker"] == {
        "upwr_tentative": 0.5,
        "upwr_tentative_exact": 0.5,
        "upwr_committed": 0.0,
        "final_words": 2,
    }
    assert (spoken["lost_s"], spoken["errors"]) == (0.25, ["device_failed"])

    silent = figures["single (no speech)"]
    assert (silent["strict_clips"], silent["strict_finals"], silent["all_finals"]) == (1, 1, 2)
    assert silent["strict_finals_per_hour"] == 2.0


def test_digits_are_one_word_for_whispers_normalizer_and_many_in_plain_rates() -> None:
    said = {"type": "transcript.final", "segment": 0, "text": "Two four six.", "start_ms": 0, "end_ms": 900}
    rates = report.error_rates([recording("a", "two four five", (1.0, said))], {})["all"]
    assert (rates["words"], rates["streaming"], rates["offline"], rates["delta"]) == (1, 100.0, None, None)
    assert (rates["plain"]["words"], rates["plain"]["streaming"]) == (3, 33.33)


def test_provenance_names_commit_machine_and_versions() -> None:
    found = report.provenance(Path(__file__).parents[2])
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["captiond"]


# --- lagging -------------------------------------------------------------------------------------------


def test_who_commits_each_word_as_it_ends_lags_by_one_word() -> None:
    """Four words evenly over two seconds, each committed when it is over: half a second behind an ideal."""
    rows = [(1.5, "a", ""), (2.0, "a b", ""), (2.5, "a b c", "")]
    heard = segment(*rows, final=(3.0, "a b c d"), start=1.0, end=3.0)
    [match] = metrics.match_segments([heard], [utterance(1.0, 3.0, "a b c d")])
    assert metrics.lagging(match) == pytest.approx(0.5)


def test_who_says_all_at_the_end_lags_by_all_of_it_and_saying_more_does_not_help() -> None:
    truth = [utterance(1.0, 3.0, "a b c d")]
    late = segment(final=(3.0, "a b c d"), start=1.0, end=3.0)
    long = segment(final=(3.0, "a b c d e f g h"), start=1.0, end=3.0)
    [one], [other] = (metrics.match_segments([heard], truth) for heard in (late, long))
    assert metrics.lagging(one) == metrics.lagging(other) == pytest.approx(2.0)


def test_a_part_of_an_utterance_has_no_lagging_of_its_own() -> None:
    truth = [utterance(1.0, 5.0, "a b c d")]
    first, second = (
        segment(final=(3.2, "a b"), start=1.0, end=3.0),
        segment(final=(5.2, "c d"), start=3.2, end=5.0),
    )
    assert [metrics.lagging(match) for match in metrics.match_segments([first, second], truth)] == [
        None,
        None,
    ]
