"""What the stream core and the scheduler ask of a model and of the device it runs on.

Implemented by ``whisper.model`` (real) and by the scripted model of the tests. Knows no implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from captiond_engine.types import SAMPLE_RATE_HZ, Decoding, Job, samples_from_ms


@dataclass(frozen=True, slots=True)
class WordPiece:
    """One word as the tokenizer cuts it: its text with leading space, and its tokens."""

    text: str
    tokens: tuple[int, ...]


class Tokenizer(Protocol):
    """Text to tokens and back, for one model."""

    def encode(self, text: str) -> list[int]:
        """Plain text tokens; special tokens written out in ``text`` are never recognised."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``; special tokens are left out."""

    def split_words(self, tokens: Sequence[int]) -> list[WordPiece]:
        """``tokens`` cut into words; the concatenated pieces give back all text tokens."""


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a stream must know of its model. Lengths in samples."""

    name: str
    mels: int = 80
    languages: tuple[str, ...] = ("en",)  # more than one: multilingual
    max_window: int = 30 * SAMPLE_RATE_HZ
    min_fitted_window: int = 3 * SAMPLE_RATE_HZ
    fitted_step: int = SAMPLE_RATE_HZ // 2  # fitted windows are rounded up to a multiple of this
    window_partial: Literal["full", "fitted"] = "full"
    window_final: Literal["full", "fitted"] = "full"
    max_segment: int = samples_from_ms(25_000)
    max_prefix_tokens: int = 200
    pack: bool = True  # whether neighbouring segments of a recording share a window
    commit: str = "local-agreement"  # the policy that words are committed by, and what it holds back
    commit_hold: int = samples_from_ms(400)
    unsure: float | None = None  # a final of a few words less likely than this is not believed; None: any is
    unfinished_silence: int = 0  # quiet that ends a segment whose text may go on; 0: as any other

    def window_length(self, heard: int, choice: Literal["full", "fitted"]) -> int:
        """Samples of the window for ``heard`` samples: all 30 s, or what was heard, rounded up."""
        if choice == "full":
            return self.max_window
        fitted = -(-heard // self.fitted_step) * self.fitted_step
        return min(self.max_window, max(self.min_fitted_window, fitted))


class Device(Protocol):
    """Runs jobs. One call at a time; the scheduler forms the batches."""

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        """One decoding per job, in order. Raises DeviceError when the device failed."""

    async def probe(self) -> None:
        """The least work that shows that the device answers. Raises DeviceError."""
