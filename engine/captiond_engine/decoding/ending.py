"""Whether a text tells that its speaker has finished.

Takes: the words that were heard up to a pause. Gives: whether they end a sentence that was surely heard.
Knows no audio and no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from captiond_engine.types import Word

SENTENCE_ENDS = ".?!…。？！"
# Geometric mean of the words' probabilities. Speech that a model cannot follow is given whole sentences, too,
# with some 0.5; of sentences that demo-en knows nine in ten have more than this.
SURE = 0.85
LEAST = 1e-9  # of a probability, so that it has a logarithm


def surely_ended(words: Sequence[Word]) -> bool:
    """The last word ends a sentence, and the words of this sentence are as likely as `SURE`."""
    if not words or not _ends_sentence(words[-1]):
        return False
    first = next((i + 1 for i in range(len(words) - 2, -1, -1) if _ends_sentence(words[i])), 0)
    return fmean(math.log(max(word.probability, LEAST)) for word in words[first:]) >= math.log(SURE)


def _ends_sentence(word: Word) -> bool:
    return word.text.rstrip().endswith(tuple(SENTENCE_ENDS))
