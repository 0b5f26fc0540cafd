"""Windows decoded as their options say: in the graph where it can, else by a search on the host.

Takes a model, an encoding and the options of each of its rows; gives a Decoding each. The graph's greedy loop
is used for what is greedy and has no timestamps, as nothing is faster; all else is ``decoding``'s affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from captiond_engine.decoding.fallback import decode_with_fallback
from captiond_engine.decoding.guards import compression_ratio
from captiond_engine.decoding.options import DecodingOptions, FallbackOptions
from captiond_engine.decoding.passes import Answer, ClipPrompt, ClipSearch, Prompt, always, search
from captiond_engine.decoding.rules import Suppression
from captiond_engine.decoding.task import (
    filters_of,
    limit_of,
    prompt_of,
    sample_length,
    search_of,
)
from captiond_engine.types import Decoding, Window
from captiond_engine.whisper.encoding import with_times

if TYPE_CHECKING:
    from captiond_engine.whisper.model import Encoding, WhisperModel

Options = DecodingOptions | FallbackOptions
Languages = tuple[list[str], list[Mapping[str, float] | None]]
MOST_SLOTS = 64  # beams and trajectories that share passes; the clips of more take turns


def decode_with(
    model: WhisperModel, encoding: Encoding, options: Sequence[Options], may_go_on: Callable[[], bool]
) -> list[Decoding]:
    """One Decoding per row; see ``WhisperModel.decode_with``."""
    if len(options) != encoding.rows:
        raise ValueError(f"options of {len(options)} rows for {encoding.rows} encoded rows")
    began = time.perf_counter()
    once = [_once(one) for one in options]
    asked = [None if one.task == "lang_id" else one.language for one in once]
    languages, found = languages_of(model, encoding, asked)
    windows = _Windows(model, encoding, languages)
    decodings = windows.timed(decode_with_fallback(windows.decode, options, may_go_on), once)
    elapsed_ms = (time.perf_counter() - began) * 1000
    return [
        replace(decoding, language_probabilities=probabilities, decode_ms=elapsed_ms)
        for decoding, probabilities in zip(decodings, found, strict=True)
    ]


def languages_of(model: WhisperModel, encoding: Encoding, asked: Sequence[str | None]) -> Languages:
    """Each row's language: as asked, or detected for None and "auto"; with all probabilities where it was."""
    if not model.require_tokenizer().multilingual:
        return ["en"] * len(asked), [None] * len(asked)
    if all(language not in (None, "auto") for language in asked):
        return [language or "" for language in asked], [None] * len(asked)
    heard = language_probabilities(model, encoding)
    rows = [
        (max(probabilities, key=probabilities.__getitem__), probabilities)
        if language in (None, "auto")
        else (language or "", None)
        for language, probabilities in zip(asked, heard, strict=True)
    ]
    return [language for language, _ in rows], [probabilities for _, probabilities in rows]


def language_probabilities(model: WhisperModel, encoding: Encoding) -> list[dict[str, float]]:
    """How likely each language is, by row: what follows start-of-transcript, among languages alone."""
    tokenizer = model.require_tokenizer()
    prompts = [Prompt((tokenizer.start_of_transcript,))] * encoding.rows
    logits = model.greedy(encoding, prompts, max_new_tokens=1).first_logits.to_numpy()
    spoken = logits[:, [tokenizer.language_token(code) for code in tokenizer.languages]]
    shares = np.exp(spoken - spoken.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return [dict(zip(tokenizer.languages, row.tolist(), strict=True)) for row in shares]


def of_window(window: Window) -> Options:
    """The options of a job's window, with what its prompt says in their place where it says something."""
    spec, options = window.prompt, window.options or DecodingOptions()
    once = _once(options)
    told = replace(
        once,
        language=spec.language or once.language,
        prompt=spec.hints.strip() or once.prompt,
        prefix=spec.prefix or once.prefix,
    )
    return told if isinstance(options, DecodingOptions) else replace(options, decoding=told)


def within_budget(options: Sequence[Options]) -> Callable[[], bool]:
    """Whether the shortest ``budget_ms`` of these has not passed since now."""
    budgets = [one.budget_ms for one in options if isinstance(one, FallbackOptions)]
    ends = [time.perf_counter() + budget / 1000 for budget in budgets if budget is not None]
    return (lambda: time.perf_counter() < min(ends)) if ends else always


def _once(options: Options) -> DecodingOptions:
    return options if isinstance(options, DecodingOptions) else options.decoding


@dataclass(frozen=True, slots=True)
class _Ask:
    """One row's decode: its row in the encoding, and all that its options mean for this model."""

    row: int
    options: DecodingOptions
    prompt: Prompt
    suppression: Suppression


class _Windows:
    """The rows of one encoding, decoded once as often as it is asked."""

    def __init__(self, model: WhisperModel, encoding: Encoding, languages: Sequence[str]) -> None:
        self._model, self._encoding, self._languages = model, encoding, languages
        self._tokenizer = model.require_tokenizer()
        self._context = model.config.n_text_ctx

    def decode(
        self, windows: Sequence[int], options: Sequence[DecodingOptions], may_go_on: Callable[[], bool]
    ) -> list[Decoding] | None:
        """As ``fallback.DecodesOnce``."""
        asks = [self._ask(row, one) for row, one in zip(windows, options, strict=True)]
        found = {ask.row: self._silent(ask) for ask in asks if ask.options.task == "lang_id"}
        waiting = [ask for ask in asks if ask.row not in found]
        while waiting:
            together = [ask for ask in waiting if self._alike(ask, waiting[0])]
            if self._in_graph(waiting[0]):
                found |= self._greedy(together)
            else:
                together = _that_fit(together)
                answers = self._search(together, may_go_on)
                if answers is None:
                    return None
                found |= answers
            waiting = [ask for ask in waiting if ask.row not in found]
        return [found[row] for row in windows]

    def timed(self, decodings: Sequence[Decoding], once: Sequence[DecodingOptions]) -> list[Decoding]:
        """With the times of tokens that a search said, which leaves none behind: one pass over the texts."""
        timed = list(decodings)
        prompts: dict[int, Prompt] = {}
        for row, (decoding, options) in enumerate(zip(decodings, once, strict=True)):
            untimed = bool(decoding.tokens) and not decoding.starts
            spoken = replace(options, prompt=None, prefix=None, without_timestamps=True)
            prompt = prompt_of(spoken, self._tokenizer, self._languages[row], self._context)
            text = (*self._ask(row, options).prompt.text, *decoding.tokens)
            if untimed and len(prompt.tokens) + len(text) < self._context:
                prompts[row] = Prompt((*prompt.tokens, *text), prompt.start, len(text))
        if prompts:
            found = self._model.align(self._encoding.take(list(prompts)), list(prompts.values()))
            for row, times in zip(prompts, found, strict=True):
                timed[row] = with_times(timed[row], times)
        return timed

    def _ask(self, row: int, options: DecodingOptions) -> _Ask:
        model = self._model
        prompt = prompt_of(options, self._tokenizer, self._languages[row], self._context)
        return _Ask(row, options, prompt, model.rules.of(options, self._tokenizer))

    def _in_graph(self, ask: _Ask) -> bool:
        """Whether the graph's own loop gives the answer; it must have room for all that may be said."""
        options = ask.options
        greedy = options.temperature == 0 and options.beam_size is None and options.without_timestamps
        return greedy and len(ask.prompt.tokens) + sample_length(options, self._context) <= self._context

    def _alike(self, one: _Ask, other: _Ask) -> bool:
        """Whether both can be part of one call."""
        if not self._in_graph(one) or not self._in_graph(other):
            return self._in_graph(one) == self._in_graph(other)
        same_rules = one.suppression is other.suppression
        return same_rules and one.options.sample_len == other.options.sample_len

    def _greedy(self, asks: Sequence[_Ask]) -> dict[int, Decoding]:
        encoding = self._encoding.take([ask.row for ask in asks])
        decodings = self._model.decode(
            encoding,
            [ask.prompt for ask in asks],
            [self._languages[ask.row] for ask in asks],
            max_new_tokens=sample_length(asks[0].options, self._context),
            suppression=asks[0].suppression,
        )
        return {
            ask.row: replace(decoding, compression_ratio=self._ratio(decoding.tokens))
            for ask, decoding in zip(asks, decodings, strict=True)
        }

    def _search(self, asks: Sequence[_Ask], may_go_on: Callable[[], bool]) -> dict[int, Decoding] | None:
        passes = self._model.passes(self._encoding)
        answers = search(passes, [self._clip(ask, passes.longest) for ask in asks], may_go_on)
        if answers is None:
            return None
        return {ask.row: self._decoding(ask, answer) for ask, answer in zip(asks, answers, strict=True)}

    def _clip(self, ask: _Ask, longest: int) -> ClipSearch:
        options, tokenizer = ask.options, self._tokenizer
        limit = limit_of(options, ask.prompt, self._context, longest)
        if limit < 1 or len(ask.prompt.tokens) >= self._context:
            raise ValueError(f"a prompt leaves no room in the text context of {self._context} tokens")
        return ClipSearch(
            ClipPrompt(ask.prompt, ask.row, options.width),
            search_of(options, tokenizer.end_of_text, limit),
            filters_of(options, tokenizer, ask.suppression, self._model.config.n_audio_ctx),
            options.length_penalty,
        )

    def _decoding(self, ask: _Ask, answer: Answer) -> Decoding:
        text, timed = answer.text, not ask.options.without_timestamps
        pairs = list(zip(text.tokens, text.log_probabilities, strict=True))
        if timed:
            pairs = [(token, log) for token, log in pairs if token < self._tokenizer.end_of_text]
        return Decoding(
            tokens=tuple(token for token, _ in pairs),
            log_probabilities=tuple(log for _, log in pairs),
            sum_log_probability=text.total,
            no_speech_probability=answer.no_speech,
            language=self._languages[ask.row],
            encode_ms=self._encoding.encode_ms[ask.row],
            truncated=not text.ended,
            timed_tokens=text.tokens if timed else (),
            temperature=ask.options.temperature,
            compression_ratio=self._ratio(text.tokens),
        )

    def _silent(self, ask: _Ask) -> Decoding:
        """No text at all, for whoever asks for the language alone."""
        return Decoding(
            (), (), language=self._languages[ask.row], encode_ms=self._encoding.encode_ms[ask.row]
        )

    def _ratio(self, tokens: Sequence[int]) -> float:
        return compression_ratio(self._tokenizer.decode_with_control(tokens).strip())


def _that_fit(asks: Sequence[_Ask]) -> list[_Ask]:
    """The first of ``asks`` whose rows fit in one pass."""
    found: list[_Ask] = []
    slots = 0
    for ask in asks:
        slots += ask.options.width
        if found and slots > MOST_SLOTS:
            break
        found.append(ask)
    return found
