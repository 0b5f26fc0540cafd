"""What rounding the decoder's weights costs: tokens that stay, and word error rate, on real speech.

Clips are those kept with the tests, and the larger sets where they lie beside the project. Each clip is
decoded alone, in a window of 30 s. Prints a table (standard error) and one JSON line (standard output).
"""

from __future__ import annotations

import json

import click
import numpy as np
from captiond_engine import models
from captiond_engine.audio.mel import log_mel
from captiond_engine.types import Precision, PromptSpec
from captiond_engine.whisper.loading import load_model
from captiond_engine.whisper.model import Prompt, WhisperModel
from captiond_engine.whisper.packed import PRECISIONS
from captiond_engine.whisper.weights import read_checkpoint
from max.driver import CPU
from rich.console import Console
from rich.table import Table
from whisper_normalizer.english import EnglishTextNormalizer

from daemon.bench.metrics import WordErrors
from tests.parity import clips


def said(model: WhisperModel, found: list[clips.Clip]) -> list[list[int]]:
    """Tokens of each clip in a window of 30 s, without end-of-text."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    tokens, start = tokenizer.prompt(PromptSpec(), language="en")
    answers = []
    for clip in found:
        encoding = model.encode(log_mel(clip.pcm, model.config.n_mels, model.config.max_hops)[None])
        answers.append(model.greedy(encoding, [Prompt(tuple(tokens), start)]).tokens[0])
    return [[token for token in answer if token != tokenizer.end_of_text] for answer in answers]


def figures(model: WhisperModel, found: list[clips.Clip], exact: list[list[int]]) -> dict[str, float | None]:
    """Clips and tokens as in float32 (per cent; tokens by place, up to the longer text), and WER."""
    answers, normalise, errors = said(model, found), EnglishTextNormalizer(), dict[str, WordErrors]()
    for clip, answer in zip(found, answers, strict=True):
        assert model.tokenizer is not None
        heard = normalise(model.tokenizer.decode(answer))
        for group in ("all", clip.set):
            errors.setdefault(group, WordErrors()).add(normalise(clip.text), heard)
    same = sum(a == b for x, y in zip(answers, exact, strict=True) for a, b in zip(x, y, strict=False))
    longest = sum(max(len(x), len(y)) for x, y in zip(answers, exact, strict=True))
    whole = np.mean([x == y for x, y in zip(answers, exact, strict=True)])
    return {
        "same_clips": round(100 * float(whole), 1),
        "same_tokens": round(100 * same / max(longest, 1), 1),
    } | {f"wer_{group}": counts.rate for group, counts in errors.items()}


@click.command(help=__doc__)
@click.option("--model", "name", default="demo-en", show_default=True, help="Name or path.")
def command(name: str) -> None:
    checkpoint = read_checkpoint(models.find(name))
    found = clips.bundled() + clips.shared()
    table = Table(title=f"{name}, {len(found)} clips: per cent")
    exact: list[list[int]] = []
    rows: dict[Precision, dict[str, float | None]] = {}
    for precision in PRECISIONS:
        model = load_model(checkpoint, CPU(), precision=precision)
        if model.precision != precision:
            raise click.ClickException(f"{precision} does not run here")
        exact = exact or said(model, found)
        rows[precision] = figures(model, found, exact)
        if not table.columns:
            for heading in ("", *rows[precision]):
                table.add_column(heading.replace("_", " "))
        table.add_row(precision, *map(str, rows[precision].values()))
    Console(width=160, stderr=True).print(table)
    print(json.dumps({"bench": "precision", "model": name, "clips": len(found), "precisions": rows}))


if __name__ == "__main__":
    command()
