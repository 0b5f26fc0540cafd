"""Which words of a hypothesis are now certain enough to be told for good.

Takes: hypotheses of one segment, in the order in which they were made. Gives: how many of their first
words are committed. Knows no audio, no model, no text rules. One policy object for each segment.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Protocol

from captiond_engine.decoding.align import same_word
from captiond_engine.types import Hypothesis, Word


class CommitPolicy(Protocol):
    """Decides, hypothesis by hypothesis; what was committed once stays committed."""

    def update(self, hypothesis: Hypothesis, committed: int) -> int:
        """How many first words of ``hypothesis`` are committed now; never less than ``committed``."""


class LocalAgreement2:
    """Commits what two hypotheses in a row agree on, word for word from the start, but for their last words.

    Local agreement (Liu, Spanakis and Niehues, 2020) with n = 2, as in Whisper-Streaming
    (Macháček, Dabre and Bojar, 2023). The last word of each is held back, as it may be half heard, and
    Whisper likes to end a sentence where the audio ends: with it, two in five finals on the bundled
    model's sessions had been contradicted by what was committed; without it, one in five, for no
    measurable delay. The last hypothesis of a segment is committed whole.
    """

    def __init__(self) -> None:
        self._previous: tuple[Word, ...] = ()

    def update(self, hypothesis: Hypothesis, committed: int) -> int:
        words = hypothesis.words
        pairs = zip(words[:-1], self._previous[:-1], strict=False)
        agreed = len(words) if hypothesis.last else sum(1 for _ in takewhile(_agree, pairs))
        self._previous = words
        return max(committed, agreed)


def _agree(pair: tuple[Word, Word]) -> bool:
    return same_word(*pair)
