"""Which of the words that may yet change are shown: those that are likely to stay.

Takes: hypotheses of one segment, in the order in which they were made. Gives: how many of their first words
are shown. A half-heard word is often completed wrongly, and what follows it with it; a caption that holds
still is read more easily than one that is a moment earlier. Knows no audio and no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from captiond_engine.decoding.align import same_word
from captiond_engine.decoding.loops import before_loop
from captiond_engine.types import Word


class Steadiness:
    """A word is shown when it is as likely as ``probability``, or was at its place one hypothesis ago.

    After the first one that is not shown, none is. With 0 all words are. One object for each segment.
    """

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self._previous: tuple[Word, ...] = ()

    def update(self, words: Sequence[Word], committed: int) -> int:
        """How many first ``words`` are shown; never less than ``committed``, which are in any case."""
        previous, self._previous = self._previous, tuple(words)
        count = committed
        while count < len(words):
            stood = count < len(previous) and same_word(words[count], previous[count])
            if not stood and words[count].probability < self._probability:
                break
            count += 1
        return max(committed, min(count, before_loop(words)))
