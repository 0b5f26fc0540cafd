"""Is somebody speaking in this window? One detector for each stream, as detectors remember sound.

Takes: fixed windows of float32 PCM, in order. Gives: a probability of voice in [0, 1]. Knows nothing of
segments. A new detector is one class with the members of ``VoiceDetector`` and one line in ``DETECTORS``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
import webrtcvad

from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array, samples_from_ms
from captiond_engine.vad.silero import SileroDetector


class VoiceDetector(Protocol):
    """Give it every window of a stream, in order."""

    @property
    def window(self) -> int:
        """Samples in a window."""

    def probability(self, window: Float32Array) -> float:
        """Voice in float32 [window] PCM: a probability in [0, 1]."""

    def reset(self) -> None:
        """Forget the sound heard so far: the timeline has a gap here."""


class NoiseFloor:
    """How far a window stands above the steady noise of the last three seconds, in decibels.

    Minimum statistics (R. Martin, 2001), much simplified: energies are averaged over three windows, and
    the floor is the least of the last 100. Until so many were heard the floor is ``QUIET_DB``, so that a
    stream may begin with speech. Steady noise is thus taken for speech for three seconds at most.
    """

    WINDOWS = 100
    AVERAGED = 3
    QUIET_DB = -65.0

    def __init__(self) -> None:
        self._energies: deque[float] = deque(maxlen=self.AVERAGED)
        self._least: deque[tuple[int, float]] = deque()  # rising: first is the minimum of the last 100
        self._count = 0

    def rise(self, energy: float) -> float:
        """Decibels above the floor, for one window of mean square ``energy``."""
        self._energies.append(energy)
        level = _decibels(sum(self._energies) / len(self._energies))
        while self._least and self._least[-1][1] >= level:
            self._least.pop()
        self._least.append((self._count, level))
        if self._least[0][0] <= self._count - self.WINDOWS:
            self._least.popleft()
        self._count += 1
        floor = self._least[0][1] if self._count > self.WINDOWS else min(self._least[0][1], self.QUIET_DB)
        return level - floor


class WebrtcDetector:
    """WebRTC's Gaussian mixture detector on 30 ms windows, held against the noise floor.

    1.0: WebRTC hears voice, well above the floor. 0.5: voice that only just stands out; enough to go
    on, not enough to begin. 0.0: no voice, or nothing above ``-60 dBFS``. The margins were chosen on
    recorded sessions: WebRTC alone takes steady rain for speech without end, and with a margin of 3 dB
    and more for going on, the last soft words in noise are lost.
    ``aggressiveness``: 0 (hears much as speech) to 3 (hears little).
    """

    window = samples_from_ms(30)
    BEGIN_DB = 5.0
    GO_ON_DB = 2.0
    LEAST_DBFS = -60.0

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(4):
            raise ValueError(f"vad aggressiveness is 0, 1, 2 or 3, not {aggressiveness}")
        self._aggressiveness = aggressiveness
        self.reset()

    def probability(self, window: Float32Array) -> float:
        pcm = np.clip(window * 32_767.0, -32_768, 32_767).astype("<i2")
        voice = self._vad.is_speech(pcm.tobytes(), SAMPLE_RATE_HZ)
        energy = float(np.dot(window, window)) / len(window)
        rise = self._floor.rise(energy)
        if not voice or rise < self.GO_ON_DB or _decibels(energy) < self.LEAST_DBFS:
            return 0.0
        return 1.0 if rise >= self.BEGIN_DB else 0.5

    def reset(self) -> None:
        self._vad = webrtcvad.Vad(self._aggressiveness)
        self._floor = NoiseFloor()


def _decibels(energy: float) -> float:
    return 10 * math.log10(energy + 1e-12)


DETECTORS: dict[str, Callable[[int], VoiceDetector]] = {
    "webrtc": WebrtcDetector,
    "silero": lambda aggressiveness: SileroDetector(),
}


def open_detector(name: str, aggressiveness: int) -> VoiceDetector:
    """A new detector by its registered name; ``aggressiveness`` is WebRTC's.

    Raises ValueError for a name that is not there, ConfigError (extra_missing) for one not installed.
    """
    if name not in DETECTORS:
        raise ValueError(f"there is no voice detector {name!r}; there are: {', '.join(DETECTORS)}")
    return DETECTORS[name](aggressiveness)
