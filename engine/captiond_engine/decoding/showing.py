"""Which of the words that may yet change are shown: those that are likely to stay.

Takes: hypotheses of one segment, in the order in which they were made. Gives: the words that are shown. A
half-heard word is often completed wrongly, and what follows it with it; a caption that holds still is read
more easily than one that is a moment earlier. Knows no audio and no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from captiond_engine.decoding.align import same_word
from captiond_engine.decoding.loops import before_loop
from captiond_engine.types import Word

STOOD = 2  # hypotheses before, in all of which an unlikely word must have been at its place
HELD = 1  # hypotheses that a shown word outlasts


class Steadiness:
    """Words are shown as long as all that are new among them are together as likely as ``probability``.

    New is what was not at its place in each of the `STOOD` hypotheses before; after the first word that is
    not shown, none is. Words that were shown stay for `HELD` hypotheses in which nothing is shown in their
    place: most often the next one has them again. With 0 all words are shown, and no others. One object for
    each segment.
    """

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self._before: deque[tuple[Word, ...]] = deque(maxlen=STOOD)
        self._shown: tuple[Word, ...] = ()
        self._held = 0

    def update(self, words: Sequence[Word], committed: int) -> tuple[Word, ...]:
        """The first ``words`` as far as they are shown, ``committed`` of them in any case, and what is held
        behind them."""
        shown = tuple(words[: max(committed, min(self._likely(words, committed), before_loop(words)))])
        self._before.append(tuple(words))
        gone = self._shown[len(shown) :]
        standing = all(map(same_word, shown, self._shown))
        if gone and standing and words and self._probability and self._held < HELD:
            self._held += 1
            shown += gone
        else:
            self._held = 0
        self._shown = shown
        return shown

    def _likely(self, words: Sequence[Word], committed: int) -> int:
        """How many first words are likely together, or stood."""
        together = 1.0
        for at in range(committed, len(words)):
            if not self._stood(words[at], at):
                together *= words[at].probability
            if together < self._probability:
                return at
        return len(words)

    def _stood(self, word: Word, at: int) -> bool:
        return len(self._before) == STOOD and all(
            at < len(before) and same_word(word, before[at]) for before in self._before
        )
