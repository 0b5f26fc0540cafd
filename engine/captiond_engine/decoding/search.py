"""Searches for a text over logits: the likeliest token each time, tokens that are drawn, or beams.

A search is a state machine for one clip, without I/O: it takes the logits of its rows, and says which tokens
the next rows hold and which rows they continue. Knows no model, no audio and no vocabulary but its end.
Reference: openai-whisper ``decoding.py`` (GreedyDecoder, BeamSearchDecoder, MaximumLikelihoodRanker).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from captiond_engine.types import Float32Array

Tokens = NDArray[np.int64]
_NOTHING = np.float32(0)
_BLOCK = 64  # logits of which only the highest is looked at first


class Step(NamedTuple):
    """Rows of the next pass, int64 [R] each: its token, and which row of the last pass it goes on from."""

    tokens: Tokens
    parents: Tokens


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text, without end-of-text; ``total`` sums its log-probabilities, that of end-of-text included."""

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    total: float
    ended: bool


class Search(Protocol):
    """One clip's search. The first pass has one row, its prompt's."""

    @property
    def said(self) -> Sequence[Sequence[int]]:
        """Tokens after the prompt of each row of the newest pass."""

    def advance(self, logits: Float32Array) -> Step | None:
        """Take filtered logits [R, V] of the rows; None: nothing more is wanted."""

    def candidates(self) -> list[Candidate]:
        """The texts to choose from, once ``advance`` gave None."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One row's text so far. ``total`` is a float32, as the reference adds them."""

    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    total: np.float32 = _NOTHING

    def and_then(self, token: int, log_probability: np.float32) -> _Line:
        return _Line(
            (*self.tokens, token),
            (*self.log_probabilities, float(log_probability)),
            np.float32(self.total + log_probability),
        )

    def candidate(self, *, ended: bool) -> Candidate:
        """``ended``: the last token is end-of-text."""
        count = len(self.tokens) - ended
        return Candidate(self.tokens[:count], self.log_probabilities[:count], float(self.total), ended)


class Sampling:
    """``count`` trajectories: the likeliest token at temperature 0, else tokens that are drawn.

    Each trajectory draws from a generator of its own, so that neither other clips nor the number of
    trajectories change what one says. ``limit``: most tokens, end-of-text included.
    """

    def __init__(
        self, end_of_text: int, limit: int, *, temperature: float = 0.0, count: int = 1, seed: int = 0
    ) -> None:
        self._end, self._limit, self._temperature = end_of_text, limit, temperature
        self._lines = [_Line()] * count
        self._rows: dict[int, int] = dict.fromkeys(range(count), 0)  # of the trajectories that go on
        part = round(temperature * 1e6)
        self._draws = [np.random.default_rng([seed, part, number]) for number in range(count)]

    @property
    def said(self) -> Sequence[Sequence[int]]:
        rows = {row: self._lines[number].tokens for number, row in self._rows.items()}
        return [rows[row] for row in sorted(rows)]

    def advance(self, logits: Float32Array) -> Step | None:
        tokens, parents = list[int](), list[int]()
        going_on: dict[int, int] = {}
        for number, row in self._rows.items():
            token = self._choose(logits[row], number)
            [log_probability] = log_probabilities(logits[row], np.array([token]))
            self._lines[number] = line = self._lines[number].and_then(token, log_probability)
            if token != self._end and len(line.tokens) < self._limit:
                going_on[number] = len(tokens)
                tokens.append(token)
                parents.append(row)
        self._rows = going_on
        return Step(np.array(tokens, np.int64), np.array(parents, np.int64)) if tokens else None

    def candidates(self) -> list[Candidate]:
        return [line.candidate(ended=line.tokens[-1:] == (self._end,)) for line in self._lines]

    def _choose(self, logits: Float32Array, number: int) -> int:
        if self._temperature == 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._temperature
        cumulated = np.cumsum(np.exp(scaled - scaled.max()))
        drawn = self._draws[number].random() * cumulated[-1]
        # The first token whose share reaches beyond what was drawn: never one of no share.
        drawn = min(drawn, np.nextafter(cumulated[-1], 0))
        return int(np.searchsorted(cumulated, drawn, side="right"))


class BeamSearch:
    """The ``beam_size`` likeliest texts side by side, until ``most_finished`` of them have ended.

    ``limit``: most tokens, end-of-text included. Of candidates with equal scores the earlier beam's, then the
    likelier token, then the lower token comes first.
    """

    def __init__(self, end_of_text: int, limit: int, *, beam_size: int, most_finished: int) -> None:
        self._end, self._limit = end_of_text, limit
        self._beam_size, self._most_finished = beam_size, most_finished
        self._beams = [_Line()]
        self._finished: list[_Line] = []
        self._length = 0

    @property
    def said(self) -> Sequence[Sequence[int]]:
        return [beam.tokens for beam in self._beams]

    def advance(self, logits: Float32Array) -> Step | None:
        candidates: list[tuple[np.float32, int, int, np.float32]] = []  # score, beam, token, its own part
        for parent, (beam, row) in enumerate(zip(self._beams, logits, strict=True)):
            for token, log_probability in zip(*likeliest(row, self._beam_size + 1), strict=True):
                score = np.float32(beam.total + log_probability)
                candidates.append((score, parent, int(token), log_probability))
        candidates.sort(key=lambda candidate: candidate[0], reverse=True)  # stable: ties keep their order
        beams, parents = [], []
        for _, parent, token, log_probability in candidates:
            line = self._beams[parent].and_then(token, log_probability)
            if token != self._end:
                beams.append(line)
                parents.append(parent)
                if len(beams) == self._beam_size:
                    break
            elif len(self._finished) < self._most_finished:
                self._finished.append(line)
        self._beams = beams
        self._length += 1
        if len(self._finished) >= self._most_finished or self._length >= self._limit or not beams:
            return None
        return Step(np.array([beam.tokens[-1] for beam in beams], np.int64), np.array(parents, np.int64))

    def candidates(self) -> list[Candidate]:
        """Those that ended, in the order in which they did; where too few did, the likeliest beams too."""
        found = [line.candidate(ended=True) for line in self._finished]
        missing = max(0, self._beam_size - len(found))
        order = np.argsort([beam.total for beam in self._beams])[::-1]
        return found + [self._beams[i].candidate(ended=False) for i in order[:missing]]


def best(candidates: Sequence[Candidate], length_penalty: float | None) -> Candidate:
    """The likeliest candidate for its length; the first of equals.

    Without ``length_penalty`` the sum is divided by the number of tokens, else by ((5 + tokens) / 6) to its
    power (arXiv:1609.08144, equation 14). A text of no tokens, by which the reference divides, counts as one.
    """

    def score(candidate: Candidate) -> float:
        length = len(candidate.tokens)
        penalty = max(1, length) if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return candidate.total / penalty

    return max(candidates, key=score)


def log_probabilities(logits: Float32Array, tokens: Tokens) -> Float32Array:
    """Log-probabilities of some tokens under logits [V]: log_softmax, where it is asked for."""
    highest = logits.max()
    normalizer = np.float32(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
    return np.asarray((logits[tokens] - highest) - normalizer, np.float32)


def likeliest(logits: Float32Array, count: int) -> tuple[Tokens, Float32Array]:
    """The ``count`` likeliest tokens of logits [V], the lower first of equals, and their log-probabilities.

    Only blocks whose highest logit is among the ``count`` highest can hold one of them.
    """
    whole = len(logits) // _BLOCK * _BLOCK
    highest = logits[:whole].reshape(-1, _BLOCK).max(axis=1)
    blocks = np.sort(np.argsort(-highest, kind="stable")[:count])
    inside = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)
    places = np.concatenate([inside, np.arange(whole, len(logits))])
    found = places[np.argsort(-logits[places], kind="stable")[:count]]
    return found, log_probabilities(logits, found)
