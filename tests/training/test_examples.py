from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training import store
from engine.training.evaluate import Clip, counts, interval, report
from engine.training.examples import IGNORED, UNTIMED, Examples, stretched
from engine.training.mixing import Mix, Mixer, Said, cut_short
from engine.training.noises import MADE, made, recorded
from engine.training.sessions import Part, session
from engine.training.store import LEVEL_RMS, SAMPLE_RATE, Store, trimmed
from engine.training.text import Vocabulary

PLAIN = Mix(strength=0.0, noisy=0.0, no_speech=0.0, human=0.0, padded=0.0, cut=0.0)


def test_a_folder_that_lacks_a_step_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="step 1 of README"):
        Mixer(tmp_path, 1)


def test_a_seed_tells_the_windows(folder: Path) -> None:
    one, other = (Mixer(folder, 5).window(Mix()) for _ in range(2))
    assert np.array_equal(one.samples, other.samples)
    assert one.spoken == other.spoken


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), longest=st.sampled_from([5.0, 14.0, 28.0]))
def test_words_stand_in_the_window_where_they_are_told(folder: Path, seed: int, longest: float) -> None:
    mix = msgspec.structs.replace(PLAIN, longest_s=(longest,), several=1.0, human=0.3, cut=0.5)
    window = Mixer(folder, seed).window(mix)
    assert len(window.samples) <= (longest + 3.0) * SAMPLE_RATE
    peak = np.abs(window.samples).max()
    for (_, end, _, _), (start, _, _, _) in itertools.pairwise(window.spoken):
        assert end <= start
    for start, end, text, words in window.spoken:
        assert words is not None
        assert len(words) == len(text.split())
        for word_start, word_end in words:
            assert start - 1e-6 <= word_start < word_end <= end + 0.05
            middle = int((word_start + word_end) / 2 * SAMPLE_RATE)
            assert np.abs(window.samples[middle - 400 : middle + 400]).max() > 0.1 * peak


@given(st.integers(0, 2**32), st.integers(2, 8))
def test_a_cut_leaves_whole_words_and_no_end_of_a_sentence(seed: int, count: int) -> None:
    words = [(0.3 * i, 0.3 * i + 0.25) for i in range(count)]
    text = " ".join(["word,"] * count) + "."
    said = Said(np.zeros(int(0.3 * count * SAMPLE_RATE), np.float32), text, words)
    cut = cut_short(said, random.Random(seed))
    kept = len(cut.text.split())
    if cut is said:
        return
    assert cut.text == ", ".join(["word"] * kept)
    assert cut.words == words[:kept]
    assert words[kept - 1][1] - 1e-3 <= len(cut.samples) / SAMPLE_RATE <= words[kept][0] + 0.05


def test_examples_say_what_was_said_when_it_was_said(folder: Path, vocabulary: Vocabulary) -> None:
    examples = Examples(folder, vocabulary, 3)
    for _ in range(30):
        e = examples.example(msgspec.structs.replace(PLAIN, several=0.5))
        assert len(e.inputs) == len(e.labels) == len(e.times)
        assert e.inputs[:2] == [vocabulary.start, vocabulary.no_timestamps]
        assert e.labels[-1] == vocabulary.end
        assert e.inputs[1:] == e.labels[:-1]
        assert vocabulary.decode(e.labels).strip()
        timed = [t for t in e.times if t != UNTIMED]
        assert timed == sorted(timed)
        assert timed[-1] * 100 <= e.mel.shape[1] + 2


def test_timestamps_and_earlier_text(folder: Path, vocabulary: Vocabulary) -> None:
    examples = Examples(folder, vocabulary, 3)
    mix = msgspec.structs.replace(PLAIN, strength=1.0)
    made_up = [examples.example(mix) for _ in range(100)]
    earlier = [e for e in made_up if e.inputs[0] == vocabulary.before]
    stamped = [e for e in made_up if vocabulary.no_timestamps not in e.inputs]
    assert earlier
    assert stamped
    for e in earlier:
        told = e.inputs.index(vocabulary.start)
        assert e.labels[:told] == [IGNORED] * told
        assert all(t == UNTIMED for t in e.times[:told])
    for e in stamped:
        first = e.labels[e.inputs.index(vocabulary.start)]
        assert vocabulary.tokens[first] >= vocabulary.whisper.timestamp_begin


def test_nothing_said_is_told_as_no_speech(folder: Path, vocabulary: Vocabulary) -> None:
    examples = Examples(folder, vocabulary, 3)
    mix = msgspec.structs.replace(PLAIN, no_speech=1.0)
    for _ in range(20):
        e = examples.example(mix)
        assert (e.labels, e.letters) == ([vocabulary.no_speech, vocabulary.end], [])


def test_batches_stay_within_their_frames(folder: Path, vocabulary: Vocabulary) -> None:
    mix = Mix(longest_s=(5.0, 14.0), several=0.5)
    for batch in itertools.islice(Examples(folder, vocabulary, 3).batches(mix, 3000), 12):
        rows, _, frames = batch.mel.shape
        assert rows == 1 or rows * (frames - 80) <= 3000
        assert batch.inputs.shape == batch.labels.shape == batch.times.shape
        assert batch.letters.size == batch.letter_counts.sum()
        assert frames % 2 == 0


def test_stretching_moves_a_formant() -> None:
    spectrum = torch.zeros(201)
    spectrum[100] = 1.0
    for factor in (0.86, 1.0, 1.16):
        moved = stretched(201, factor) @ spectrum
        assert abs(int(moved.argmax()) - 100 * factor) <= 1


def test_steady_noise_is_as_loud_at_the_end_as_at_the_begin_and_new_each_time(folder: Path) -> None:
    """Made anew for each window, where the store's noises are the same few pieces."""
    mix = Mix(longest_s=(4.0,), no_speech=0, noisy=1, steady=1, human=0, cut=0, strength=0)
    mixer, tails = Mixer(folder, 5), []
    for _ in range(8):
        window = mixer.window(mix)
        until = int(max(end for _, end, _, _ in window.spoken) * SAMPLE_RATE)
        if len(window.samples) - until > 800:
            tails.append(window.samples[until:][:800])
    assert len(tails) > 2
    assert all(np.abs(tail).max() > 0 for tail in tails)
    likeness = np.corrcoef(np.stack(tails))
    assert np.abs(likeness - np.eye(len(tails))).max() < 0.9


def test_every_kind_of_noise_is_heard() -> None:
    for samples, utterance in made(1, len(MADE)):
        assert np.isfinite(samples).all(), utterance.voice
        assert np.sqrt((samples**2).mean()) == pytest.approx(LEVEL_RMS, rel=0.01)
        assert utterance.text == ""


def test_sounds_are_read_and_what_is_said_is_left_out(tmp_path: Path) -> None:
    rain = 0.1 * np.random.default_rng(2).standard_normal(SAMPLE_RATE)
    said = ("voices/seven", "math/7_de", "dog_desc", "ack/knight_ack1", "dog_desc_pt_BR", "knight_select2")
    for name in ("dog", "farm/rain_00", "farm/birds_chirp", *said):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rain, SAMPLE_RATE)
    assert {u.voice for _, u in recorded([tmp_path])} == {
        "recorded/dog",
        "recorded/rain_00",
        "recorded/birds_chirp",
    }


def test_a_long_recording_is_heard_no_more_often_than_a_short_one(tmp_path: Path, folder: Path) -> None:
    for name in ("train_0000", "human_digits", "human_prompts"):
        for kind in ("i16", "jsonl"):
            shutil.copy(folder / f"{name}.{kind}", tmp_path)
    low, high = (0.1 * np.sin(np.arange(SAMPLE_RATE) * pitch) for pitch in (0.1, 1.5))
    pieces = [(low, "recorded/symphony")] * 30 + [(high, "recorded/dog")]
    store.write(tmp_path, "noise_made", ((s, store.Utterance("", v, "noise", 0, 0)) for s, v in pieces))
    mixer = Mixer(tmp_path, 5)
    pitches = [int(np.abs(np.fft.rfft(mixer.noise(SAMPLE_RATE // 2))).argmax()) for _ in range(200)]
    dogs = sum(1300 <= pitch <= 2800 for pitch in pitches)
    assert 40 < dogs < 120


def test_a_store_gives_back_what_was_written(folder: Path) -> None:
    store = Store(folder, "train")
    assert [u.text for u in store.utterances][1] == "It is half past six."
    assert len(store.samples(store.utterances[1])) == store.utterances[1].length
    quiet = np.zeros(SAMPLE_RATE, np.float32)
    assert trimmed(quiet) is None
    said = trimmed(np.concatenate([quiet, store.samples(store.utterances[0]), quiet]))
    assert said is not None
    assert abs(len(said) - store.utterances[0].length) < SAMPLE_RATE // 5


def test_a_session_is_loud_where_it_says_and_quiet_where_it_does_not(folder: Path) -> None:
    store = Store(folder, "train")
    parts = itertools.cycle(Part(store.samples(u), u.text, u.voice, 0.0) for u in store.utterances)
    samples, row = session("clean", parts, -45.0, 3)
    assert row["seconds"] == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)
    assert 60 < row["seconds"] < 125
    assert row["text"] == " ".join(s["text"] for s in row["segments"])
    quiet = samples.copy()
    for one in row["segments"]:
        start, end = (round(one[key] * SAMPLE_RATE) for key in ("start", "end"))
        assert np.abs(samples[start:end]).max() > 0.05
        quiet[start - 16 : end + 16] = 0  # times are rounded to a millisecond
    assert np.abs(quiet).max() < 0.01
    for one, after in itertools.pairwise(row["segments"]):
        assert after["start"] - one["end"] == pytest.approx(one["pause_after"], abs=2e-3)


def test_rates_and_their_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    assert counts("one two three", "one too three four") == (2, 3)
    assert counts("", "thank you") == (2, 0)
    low, high = interval(np.array([0, 1, 0, 2] * 50), np.full(200, 10))
    assert low < 0.075 < high
    silent = Clip("noise", np.zeros(10, np.float32), "")
    assert report("noise", "30 s", [silent] * 3, ["", "Yes.", ""])["empty"] == 2
    spoken = Clip("clean", np.zeros(10, np.float32), "Turn on the light.")
    told = report("clean", "30 s", [spoken, spoken], ["Turn on the light", "turn on a light"])
    assert told["wer"] == pytest.approx(12.5)
    assert "empty 2 of 3" in capsys.readouterr().out
