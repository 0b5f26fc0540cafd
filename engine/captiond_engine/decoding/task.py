"""From options to a search: the prompt's tokens, the rules for the next token, and how far a text may go.

Takes DecodingOptions and a tokenizer. Knows no graph. Reference: openai-whisper ``decoding.py``
(DecodingTask).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from captiond_engine.decoding.filters import LogitFilter, Suppress, TimestampRules
from captiond_engine.decoding.options import OWN_RULES, DecodingOptions
from captiond_engine.decoding.passes import Prompt
from captiond_engine.decoding.rules import (
    SpecialTokens,
    Suppression,
    blank_tokens,
    control_tokens,
    non_speech_tokens,
)
from captiond_engine.decoding.search import BeamSearch, Sampling, Search
from captiond_engine.errors import OptionsError

WINDOW_S = 30.0  # that a full audio context covers


class DecodingTokens(SpecialTokens, Protocol):
    """What prompts and rules read of a tokenizer."""

    multilingual: bool
    no_timestamps: int
    timestamp_begin: int

    def language_token(self, code: str) -> int: ...


def prompt_of(options: DecodingOptions, tokens: DecodingTokens, language: str | None, context: int) -> Prompt:
    """The decoder's prompt: earlier text, start-of-transcript, language and task, and the prefix.

    Of ``prompt`` the last half of ``context`` less one token is kept. Of ``prefix`` the reference keeps what
    half the context leaves beside ``sample_len``, all of it where that leaves nothing. Raises ModelError for
    a language that the model does not know.
    """
    start = [tokens.start_of_transcript]
    if tokens.multilingual:
        task = tokens.translate if options.task == "translate" else tokens.transcribe
        start += [tokens.language_token(language or "en"), task]
    if options.without_timestamps:
        start.append(tokens.no_timestamps)
    prefix = _spelled(options.prefix, tokens)[-(context // 2 - sample_length(options, context)) :]
    before = _spelled(options.prompt, tokens)[-(context // 2 - 1) :]
    if before:
        before = [tokens.start_of_previous, *before]
    return Prompt((*before, *start, *prefix), len(before), len(prefix))


def _spelled(given: str | Sequence[int] | None, tokens: DecodingTokens) -> list[int]:
    if not given:
        return []
    return tokens.encode(" " + given.strip()) if isinstance(given, str) else list(given)


def sample_length(options: DecodingOptions, context: int) -> int:
    """Most new tokens that the options allow: ``sample_len``, or half the text context."""
    return options.sample_len or context // 2


def limit_of(options: DecodingOptions, prompt: Prompt, context: int, longest: int) -> int:
    """Most tokens of a search: what the options allow, and ``Passes.longest``; the last one is not read."""
    return min(sample_length(options, context), longest + 1 - len(prompt.tokens))


class RulesByOptions:
    """What is never said, and not at first, by options; ``own``: the rules that the model brought with it.

    The same options get the same object, so that its masks need not travel to a device each time.
    """

    def __init__(self, own: Suppression, vocabulary: int, kept: int = 8) -> None:
        self._own, self._vocabulary, self._kept = own, vocabulary, kept
        self._known: dict[tuple[object, ...], Suppression] = {}

    def of(self, options: DecodingOptions, tokens: SpecialTokens) -> Suppression:
        """The rules that ``options`` ask for. Raises OptionsError for what is no token of the model."""
        if options.suppress_tokens == OWN_RULES and options.suppress_blank:
            return self._own
        key = (options.suppress_tokens == OWN_RULES, options.suppressed_tokens(), options.suppress_blank)
        if key not in self._known:
            if len(self._known) >= self._kept:
                self._known.clear()
            self._known[key] = self._make(options, tokens)
        return self._known[key]

    def _make(self, options: DecodingOptions, tokens: SpecialTokens) -> Suppression:
        asked = options.suppressed_tokens()
        if asked and max(asked) >= self._vocabulary:
            raise OptionsError(
                f"suppress_tokens holds {max(asked)}, but the model has {self._vocabulary} tokens."
            )
        blocked = set(asked or ())
        if asked:
            blocked |= control_tokens(tokens)
        if -1 in blocked:
            blocked |= non_speech_tokens(tokens)
        first = blank_tokens(tokens) if options.suppress_blank else []
        listed = Suppression.of(self._vocabulary, first=first, always=blocked)
        return listed if options.suppress_tokens != OWN_RULES else Suppression(listed.first, self._own.always)


def filters_of(
    options: DecodingOptions, tokens: DecodingTokens, suppression: Suppression, positions: int
) -> tuple[LogitFilter, ...]:
    """The rules of one search, in the reference's order. ``positions``: those of a full audio context."""
    rules: tuple[LogitFilter, ...] = (Suppress(suppression),)
    if options.without_timestamps:
        return rules
    latest = options.max_initial_timestamp
    latest_first = round(latest / (WINDOW_S / positions)) if latest else None
    stamps = TimestampRules(tokens.timestamp_begin, tokens.end_of_text, tokens.no_timestamps, latest_first)
    return (*rules, stamps)


def search_of(options: DecodingOptions, end_of_text: int, limit: int) -> Search:
    """The search that the options ask for, at its beginning."""
    if options.beam_size is not None:
        return BeamSearch(
            end_of_text, limit, beam_size=options.beam_size, most_finished=options.most_finished
        )
    return Sampling(
        end_of_text, limit, temperature=options.temperature, count=options.width, seed=options.seed
    )
