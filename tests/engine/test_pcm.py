"""Decoding of a peer's bytes: the same however they are cut, finite, and faithful to the sound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from captiond_engine.audio.pcm import PcmDecoder, Resampler
from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ
from hypothesis import given, settings
from hypothesis import strategies as st

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 191_999, 192_000]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def decode_all(decoder: PcmDecoder, pieces: list[bytes]) -> np.ndarray:
    return np.concatenate([*(decoder.decode(piece) for piece in pieces), decoder.finish()])


def tone(hz: float, rate_hz: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"]),
    rate_hz=st.sampled_from(RATES),
    channels=st.integers(1, 8),
    places=st.lists(st.integers(0, 10_000), max_size=12),
    seed=st.integers(0, 1_000),
)
def test_the_samples_do_not_depend_on_where_the_bytes_are_cut(
    encoding: str, rate_hz: int, channels: int, places: list[int], seed: int
) -> None:
    data = np.random.default_rng(seed).bytes(6_001)
    whole = decode_all(PcmDecoder(encoding, rate_hz, channels), [data])
    pieces = decode_all(PcmDecoder(encoding, rate_hz, channels), cut(data, places))
    assert np.array_equal(whole, pieces)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()


@settings(max_examples=40, deadline=None)
@given(rate_hz=st.integers(8_000, 192_000), samples=st.integers(0, 3_000))
def test_the_length_is_the_time_that_was_sent(rate_hz: int, samples: int) -> None:
    out = decode_all(PcmDecoder("pcm_s16le", rate_hz), [bytes(2 * samples)])
    assert len(out) == -(-samples * SAMPLE_RATE_HZ // rate_hz)


@pytest.mark.parametrize("rate_hz", [8_001, 15_999, 44_101, 191_999])
def test_a_rate_of_more_phases_than_there_are_filters_is_heard_sample_by_sample(rate_hz: int) -> None:
    """There a position is rounded, at times to a sample that has not come yet."""
    pcm = tone(440, rate_hz, 2_000 / rate_hz)
    whole = decode_all(PcmDecoder("pcm_f32le", rate_hz), [pcm.tobytes()])
    single = decode_all(PcmDecoder("pcm_f32le", rate_hz), [sample.tobytes() for sample in pcm])
    assert np.array_equal(whole, single)


def test_an_odd_byte_is_carried_not_dropped() -> None:
    decoder = PcmDecoder()
    data = np.array([1, -2, 300], "<i2").tobytes()
    parts = [decoder.decode(data[:3]), decoder.decode(b""), decoder.decode(data[3:])]
    assert np.concatenate(parts).tolist() == [1 / 32_768, -2 / 32_768, 300 / 32_768]
    assert decoder.carried == 2
    decoder.decode(b"\x01")
    decoder.finish()
    assert decoder.dropped_bytes == 1


def test_no_nan_and_nothing_beyond_full_scale_gets_through() -> None:
    decoder = PcmDecoder("pcm_f32le")
    data = np.array([np.nan, np.inf, -np.inf, 3.0, -1.5, 0.25, 1e-40], "<f4")
    assert decoder.decode(data.tobytes()).tolist()[:6] == [0, 0, 0, 1, -1, 0.25]
    assert (decoder.nonfinite, decoder.clipped) == (3, 2)


def test_channels_are_averaged() -> None:
    data = np.array([[100, 300], [-100, 100]], "<i2").tobytes()
    assert (PcmDecoder(channels=2).decode(data) * 32_768).tolist() == [200, 0]


def test_g711_gives_the_values_of_the_standard() -> None:
    """Ends and middles of G.711's tables 1 and 2, scaled to 16 bits."""
    mulaw = PcmDecoder("pcm_mulaw").decode(bytes([0x00, 0x80, 0x7F, 0xFF, 0x70])) * 32_768
    assert mulaw.tolist() == [-32_124, 32_124, 0, 0, -120]
    alaw = PcmDecoder("pcm_alaw").decode(bytes([0x2A, 0xAA, 0x55, 0xD5, 0x45])) * 32_768
    assert alaw.tolist() == [-32_256, 32_256, -8, 8, -264]


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_tone_keeps_its_pitch_level_and_place(rate_hz: int) -> None:
    hz = 1_000.0
    out = decode_all(PcmDecoder("pcm_f32le", rate_hz), [tone(hz, rate_hz).astype("<f4").tobytes()])
    wanted = tone(hz, SAMPLE_RATE_HZ)[: len(out)]
    middle = slice(200, len(wanted) - 200)
    assert np.abs(out[middle] - wanted[middle]).max() < 0.002


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000, 192_000])
def test_what_16_khz_cannot_hold_is_not_folded_back(rate_hz: int) -> None:
    resampler = Resampler(rate_hz)
    out = np.concatenate((resampler.extend(tone(9_000, rate_hz)), resampler.finish()))
    assert np.abs(out[200:-200]).max() < 0.5 * 10 ** (-55 / 20)


@pytest.mark.parametrize(("rate_hz", "most_ms"), [(8_000, 3.2), (48_000, 1.7), (44_100, 1.7), (192_000, 1.7)])
def test_the_resampler_holds_back_a_few_milliseconds_at_most(rate_hz: int, most_ms: float) -> None:
    heard = Resampler(rate_hz).extend(np.zeros(rate_hz, np.float32))
    assert (SAMPLE_RATE_HZ - len(heard)) / 16 <= most_ms


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "channels"),
    [("mp3", 16_000, 1), ("pcm_s16le", 7_999, 1), ("pcm_s16le", 192_001, 1), ("pcm_s16le", 16_000, 9)],
)
def test_a_format_that_is_not_spoken_is_refused_by_name(encoding: str, rate_hz: int, channels: int) -> None:
    with pytest.raises(AudioError) as refused:
        PcmDecoder(encoding, rate_hz, channels)
    assert refused.value.code == "audio_invalid"
    assert "Use" in str(refused.value)
