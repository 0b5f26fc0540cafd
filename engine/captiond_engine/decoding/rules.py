"""Which tokens a decode may not say: Whisper's suppression rules as additive masks over the vocabulary.

Takes a tokenizer and a model's generation settings, gives float32 [V] masks. Reference: openai-whisper
``decoding.py`` (SuppressBlank, SuppressTokens) and ``tokenizer.py`` (non_speech_tokens).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from captiond_engine.errors import ModelError
from captiond_engine.types import Float32Array

BLOCKED = np.float32(-1e30)

_BRACKETS_AND_MARKS = (
    '" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (\' (" (( )) ((( '
    "))) [[ ]] {{ }} ♪♪ ♪♪♪"
).split()
_MUSIC = "♩♪♫♬♭♮♯"  # blocked by their first token even where they take several


class SpecialTokens(Protocol):
    """What the rules read of a tokenizer."""

    end_of_text: int
    start_of_transcript: int
    start_of_previous: int
    start_of_lm: int
    translate: int
    transcribe: int
    no_speech: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Suppression:
    """Additive masks, float32 [V]: ``first`` for the first token only, ``always`` for every token."""

    first: Float32Array
    always: Float32Array

    @classmethod
    def of(cls, vocabulary: int, *, first: Iterable[int] = (), always: Iterable[int] = ()) -> Suppression:
        return cls(_mask(vocabulary, first), _mask(vocabulary, always))


def _mask(vocabulary: int, tokens: Iterable[int]) -> Float32Array:
    mask = np.zeros(vocabulary, np.float32)
    mask[sorted({token for token in tokens if 0 <= token < vocabulary})] = BLOCKED
    return mask


def non_speech_tokens(tokenizer: SpecialTokens) -> set[int]:
    """Tokens of brackets, music marks and speaker tags, which annotate instead of transcribing."""
    found = {tokenizer.encode(" -")[0], tokenizer.encode(" '")[0]}
    for mark in [*_BRACKETS_AND_MARKS, *_MUSIC]:
        for tokens in (tokenizer.encode(mark), tokenizer.encode(" " + mark)):
            if len(tokens) == 1 or mark in _MUSIC:
                found.add(tokens[0])
    return found


def default_suppression(tokenizer: SpecialTokens, vocabulary: int) -> Suppression:
    """The reference's defaults: no blank start, no non-speech tokens, no control tokens."""
    return Suppression.of(
        vocabulary,
        first=blank_tokens(tokenizer),
        always=non_speech_tokens(tokenizer) | control_tokens(tokenizer),
    )


def blank_tokens(tokenizer: SpecialTokens) -> list[int]:
    """What a text does not begin with: a space alone, or its end."""
    return [*tokenizer.encode(" "), tokenizer.end_of_text]


def control_tokens(tokenizer: SpecialTokens) -> set[int]:
    """Tokens that are told to a decoder, and never said by it."""
    return {
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.start_of_transcript,
        tokenizer.start_of_previous,
        tokenizer.start_of_lm,
        tokenizer.no_speech,
    }


def suppression_for(tokenizer: SpecialTokens, vocabulary: int, generation: Mapping[str, Any]) -> Suppression:
    """A model's own rules where its generation_config.json states them, else the reference's defaults.

    Raises ModelError where a rule is no list of tokens.
    """
    if "suppress_tokens" not in generation and "begin_suppress_tokens" not in generation:
        return default_suppression(tokenizer, vocabulary)
    return Suppression.of(
        vocabulary,
        first=_token_list(generation, "begin_suppress_tokens"),
        always=_token_list(generation, "suppress_tokens"),
    )


def _token_list(generation: Mapping[str, Any], name: str) -> list[int]:
    tokens = generation.get(name)
    if tokens is None:
        return []
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise ModelError(
            f"The model's generation_config.json: {name} is {tokens!r:.60}; a list of tokens was expected.",
            advice="Correct the file, or download the model again.",
        )
    return tokens
