"""A whole recording against openai-whisper: window by window, and as its own sequential algorithm reads it.

Runs where the extra ``parity`` is installed; ``python -m tests.parity.sequential`` prints the larger table.
"""

from __future__ import annotations

import pytest

pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
pytest.importorskip("torch", reason="the extra 'parity' is not installed")

from tests.parity import make_goldens, recordings, sequential  # after the skips

pytestmark = pytest.mark.parity

SLACK = 2.0  # points of WER: one word of the sample is 1.1


@pytest.mark.parametrize("pack", [False, True])
def test_each_window_of_a_batch_says_what_the_reference_decodes(pack: bool) -> None:
    long, model = recordings.kept(), sequential.reference_model()
    told = recordings.ours(long.pcm, batch=4, pack=pack, window="full")
    for job, decoding in told.passes:
        passage = long.pcm[job.payload.start : job.payload.end]
        result, _, _ = make_goldens.decode_clip(model, passage)
        assert list(decoding.tokens) == result.tokens


def test_the_text_is_no_worse_than_the_references_sequential_one() -> None:
    long, model = recordings.kept(), sequential.reference_model()
    mine = sequential.word_error_rate(long.text, recordings.ours(long.pcm).text)
    for conditioned in (False, True):
        text = sequential.sequential(model, long.pcm, condition_on_previous_text=conditioned)
        assert mine <= sequential.word_error_rate(long.text, text) + SLACK


def test_given_our_segments_the_reference_says_the_same() -> None:
    """But for its spectrogram, whose floor is that of the whole recording, and its padding."""
    long, model = recordings.kept(), sequential.reference_model()
    told = recordings.ours(long.pcm, window="full")
    theirs = sequential.within(model, long.pcm, told.spans)
    assert sequential.word_error_rate(theirs, told.text) <= SLACK
