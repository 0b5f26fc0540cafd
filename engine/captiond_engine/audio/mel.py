"""Whisper's log-mel spectrogram, whole or grown as audio arrives; both give the same numbers.

Takes float32 samples at 16 kHz, gives float32 [mels, hops]. Knows no model, clock or device.
Formulae: openai-whisper ``audio.py`` (``log_mel_spectrogram``); filters: Slaney's Auditory Toolbox as in
librosa ``filters.mel(htk=False, norm="slaney")``. Spectra are computed in float64, so that the way the
audio was cut leaves no trace after rounding to float32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array

FFT_SAMPLES = 400
HALF_FFT_SAMPLES = FFT_SAMPLES // 2
_POWER_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0  # in log10 units below the loudest value of the window

Float64Array = NDArray[np.float64]


@lru_cache(maxsize=4)
def mel_filters(mels: int) -> Float32Array:
    """Triangular filters, float32 [mels, 201], from 0 to 8000 Hz, each of unit area (Slaney)."""
    step_hz, log_start_hz = 200.0 / 3, 1000.0
    log_start_mel, log_step = log_start_hz / step_hz, np.log(6.4) / 27.0
    top_mel = log_start_mel + np.log(SAMPLE_RATE_HZ / 2 / log_start_hz) / log_step
    mel = np.linspace(0.0, top_mel, mels + 2)
    linear_hz, log_hz = step_hz * mel, log_start_hz * np.exp(log_step * (mel - log_start_mel))
    edges_hz = np.where(mel >= log_start_mel, log_hz, linear_hz)
    bins_hz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    ramps = edges_hz[:, None] - bins_hz[None, :]
    widths = np.diff(edges_hz)
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return np.ascontiguousarray(filters, dtype=np.float32)


@lru_cache(maxsize=1)
def _hann() -> Float64Array:
    """Periodic Hann window, as ``torch.hann_window``."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES)


def _log_power(padded: Float64Array, columns: int, mels: int) -> Float64Array:
    """log10 mel power, float64 [columns, mels]; column ``i`` reads ``padded[160 i : 160 i + 400]``."""
    if columns <= 0:
        return np.empty((0, mels))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES][:columns]
    spectrum = np.fft.rfft(frames * _hann(), axis=-1)
    power = spectrum.real**2 + spectrum.imag**2
    mel_power = power @ mel_filters(mels).T.astype(np.float64)
    return np.log10(np.maximum(mel_power, _POWER_FLOOR))


def _normalise(log_power: Float64Array) -> Float32Array:
    """Clamp to 8 below the loudest value, scale to about [-1, 1]; float32 [mels, hops]."""
    clamped = np.maximum(log_power, log_power.max() - _DYNAMIC_RANGE)
    return np.ascontiguousarray(((clamped + 4.0) / 4.0).T, dtype=np.float32)


def log_mel(pcm: Float32Array, mels: int, hops: int | None = None) -> Float32Array:
    """Log-mel of ``pcm`` [samples], zero-padded or cut to ``hops`` columns; float32 [mels, hops].

    Without ``hops``: as many as ``pcm`` has whole hops, at least 2.
    """
    whole = LogMel(mels)
    whole.extend(pcm if hops is None else pcm[: hops * HOP_SAMPLES])
    return whole.window(max(2, len(pcm) // HOP_SAMPLES) if hops is None else hops)


class LogMel:
    """A spectrogram that grows with its audio: each finished column is computed once."""

    def __init__(self, mels: int = 80) -> None:
        self.mels = mels
        self.samples = 0
        self._columns: list[Float64Array] = []  # blocks [n, mels] of finished columns
        self._finished = 0
        # The samples that unfinished columns still need; the first is at _pending_start, which is
        # negative at first: the reflection that centres column 0.
        self._pending: Float64Array = np.empty(0)
        self._pending_start = 0

    def extend(self, pcm: Float32Array) -> None:
        """Append samples, float32 [n] in [-1, 1]."""
        self._pending = np.concatenate([self._pending, pcm.astype(np.float64)])
        self.samples += len(pcm)
        if self._pending_start == 0 and self._finished == 0:
            if self.samples <= HALF_FFT_SAMPLES:
                return
            self._pending = np.concatenate([self._pending[HALF_FFT_SAMPLES:0:-1], self._pending])
            self._pending_start = -HALF_FFT_SAMPLES
        ready = (len(self._pending) - FFT_SAMPLES) // HOP_SAMPLES + 1
        if ready > 0:
            self._columns.append(_log_power(self._pending, ready, self.mels))
            self._finished += ready
            self._pending = self._pending[ready * HOP_SAMPLES :].copy()
            self._pending_start += ready * HOP_SAMPLES

    def window(self, hops: int) -> Float32Array:
        """The audio so far, zero-padded (or cut) to ``hops * 160`` samples; float32 [mels, hops].

        Equals openai-whisper's ``log_mel_spectrogram(pad_or_trim(audio, hops * 160))``.
        Raises ValueError below 2 hops: the reflection at the edges needs 200 samples.
        """
        if hops < 2:
            raise ValueError(f"a window needs at least 2 hops, not {hops}")
        # Columns that see neither the zero padding nor the reflection at the window's end.
        inside = (hops * HOP_SAMPLES - HALF_FFT_SAMPLES) // HOP_SAMPLES + 1
        kept = min(self._finished, inside)
        blocks = [np.concatenate(self._columns)[:kept]] if self._columns else []
        self._columns = [np.concatenate(self._columns)] if self._columns else []
        if kept < hops:
            blocks.append(self._tail(kept, hops))
        return _normalise(np.concatenate(blocks))

    def _tail(self, first: int, hops: int) -> Float64Array:
        """Columns ``first`` to ``hops``, with zeros after the audio and the edges reflected."""
        if first < self._finished:
            raise ValueError("a window shorter than the finished audio must be cut from a new LogMel")
        # Columns from here on see only zeros, unless the audio reaches the reflection at the window's end.
        heard = -(-(self.samples + HALF_FFT_SAMPLES) // HOP_SAMPLES)
        if heard < hops - 2:
            audible = self._tail_until(first, heard, heard * HOP_SAMPLES + FFT_SAMPLES)
            return np.concatenate([audible, np.full((hops - heard, self.mels), np.log10(_POWER_FLOOR))])
        return self._tail_until(first, hops, hops * HOP_SAMPLES)

    def _tail_until(self, first: int, last: int, length: int) -> Float64Array:
        """Columns ``first`` to ``last`` of the audio zero-padded (or cut) to ``length`` samples."""
        start = self._pending_start  # index of _pending[0]; -200 or 0 at the beginning
        tail = np.zeros(max(0, length - start))
        n = min(len(self._pending), len(tail))
        tail[:n] = self._pending[:n]
        if start == 0 and self._finished == 0:
            tail = np.concatenate([tail[HALF_FFT_SAMPLES:0:-1], tail])
        tail = np.concatenate([tail, tail[-2 : -HALF_FFT_SAMPLES - 2 : -1]])
        return _log_power(tail, last - first, self.mels)
