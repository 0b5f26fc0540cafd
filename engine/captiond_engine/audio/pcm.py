"""From the bytes of a peer to float32 mono at 16 kHz, the same however the bytes are cut.

Takes: raw PCM in one of four encodings, any rate from 8 to 192 kHz, 1 to 8 channels. Gives: float32
[samples] in [-1, 1], finite. Knows no container, no stream, no socket.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

Encoding = Literal["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"]
Float64Array = NDArray[np.float64]

LEAST_RATE_HZ, MOST_RATE_HZ = 8_000, 192_000
MOST_CHANNELS = 8


class PcmDecoder:
    """Decodes one peer's audio. ``decode`` any bytes, in order; ``finish`` once at the end.

    Counts what had to be mended: ``nonfinite`` samples made 0, ``clipped`` samples beyond full scale,
    ``carried`` messages that ended inside a sample, ``dropped_bytes`` of a sample never completed.
    """

    def __init__(self, encoding: str = "pcm_s16le", rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1) -> None:
        if encoding not in get_args(Encoding):
            known = ", ".join(get_args(Encoding))
            raise AudioError(f"encoding {encoding!r} is not spoken here.", advice=f"Use one of: {known}.")
        if not LEAST_RATE_HZ <= rate_hz <= MOST_RATE_HZ:
            raise AudioError(
                f"rate {rate_hz} Hz is not spoken here.",
                advice=f"Use {LEAST_RATE_HZ} to {MOST_RATE_HZ} Hz.",
            )
        if not 1 <= channels <= MOST_CHANNELS:
            raise AudioError(f"{channels} channels are not spoken here.", advice="Use 1 to 8.")
        self._samples, width = _ENCODINGS[encoding]
        self._frame_bytes = width * channels
        self._channels = channels
        self._resampler = Resampler(rate_hz)
        self._carry = b""
        self.nonfinite = 0
        self.clipped = 0
        self.carried = 0
        self.dropped_bytes = 0

    def decode(self, data: bytes | bytearray | memoryview) -> Float32Array:
        """What is now decided of the audio at 16 kHz; at most 3 ms of it waits for more bytes."""
        joined = self._carry + bytes(data)
        whole = len(joined) - len(joined) % self._frame_bytes
        self._carry = joined[whole:]
        self.carried += bool(self._carry)
        return self._resampler.extend(self._mono(joined[:whole]))

    def finish(self) -> Float32Array:
        """The end of the audio: what the resampler still held back."""
        self.dropped_bytes += len(self._carry)
        self._carry = b""
        return self._resampler.finish()

    def _mono(self, data: bytes) -> Float32Array:
        pcm = self._samples(data)
        finite = np.isfinite(pcm)
        if not finite.all():
            self.nonfinite += len(pcm) - int(np.count_nonzero(finite))
            pcm = np.where(finite, pcm, np.float32(0))
        beyond = int(np.count_nonzero(np.abs(pcm) > 1))
        if beyond:
            self.clipped += beyond
            pcm = np.clip(pcm, -1, 1)
        if self._channels > 1:
            pcm = pcm.reshape(-1, self._channels).mean(axis=1, dtype=np.float64)
        return np.asarray(pcm, np.float32)


class Resampler:
    """Streaming polyphase FIR from ``rate_hz`` to 16 kHz; output sample 0 is at input sample 0.

    A Kaiser-windowed sinc of ``CROSSINGS`` zero crossings to each side (Smith, "Digital Audio
    Resampling"): flat to 0.85 of the lower Nyquist frequency, 60 dB down at it. It looks ahead 1.5 ms from
    48 kHz, 3 ms from 8 kHz. Sums are in float64 and in a fixed order, so cuts leave no trace.
    """

    CROSSINGS = 24
    MOST_PHASES = 640  # beyond that (odd rates) the nearest of so many phases is taken: -55 dB at worst
    BLOCK = 4_096  # output samples at once: bounds the memory of one call
    GATHERED = 1 << 15  # inputs that are copied at once, where they must be; more are slow to allocate

    def __init__(self, rate_hz: int) -> None:
        self._ratio = Fraction(rate_hz, SAMPLE_RATE_HZ)  # input samples per output sample
        self._given = 0  # output samples given
        self._heard = 0  # input samples heard
        self._half, self._taps = _filter_bank(rate_hz)
        whole = self._ratio.denominator == 1
        self._at_once = self.BLOCK if whole else max(1, self.GATHERED // (2 * self._half))
        # A position that is rounded to the nearest phase may fall on the next input sample.
        self._ahead = self._half + (self._ratio.denominator > len(self._taps))
        self._held: Float64Array = np.zeros(self._half)  # starts at input sample _held_start
        self._held_start = -self._half

    def extend(self, pcm: Float32Array) -> Float32Array:
        """Float32 [samples] at ``rate_hz`` in; what is now decided at 16 kHz out."""
        if self._ratio == 1:
            return pcm
        self._heard += len(pcm)
        self._held = np.concatenate((self._held, pcm))
        return self._drain(self._outputs_before(self._heard - self._ahead))

    def finish(self) -> Float32Array:
        """The rest, as if silence followed."""
        if self._ratio == 1:
            return np.zeros(0, np.float32)
        self._held = np.concatenate((self._held, np.zeros(self._half + 1)))
        return self._drain(self._outputs_before(self._heard))

    def _outputs_before(self, position: int) -> int:
        """How many output samples lie before input ``position``."""
        return max(0, -(-position * self._ratio.denominator // self._ratio.numerator))

    def _drain(self, until: int) -> Float32Array:
        blocks = [np.zeros(0, np.float32)]
        while self._given < until:
            count = min(self._at_once, until - self._given)
            blocks.append(self._block(np.arange(self._given, self._given + count, dtype=np.int64)))
            self._given += count
        keep_from = int(self._given * self._ratio) - self._half - self._held_start
        if keep_from > 0:
            self._held = self._held[keep_from:]
            self._held_start += keep_from
        return np.concatenate(blocks)

    def _block(self, outputs: NDArray[np.int64]) -> Float32Array:
        step, per = self._ratio.numerator, self._ratio.denominator
        phases = len(self._taps)
        # Position in units of 1/per input samples; rounded to the nearest phase where per > phases.
        fine = (outputs * step * phases * 2 + per) // (2 * per)
        first = fine // phases - self._half + 1 - self._held_start
        around = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._half)
        # einsum, not a product and its sum: large temporaries cost more than the arithmetic.
        if per == 1:
            mixed = np.einsum("ij,j->i", around[first[0] : first[-1] + 1 : step], self._taps[0])
        else:
            mixed = np.einsum("ij,ij->i", around[first], self._taps[fine % phases])
        return np.asarray(mixed, np.float32)


@lru_cache(maxsize=16)
def _filter_bank(rate_hz: int) -> tuple[int, Float64Array]:
    """Half length in input samples, and taps [phases, 2 * half] for ``rate_hz``.

    Tap ``j`` of phase ``p`` weighs the input at ``floor(position) - half + 1 + j``.
    """
    ratio = Fraction(rate_hz, SAMPLE_RATE_HZ)
    lower = min(rate_hz, SAMPLE_RATE_HZ)
    half = -(-Resampler.CROSSINGS * rate_hz // lower)
    phases = min(ratio.denominator, Resampler.MOST_PHASES)
    offsets = np.arange(2 * half) - half + 1
    distance = offsets[None, :] - np.arange(phases)[:, None] / phases  # in input samples
    cutoff = 0.925 * lower / rate_hz  # of the input's Nyquist frequency: the middle of the slope
    inside = np.clip(1 - (distance / half) ** 2, 0, 1)
    taps = cutoff * np.sinc(cutoff * distance) * np.i0(5.65 * np.sqrt(inside)) / np.i0(5.65)
    return half, np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float64)


def _s16(data: bytes) -> Float32Array:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)


def _f32(data: bytes) -> Float32Array:
    return np.frombuffer(data, "<f4").astype(np.float32)


def _mulaw(data: bytes) -> Float32Array:
    return _mulaw_table()[np.frombuffer(data, np.uint8)]


def _alaw(data: bytes) -> Float32Array:
    return _alaw_table()[np.frombuffer(data, np.uint8)]


@lru_cache(maxsize=1)
def _mulaw_table() -> Float32Array:
    """ITU-T G.711 mu-law, 256 codes to 14 bits scaled to [-1, 1]."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = ((mantissa << 3) + 132 << exponent) - 132
    return np.where(code & 128, -magnitude, magnitude).astype(np.float32) / np.float32(32_768)


@lru_cache(maxsize=1)
def _alaw_table() -> Float32Array:
    """ITU-T G.711 A-law, 256 codes to 13 bits scaled to [-1, 1]."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    low = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, low, (low + 256) << np.maximum(exponent - 1, 0))
    return np.where(code & 128, magnitude, -magnitude).astype(np.float32) / np.float32(32_768)


_ENCODINGS: dict[str, tuple[Callable[[bytes], Float32Array], int]] = {
    "pcm_s16le": (_s16, 2),
    "pcm_f32le": (_f32, 4),
    "pcm_mulaw": (_mulaw, 1),
    "pcm_alaw": (_alaw, 1),
}
