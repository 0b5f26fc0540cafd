"""A client's bytes to 16 kHz mono float32.

Takes: bytes of one agreed encoding, rate and number of channels, cut anywhere. Gives: samples in
[-1, 1], never NaN; a sample that is not complete yet is carried over, never dropped. Knows no stream.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import soxr
from captiond_engine.errors import AudioError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array
from numpy.typing import NDArray

SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "pcm_mulaw": 1, "pcm_alaw": 1}
FILE_BLOCK_S = 10


class AudioDecoder:
    """Decodes one client's audio. ``repaired`` counts samples that were NaN, infinite or beyond full scale."""

    def __init__(self, encoding: str, rate_hz: int, channels: int) -> None:
        self._encoding = encoding
        self._channels = channels
        self._frame_bytes = SAMPLE_BYTES[encoding] * channels
        self._resampler = Resampler(rate_hz)
        self._carry = b""
        self.repaired = 0

    def decode(self, data: bytes) -> Float32Array:
        """The samples that ``data`` completes."""
        data = self._carry + data
        whole = len(data) - len(data) % self._frame_bytes
        self._carry = data[whole:]
        if not whole:
            return np.zeros(0, np.float32)
        pcm, repaired = sound(self._samples(data[:whole]))
        self.repaired += repaired
        mono = pcm.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
        return self._resampler.resample(np.asarray(mono, np.float32))

    def finish(self) -> Float32Array:
        """The samples that the resampler still holds. More may be decoded after."""
        return self._resampler.finish()

    def _samples(self, data: bytes) -> Float32Array:
        match self._encoding:
            case "pcm_s16le":
                return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)
            case "pcm_f32le":
                return np.frombuffer(data, "<f4").astype(np.float32)
            case "pcm_mulaw":
                return MULAW[np.frombuffer(data, np.uint8)]
            case _:
                return ALAW[np.frombuffer(data, np.uint8)]


class Resampler:
    """Mono float32 of any rate to 16 kHz, piece by piece; a rate of 16 kHz passes through."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._soxr = self._fresh()

    def resample(self, pcm: Float32Array) -> Float32Array:
        if self._soxr is None:
            return pcm
        return sound(np.asarray(self._soxr.resample_chunk(pcm), np.float32))[0]

    def finish(self) -> Float32Array:
        """What is still inside; the filter begins anew."""
        if self._soxr is None:
            return np.zeros(0, np.float32)
        tail = self._soxr.resample_chunk(np.zeros(0, np.float32), last=True)
        self._soxr = self._fresh()
        return sound(np.asarray(tail, np.float32))[0]

    def _fresh(self) -> soxr.ResampleStream | None:
        if self._rate_hz == SAMPLE_RATE_HZ:
            return None
        return soxr.ResampleStream(self._rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")


def sound(pcm: Float32Array) -> tuple[Float32Array, int]:
    """``pcm`` with NaN and infinities as silence and clipped to full scale, and how many that were."""
    wrong = ~(np.abs(pcm) <= 1)  # true for NaN too
    count = int(np.count_nonzero(wrong))
    if count:
        finite = np.where(np.isfinite(pcm), pcm, np.float32(0))
        pcm = np.clip(finite, -1, 1).astype(np.float32)
    return pcm, count


def read_file(path: Path) -> Float32Array:
    """A whole audio file as 16 kHz mono. Raises AudioError for what is no audio."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz = int(file.samplerate)
            resampler = Resampler(rate_hz)
            pieces = [
                resampler.resample(sound(block.mean(axis=1, dtype=np.float32))[0])
                for block in file.blocks(FILE_BLOCK_S * rate_hz, dtype="float32", always_2d=True)
            ]
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        missing = not path.exists()
        why = "there is no such file" if missing else f"this is no audio that can be read here ({_reason(error)})"
        raise AudioError(
            f"{path}: {why}.",
            advice="" if missing else "WAV, FLAC, OGG and MP3 files are understood.",
        ) from None
    return np.concatenate([*pieces, resampler.finish()]).astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__


def _mulaw_table() -> Float32Array:
    """ITU-T G.711 mu-law, all 256 codes, as fractions of 16-bit full scale."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((mantissa.astype(np.int32) << 3) + 0x84) << exponent) - 0x84
    return _signed(magnitude, negative=(code & 0x80) != 0)


def _alaw_table() -> Float32Array:
    """ITU-T G.711 A-law, all 256 codes, as fractions of 16-bit full scale."""
    code = np.arange(256, dtype=np.uint8) ^ np.uint8(0x55)
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    linear = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, linear, (linear + 0x100) << np.maximum(exponent - 1, 0))
    return _signed(magnitude, negative=(code & 0x80) == 0)


def _signed(magnitude: NDArray[np.int32], *, negative: NDArray[np.bool_]) -> Float32Array:
    signed = np.where(negative, -magnitude, magnitude).astype(np.float32) / np.float32(32_768)
    return cast(Float32Array, signed)


MULAW = _mulaw_table()
ALAW = _alaw_table()
