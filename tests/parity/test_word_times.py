"""Word times: against openai-whisper's, against one pass over the text, and against what was truly said when.

``aligned`` is speech whose words' times its synthesiser told (tests/data/make_aligned.py).
"""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.align import Detokenizer
from captiond_engine.decoding.options import DecodingOptions
from captiond_engine.decoding.timing import token_times
from captiond_engine.types import POSITION_SAMPLES, SAMPLE_RATE_HZ, Float32Array, Window
from captiond_engine.whisper.encoding import Encoding
from captiond_engine.whisper.model import Prompt

from tests.parity import models

ALIGNED = Path(__file__).parents[1] / "data" / "aligned"
BEFORE, AFTER = 3_200, 1_600  # samples around a sentence, as a live segment has them


@cache
def sentences() -> list[dict[str, Any]]:
    [row] = (ALIGNED / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    segments: list[dict[str, Any]] = json.loads(row)["segments"]
    return segments


@cache
def sound() -> Float32Array:
    pcm, rate_hz = soundfile.read(ALIGNED / "aligned.flac", dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    return np.asarray(pcm, np.float32)


def heard(sentence: dict[str, Any]) -> tuple[Float32Array, float]:
    """Samples of a sentence, and the second at which they begin."""
    start = round(sentence["start"] * SAMPLE_RATE_HZ) - BEFORE
    end = round(sentence["end"] * SAMPLE_RATE_HZ) + AFTER
    return sound()[start:end], start / SAMPLE_RATE_HZ


def encoded(pcm: Float32Array) -> Encoding:
    positions = Window(0, 0, len(pcm), np.zeros((80, 0), np.float32)).positions
    return models.bundled_model().encode(log_mel(pcm, 80, 3000)[None], [positions])


def prompt_of(text: list[int]) -> Prompt:
    tokenizer = models.bundled_model().require_tokenizer()
    return Prompt((tokenizer.start_of_transcript, tokenizer.no_timestamps, *text), 0, len(text))


def errors_s(find: str) -> tuple[list[float], list[float]]:
    """How far starts and ends of words are off, in seconds, for the words that were understood."""
    model = models.bundled_model()
    tokenizer = model.require_tokenizer()
    starts, ends = [], []
    for sentence in sentences():
        pcm, at = heard(sentence)
        encoding = encoded(pcm)
        if find == "said":
            [decoding] = model.decode(encoding, [prompt_of([])], ["en"])
        else:
            [decoding] = model.decode_with(encoding, [DecodingOptions(beam_size=3, without_timestamps=True)])
        until = round((sentence["speech_end"] - at) * SAMPLE_RATE_HZ)
        onset = round((sentence["speech_start"] - at) * SAMPLE_RATE_HZ)
        words = Detokenizer(tokenizer).words(decoding, onset, until, origin=0)
        said = [word.text.strip() for word in words]
        alike = SequenceMatcher(None, said, sentence["text"].split(), autojunk=False)
        for block in alike.get_matching_blocks():
            truths = sentence["words"][block.b : block.b + block.size]
            for word, truth in zip(words[block.a : block.a + block.size], truths, strict=True):
                starts.append(at + word.start / SAMPLE_RATE_HZ - truth["start"])
                ends.append(at + word.end / SAMPLE_RATE_HZ - truth["end"])
    return starts, ends


@pytest.mark.parametrize("find", ["said", "searched"])
def test_words_stand_where_they_were_said(find: str) -> None:
    """Bounds above what was measured: medians 33 and 48 ms, ninetieth percentiles 98 and 126 ms."""
    starts, ends = errors_s(find)
    assert len(starts) >= 100
    for errors in (starts, ends):
        assert np.median(np.abs(errors)) < 0.08
        assert np.percentile(np.abs(errors), 90) < 0.25
        assert abs(np.median(errors)) < 0.04


def test_times_of_a_decode_are_those_of_one_pass_over_its_text() -> None:
    """The fast path leaves the row after end-of-text out of the mean, so that a step more or less may be."""
    model = models.bundled_model()
    differences = []
    for sentence in sentences()[:8]:
        encoding = encoded(heard(sentence)[0])
        [decoding] = model.decode(encoding, [prompt_of([])], ["en"])
        [whole] = model.align(encoding, [prompt_of(list(decoding.tokens))])
        fast = np.array(decoding.starts) // POSITION_SAMPLES
        assert len(fast) == len(whole.starts) == len(decoding.tokens) + 1
        differences += np.abs(fast - np.array(whole.starts)).tolist()
        assert np.array_equal(np.array(decoding.heeded) // POSITION_SAMPLES, whole.heeded)
    assert max(differences) <= 1


def test_a_forced_beginning_is_timed_with_the_rest() -> None:
    model = models.bundled_model()
    encoding = encoded(heard(sentences()[0])[0])
    [whole] = model.decode(encoding, [prompt_of([])], ["en"])
    forced = list(whole.tokens[:4])
    [rest] = model.decode(encoding, [prompt_of(forced)], ["en"])
    assert (*forced, *rest.tokens) == whole.tokens
    assert rest.starts == whole.starts


def test_rows_of_a_batch_are_timed_as_they_are_alone() -> None:
    model = models.bundled_model()
    pieces = [heard(sentence)[0] for sentence in sentences()[:3]]
    alone = [model.decode(encoded(pcm), [prompt_of([])], ["en"])[0].starts for pcm in pieces]
    positions = [-(-len(pcm) // POSITION_SAMPLES) for pcm in pieces]
    encoding = model.encode(np.stack([log_mel(pcm, 80, 3000) for pcm in pieces]), positions)
    together = model.decode(encoding, [prompt_of([])] * 3, ["en"] * 3)
    assert [decoding.starts for decoding in together] == alone


@pytest.mark.parity
def test_times_are_the_references() -> None:
    """The same text, read with its end-of-text, which counts in the means as in the reference."""
    whisper = pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
    torch = pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    from whisper.timing import find_alignment
    from whisper.tokenizer import get_tokenizer

    from tests.parity.make_goldens import reference_model

    ours, checkpoint = models.bundled_model(), models.bundled_checkpoint()
    reference = reference_model(checkpoint.config, checkpoint.tensors)
    mask = torch.zeros(reference.dims.n_text_layer, reference.dims.n_text_head, dtype=torch.bool)
    for layer, head in ours.config.aligned_by:
        mask[layer, head] = True
    reference.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    tokenizer = get_tokenizer(multilingual=False)
    for sentence in sentences():
        pcm, _ = heard(sentence)
        text = tokenizer.encode(" " + sentence["text"])
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(pcm)))
        expected = find_alignment(reference, tokenizer, text, mel, len(pcm) // 160)
        prompt = prompt_of([*text, tokenizer.eot])
        positions = len(pcm) // POSITION_SAMPLES
        ours.greedy(ours.encode(log_mel(pcm, 80, 3000)[None], [positions]), [prompt], max_new_tokens=1)
        attended = ours.kept_attention(1)[0, : len(prompt.tokens)]
        found = token_times(attended, 1, len(text), positions)
        at = 0
        for word in expected:
            first, at = at, at + len(word.tokens)
            assert found.starts[first] * POSITION_SAMPLES / SAMPLE_RATE_HZ == pytest.approx(word.start)
            assert found.starts[at] * POSITION_SAMPLES / SAMPLE_RATE_HZ == pytest.approx(word.end)
