"""Which words of a hypothesis are now certain enough to be told for good.

Takes: hypotheses of one segment, in the order in which they were made. Gives: how many of their first
words are committed. Knows no audio, no model, no text rules. One policy object for each segment; a new policy
is one class and one line in ``POLICIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Protocol

from captiond_engine.decoding.align import same_word
from captiond_engine.decoding.loops import before_loop
from captiond_engine.types import Hypothesis, Word

LIKELY = 0.6  # on sessions with noise it takes streaming from 3.6 points of WER above offline to 0.1


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
    measurable delay. Nor is a word agreed on that is less likely than `LIKELY`: passes a quarter of a second
    apart hear much the same noise, and repeat each other's guesses. The last hypothesis of a segment is
    committed whole.
    """

    def __init__(self) -> None:
        self._previous: tuple[Word, ...] = ()

    def update(self, hypothesis: Hypothesis, committed: int) -> int:
        words = hypothesis.words
        pairs = zip(words[:-1], self._previous[:-1], strict=False)
        agreed = len(words) if hypothesis.last else sum(1 for _ in takewhile(_agree, pairs))
        if not hypothesis.last:
            agreed = min(agreed, before_loop(words))  # agreement on a loop is no agreement
        self._previous = words
        return max(committed, agreed)


def _agree(pair: tuple[Word, Word]) -> bool:
    newer, before = pair
    return newer.probability >= LIKELY and same_word(newer, before)


class AlignAtt:
    """Commits what the decoder heeded well before the end of what was heard, at once, without agreement.

    AlignAtt (Papi, Turchi and Negri, 2023): a word that is still being spoken is heeded where the audio ends.
    ``hold``: samples before that end; a word heeded in them is held back with all that follow. So is one of
    which it is not known what was heeded, as other decoders than Whisper's own may leave it.
    """

    def __init__(self, hold: int) -> None:
        self._hold = hold

    def update(self, hypothesis: Hypothesis, committed: int) -> int:
        words = hypothesis.words
        if hypothesis.last:
            return max(committed, len(words))
        limit = hypothesis.heard_until - self._hold
        heeded = takewhile(lambda word: word.heeded is not None and word.heeded < limit, words)
        return max(committed, min(sum(1 for _ in heeded), before_loop(words)))


POLICIES: dict[str, Callable[[int], CommitPolicy]] = {
    "local-agreement": lambda hold: LocalAgreement2(),
    "align-att": AlignAtt,
}


def open_policy(name: str, hold: int) -> CommitPolicy:
    """A new policy by its registered name. Raises ValueError for a name that is not there."""
    if name not in POLICIES:
        raise ValueError(f"there is no commit policy {name!r}; there are: {', '.join(POLICIES)}")
    return POLICIES[name](hold)
