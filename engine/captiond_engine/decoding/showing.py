"""Which of the words that may yet change are shown: those that are likely to stay.

Takes: hypotheses of one segment, in the order in which they were made. Gives: the words that are shown. A
half-heard word is often completed wrongly, and what follows it with it; a caption that holds still is read
more easily than one that is a moment earlier. Knows no audio and no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from difflib import SequenceMatcher

from captiond_engine.decoding.align import bare, same_word
from captiond_engine.decoding.loops import before_loop
from captiond_engine.types import Word

STOOD = 2  # hypotheses before, in all of which an unlikely word must have been at its place
HELD = 1  # hypotheses that a shown word outlasts
TAKEN_BACK = 0.08  # words that were shown and changed or went, to each word of the finals: more is restless
# Words of finals: what lies further back counts ever less. A stream begins as if it had as many.
REMEMBERED = 60.0


class Composure:
    """What one stream has shown and taken back. One object for all its segments.

    A model that is lost (another language, a room full of voices) is never sure for long: its captions
    would change without end. Once `TAKEN_BACK` is passed, nothing is shown before it is committed, until
    the finals have made up for it.
    """

    def __init__(self) -> None:
        self._final_words, self._taken_back = REMEMBERED, 0.0

    @property
    def is_lost(self) -> bool:
        return self._taken_back > TAKEN_BACK * self._final_words

    def take_back(self, words: int) -> None:
        self._taken_back += words

    def tell(self, words: int) -> None:
        """A final of so many ``words``."""
        kept = min(1.0, REMEMBERED / (self._final_words + words))
        self._final_words = (self._final_words + words) * kept
        self._taken_back *= kept


class Steadiness:
    """Words are shown as long as all that are new among them are together as likely as ``probability``.

    New is what was not at its place in each of the `STOOD` hypotheses before; after the first word that is
    not shown, none is. Words that were shown stay for `HELD` hypotheses in which nothing is shown in their
    place: most often the next one has them again. With 0 all words are shown, and no others. One object for
    each segment; ``composure``: the stream's.
    """

    def __init__(self, probability: float, composure: Composure | None = None) -> None:
        self._probability = probability
        self._composure = composure or Composure()
        self._before: deque[tuple[Word, ...]] = deque(maxlen=STOOD)
        self._shown: tuple[Word, ...] = ()
        self._committed = 0
        self._held = 0

    def update(self, words: Sequence[Word], committed: int) -> tuple[Word, ...]:
        """The first ``words`` as far as they are shown, ``committed`` of them in any case, and what is held
        behind them."""
        lost = self._probability > 0 and self._composure.is_lost
        likely = 0 if lost else min(self._likely(words, committed), before_loop(words))
        shown = tuple(words[: max(committed, likely)])
        self._before.append(tuple(words))
        gone = self._shown[len(shown) :]
        standing = all(map(same_word, shown, self._shown))
        if gone and standing and words and self._probability and (lost or self._held < HELD):
            self._held += 1
            shown += gone
        else:
            self._held = 0
        self._take_back(shown)
        self._shown, self._committed = shown, committed
        return shown

    def end(self, words: Sequence[Word]) -> None:
        """The segment's final has these ``words``; none where it is suppressed."""
        self._take_back(words)
        self._composure.tell(len(words))

    def _take_back(self, words: Sequence[Word]) -> None:
        """Count what was shown behind what was committed, and is not at its place in ``words``."""
        before, after = ([bare(word) for word in side] for side in (self._shown, words))
        steps = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        gone = (range(a, b) for tag, a, b, _, _ in steps if tag in {"replace", "delete"})
        self._composure.take_back(sum(i >= self._committed for each in gone for i in each))

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
