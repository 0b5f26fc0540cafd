"""Log-mel: incremental equals whole, bit for bit, however the audio was cut; edges as the reference's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from captiond_engine.audio.mel import LogMel, log_mel, mel_filters
from hypothesis import given, settings
from hypothesis import strategies as st


def _noise(samples: int, seed: int = 3) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(samples, dtype=np.float32) * np.float32(0.1)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 9_000),
    cuts=st.lists(st.integers(1, 9_000), max_size=30),
    extra_hops=st.integers(0, 40),
    looks=st.booleans(),
)
def test_incremental_equals_whole(samples: int, cuts: list[int], extra_hops: int, looks: bool) -> None:
    pcm = _noise(samples)
    hops = max(2, -(-samples // 160)) + extra_hops
    grown = LogMel(80)
    edges = sorted({0, samples, *(cut for cut in cuts if cut < samples)})
    for start, end in itertools.pairwise(edges):
        grown.extend(pcm[start:end])
        if looks:
            grown.window(hops)
    assert np.array_equal(grown.window(hops), log_mel(pcm, 80, hops))


@given(samples=st.integers(1, 4_000), hops=st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_padding_is_the_same_as_zeros_that_were_heard(samples: int, hops: int) -> None:
    pcm = _noise(samples)
    length = hops * 160
    padded = np.pad(pcm[:length], (0, max(0, length - samples)))
    np.testing.assert_allclose(log_mel(pcm, 80, hops), log_mel(padded, 80, hops), atol=1e-6)


@pytest.mark.parametrize("mels", [80, 128])
def test_filters_have_unit_area_and_rising_centres(mels: int) -> None:
    filters = mel_filters(mels)
    assert filters.shape == (mels, 201)
    centres = filters.argmax(axis=1)
    assert (np.diff(centres) >= 0).all()
    areas = filters[-10:].sum(axis=1) * 40  # bins are 40 Hz apart; wide filters are sampled finely
    np.testing.assert_allclose(areas, 1.0, atol=0.05)


def test_silence_is_flat_and_a_tone_stands_in_its_own_filter() -> None:
    assert np.ptp(log_mel(np.zeros(16_000, np.float32), 80, 100)) == 0
    tone = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000).astype(np.float32)
    row = int(log_mel(tone, 80, 100)[:, 50].argmax())
    assert abs(mel_filters(80)[row].argmax() * 40 - 1_000) <= 40


def test_a_window_needs_two_hops() -> None:
    with pytest.raises(ValueError, match="at least 2 hops"):
        LogMel(80).window(1)
