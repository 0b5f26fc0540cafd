"""Early ends that tore a sentence, told from those between two sentences of one utterance. Pure.

A manifest's row may hold several sentences with pauses between them, and a segment that ends in such a pause
ended before the utterance did, but where anybody would have ended it. Takes a clip's matches; gives how many
early ends nothing shows to lie between two sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import jiwer

from daemon.bench.clips import Utterance
from daemon.bench.metrics import Match, cut_early, plain_words

SENTENCE_MARKS = (".", "!", "?")


def torn_sentences(matches: Sequence[Match], utterances: Sequence[Utterance]) -> int:
    """Early ends but those whose neighbouring words were heard right and are, in the reference, the last
    of a sentence (before the end) or the first of one (behind it).

    So a reference without marks, and words that were not understood, count as torn.
    """
    finals = [plain_words(m.segment.final_text or "") for m in matches]
    borders = _borders(utterances, [word for final in finals for word in final])
    torn, said = 0, 0
    for match, final in zip(matches, finals, strict=True):
        said += len(final)
        if said not in borders:
            torn += cut_early([match])
    return torn


def _borders(utterances: Sequence[Utterance], heard: Sequence[str]) -> set[int]:
    """How many of ``heard``'s words may lie before the end of a sentence."""
    reference: list[str] = []
    ends = {0}
    for utterance in utterances:
        for text in utterance.text.split():
            reference += plain_words(text)
            if text.endswith(SENTENCE_MARKS):
                ends.add(len(reference))
    if not reference or not heard:
        return set()
    borders = set()
    for part in jiwer.process_words(" ".join(reference), " ".join(heard)).alignments[0]:
        for offset in range(part.ref_end_idx - part.ref_start_idx if part.type == "equal" else 0):
            word, at = part.ref_start_idx + offset, part.hyp_start_idx + offset
            borders |= {at} if word in ends else set()
            borders |= {at + 1} if word + 1 in ends else set()
    return borders
