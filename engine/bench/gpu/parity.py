"""Do the graphs say on this device what openai-whisper says? Goldens of the tests, in every precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from captiond_engine.audio.mel import log_mel
from captiond_engine.types import Precision
from captiond_engine.whisper.model import Encoding, Prompt

import tests.parity
from engine.bench.gpu.running import Lab, Subject, agreement, largest_difference
from tests.parity import seeded

GOLDENS = Path(next(iter(tests.parity.__path__))) / "goldens"
ENGLISH_END = 50_256


def bundled(lab: Lab, precision: Precision) -> dict[str, Any]:
    """The bundled model on the clips kept in the project, with the rules of its tokenizer."""
    from captiond_engine.decoding.rules import suppression_for
    from captiond_engine.models import BUNDLED
    from captiond_engine.whisper.loading import tokenizer_of
    from captiond_engine.whisper.weights import read_checkpoint

    from tests.parity import clips

    subject, expected = lab.subject("demo-en", precision), _golden("demo-en")["clips"]
    checkpoint = read_checkpoint(BUNDLED / "demo-en")
    tokenizer = tokenizer_of(checkpoint)
    rules = suppression_for(tokenizer, checkpoint.config.n_vocab, checkpoint.generation)
    subject.model.tokenizer = tokenizer
    mine, theirs, encoded, stepped = [], [], 0.0, []
    for clip in clips.bundled():
        encoding = subject.encode(log_mel(clip.pcm, 80, 3000)[None])
        assert encoding.encoded is not None
        answer = subject.model.greedy(encoding, [Prompt(subject.case.prompt)], suppression=rules)
        mine.append([token for token in answer.tokens[0] if token != ENGLISH_END])
        theirs.append(expected[clip.id]["tokens"])
        sample = seeded.sampled(encoding.encoded.to_numpy()[0])
        encoded = max(encoded, largest_difference(sample, np.array(expected[clip.id]["encoded"])))
        said = subject.steps.greedy(
            [subject.case.prompt],
            [0],
            (subject.model._seats, encoding.seats),
            subject.case.config.n_text_ctx // 2,
            (rules.first, rules.always),
            subject.model._control_tokens(),
        )
        stepped.append([token for token in said.tokens[0] if token != ENGLISH_END])
    return {
        "known_answer_error": subject.error,
        "encoded_difference": encoded,
        "loop_to_golden": agreement(mine, theirs),
        "steps_to_golden": agreement(stepped, theirs),
        "recorded": subject.steps.record,
        "why_not_recorded": subject.steps.why_not_recorded,
    }


def random_weights(lab: Lab, precision: Precision, size: str = "tiny") -> dict[str, Any]:
    """Seeded weights, batch 3, prompts and audio of unequal length: many near-ties, a hard case."""
    subject, prompts = lab.subject(size, precision), [Prompt(*prompt) for prompt in seeded.prompts_of(size)]
    rows = _golden(size)["rows"][: len(prompts)]  # after them come those of other tasks
    subject.model.tokenizer = seeded.tokenizer_of(size)  # whose end-of-text ends the goldens
    encoding = subject.encode(seeded.mels_of(size))
    answer = subject.model.greedy(encoding, prompts, max_new_tokens=40)
    logits = answer.first_logits.to_numpy()
    theirs = [row["tokens"] for row in rows]
    differences = [
        largest_difference(seeded.sampled(logits[n]), np.array(row["first_logits"]))
        for n, row in enumerate(rows)
    ]
    return {
        "known_answer_error": subject.error,
        "logits_difference": max(differences),
        "loop_to_golden": agreement(answer.tokens, theirs),
        "steps_to_golden": agreement(_stepped(subject, encoding, prompts), theirs),
    }


def _stepped(subject: Subject, encoding: Encoding, prompts: list[Prompt]) -> list[list[int]]:
    rules = subject.model.suppression
    return subject.steps.greedy(
        [p.tokens for p in prompts],
        [p.start for p in prompts],
        (subject.model._seats, encoding.seats),
        40,
        (rules.first, rules.always),
        subject.model._control_tokens(),
    ).tokens


def _golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))
    return content
