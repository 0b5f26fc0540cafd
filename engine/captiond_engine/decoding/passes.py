"""What a search asks of a model: logits after prompts, then after one more token of each row. And the loop.

Takes searches of several clips, gives each clip the text it chose; the rows of all clips share each pass.
Knows no graph and no device: ``whisper.passes`` implements ``Passes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from captiond_engine.decoding.filters import LogitFilter
from captiond_engine.decoding.search import Candidate, Search, Tokens, best
from captiond_engine.types import Float32Array


class Prompt(NamedTuple):
    """Tokens that a row's decode begins with; ``start`` is start-of-transcript's index in them.

    ``prefix``: how many of the last ones are text that the decode goes on from.
    """

    tokens: tuple[int, ...]
    start: int = 0
    prefix: int = 0

    @property
    def text(self) -> tuple[int, ...]:
        """The prefix."""
        return self.tokens[len(self.tokens) - self.prefix :]


class ClipPrompt(NamedTuple):
    """One clip of a search: its prompt, its row among the encoded windows, and the most rows it will have."""

    prompt: Prompt
    window: int
    width: int = 1


class Passes(Protocol):
    """One search of some clips at a time. Logits may be changed by whoever gets them."""

    @property
    def longest(self) -> int:
        """Most tokens of a row that can be read, its prompt's included."""

    def begin(self, clips: Sequence[ClipPrompt]) -> tuple[Float32Array, Float32Array]:
        """Logits [B, V] after each clip's prompt, and its probability [B] of no speech."""

    def step(self, tokens: Tokens, parents: Tokens) -> Float32Array:
        """Logits [R, V] after one token each. Row r goes on from row ``parents[r]`` of the last pass, as
        several rows may; a row that none goes on from is forgotten. Rows of a clip stand together."""


@dataclass(frozen=True, slots=True)
class ClipSearch:
    """One clip to be searched."""

    clip: ClipPrompt
    search: Search
    filters: tuple[LogitFilter, ...] = ()
    length_penalty: float | None = None


class Answer(NamedTuple):
    """What a search chose, and how likely there was no speech at all."""

    text: Candidate
    no_speech: float


def always() -> bool:
    return True


def search(
    passes: Passes, clips: Sequence[ClipSearch], may_go_on: Callable[[], bool] = always
) -> list[Answer] | None:
    """The answer of each clip; None if ``may_go_on``, asked before each pass but the first, says no."""
    logits, no_speech = passes.begin([clip.clip for clip in clips])
    live = [(clip, 1) for clip in clips]  # with the number of their rows, in the rows' order
    while True:
        tokens: list[Tokens] = []
        parents: list[Tokens] = []
        going_on, first = [], 0
        for clip, rows in live:
            mine = logits[first : first + rows]
            for rule in clip.filters:
                rule.apply(mine, clip.search.said)
            step = clip.search.advance(mine)
            if step is not None:
                tokens.append(step.tokens)
                parents.append(step.parents + first)
                going_on.append((clip, len(step.tokens)))
            first += rows
        if not going_on:
            break
        if not may_go_on():
            return None
        live = going_on
        logits = passes.step(np.concatenate(tokens), np.concatenate(parents))
    chosen = [best(clip.search.candidates(), clip.length_penalty) for clip in clips]
    return [Answer(text, float(silence)) for text, silence in zip(chosen, no_speech, strict=True)]
