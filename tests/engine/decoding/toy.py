"""A language model so small that all its texts can be looked at, and passes that watch their caller."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from captiond_engine.decoding.passes import ClipPrompt, Prompt
from captiond_engine.decoding.search import Tokens
from captiond_engine.types import Float32Array

END = 0  # end-of-text


@dataclass(frozen=True)
class Toy:
    """Logits of the next token as a pure function of window and text. ``steps``: they are multiples of
    1/steps, so that ties are common; None: they are not."""

    vocabulary: int
    seed: int = 0
    steps: int | None = None

    def logits(self, window: int, tokens: Sequence[int]) -> Float32Array:
        text = np.array([self.seed, window, *tokens], np.int64)
        drawn = np.random.default_rng(zlib.crc32(text.tobytes())).normal(0, 2, self.vocabulary)
        return np.asarray(
            drawn if self.steps is None else np.round(drawn * self.steps) / self.steps, np.float32
        )

    def no_speech(self, window: int) -> float:
        return 1 / (2 + window)


@dataclass
class ToyPasses:
    """``Passes`` over a toy. Refuses rows that a real one could not have."""

    toy: Toy
    longest: int = 1_000
    end_of_text: int = END
    passes: int = 0
    _rows: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # clip, text
    _clips: Sequence[ClipPrompt] = ()

    def begin(self, clips: Sequence[ClipPrompt]) -> tuple[Float32Array, Float32Array]:
        self._clips = clips
        self._rows = [(number, clip.prompt.tokens) for number, clip in enumerate(clips)]
        silence = np.array([self.toy.no_speech(clip.window) for clip in clips], np.float32)
        return self._logits(), silence

    def step(self, tokens: Tokens, parents: Tokens) -> Float32Array:
        assert len(tokens) == len(parents) > 0
        assert 0 <= parents.min() <= parents.max() < len(self._rows)
        rows = [self._rows[parent] for parent in parents]
        clips = [clip for clip, _ in rows]
        assert clips == sorted(clips), "rows of a clip do not stand together"
        assert all(clips.count(clip) <= self._clips[clip].width for clip in clips), (
            "more rows than were promised"
        )
        self._rows = [(clip, (*text, int(token))) for (clip, text), token in zip(rows, tokens, strict=True)]
        assert max(len(text) for _, text in self._rows) <= self.longest
        assert self.end_of_text not in tokens, "a text that has ended goes on"
        return self._logits()

    def _logits(self) -> Float32Array:
        self.passes += 1
        return np.stack([self.toy.logits(self._clips[clip].window, text) for clip, text in self._rows])


PROMPT = Prompt((3, 1))
