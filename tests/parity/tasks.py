"""What a model is asked for besides a transcript: which language, the other task, text to go on from.

Takes models of ours; the comparisons with openai-whisper take its model of the same weights as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from captiond_engine.types import Float32Array, PromptSpec
from captiond_engine.whisper.model import Encoding, Prompt, WhisperModel

from tests.parity import seeded

HINTS, PREFIX = "Ada Lovelace, Göttingen", "Guten Morgen"
Languages = list[tuple[str, dict[str, float]]]


def languages(model: WhisperModel, encoding: Encoding) -> Languages:
    """The language that each row is taken for, and the probability of each (softmax over the languages)."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    heard = model.detect_languages(encoding)
    start = Prompt((tokenizer.start_of_transcript,))
    answer = model.greedy(encoding, [start] * encoding.rows, max_new_tokens=1)
    tokens = [tokenizer.language_token(code) for code in tokenizer.languages]
    logits = answer.first_logits.to_numpy()[:, tokens].astype(np.float64)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    rows = [dict(zip(tokenizer.languages, row.tolist(), strict=True)) for row in odds]
    return list(zip(heard, rows, strict=True))


def compare_languages(model: WhisperModel, reference: Any, mels: Float32Array) -> tuple[int, float]:
    """Rows taken for the same language as ``whisper.detect_language`` takes them for, and the largest
    difference of a probability."""
    import torch
    import whisper

    _, expected = whisper.detect_language(reference, torch.from_numpy(mels))
    equal, worst = 0, 0.0
    for (heard, ours), theirs in zip(languages(model, model.encode(mels)), expected, strict=True):
        assert ours.keys() == theirs.keys()
        equal += heard == max(theirs, key=lambda code: theirs[code])
        worst = max(worst, *(abs(ours[code] - theirs[code]) for code in theirs))
    return equal, worst


def compare_decode(size: str, model: WhisperModel, reference: Any, mels: Float32Array) -> int:
    """Rows with the tokens of ``whisper.decode`` with its own prompts: translate, earlier text, a prefix."""
    import torch
    import whisper

    tokenizer = seeded.tokenizer_of(size)
    language = "de" if tokenizer.multilingual else "en"
    options = whisper.DecodingOptions(
        task="translate",
        language=language,
        prompt=HINTS,
        prefix=PREFIX,
        sample_len=40,
        without_timestamps=True,
        suppress_blank=False,
        suppress_tokens=[],
        fp16=False,
    )
    theirs = whisper.decode(reference, torch.from_numpy(mels), options)
    spec = PromptSpec(language, tuple(tokenizer.encode(" " + PREFIX)), HINTS)
    tokens, start = tokenizer.prompt(spec._replace(task="translate"), language=language)
    asked = [Prompt(tuple(tokens), start)] * len(mels)
    answer = model.greedy(model.encode(mels), asked, max_new_tokens=40)
    end = tokenizer.end_of_text
    ours = [[token for token in row if token != end] for row in answer.tokens]
    return sum(mine == row.tokens for mine, row in zip(ours, theirs, strict=True))
