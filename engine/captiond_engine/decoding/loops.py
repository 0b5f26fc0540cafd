"""Does a text go in circles? Whisper at a loss says the same words again and again.

Takes: words in order. Gives: how many of them come before a loop's first repetition. Knows no audio.
"""

from __future__ import annotations

from collections.abc import Sequence

from captiond_engine.decoding.align import same_word
from captiond_engine.types import Word

LONGEST_PERIOD = 8  # words
LEAST_REPEATED = {1: 5, 2: 3}  # repetitions that make a loop, by its period; of longer ones two
LEAST_REPEATED_LONG = 2


def before_loop(words: Sequence[Word]) -> int:
    """How many first words there are up to the end of a loop's first turn; all of them without a loop.

    A loop is a run of words, eight at most, that is said at least twice more: three times more for two words,
    five times more for one, as people do say "no, no, no" and "four four four".
    """
    first = len(words)
    for period in range(1, min(LONGEST_PERIOD, len(words) // 2) + 1):
        least = LEAST_REPEATED.get(period, LEAST_REPEATED_LONG) * period
        same = 0
        for at in range(period, len(words)):
            same = same + 1 if same_word(words[at], words[at - period]) else 0
            if same >= least:
                first = min(first, at - same + 1)
                break
    return first
