"""Which heads of a model follow the audio: each one alone, on speech whose words' times are known.

    python -m engine.bench.heads MODEL [MANIFEST]

Takes a model and a manifest with ``words`` (by default tests/data/aligned). Gives a table of how far the ends
of words are off by each head of the decoder's cross-attention, and as JSON the ``alignment_heads`` for the
model's generation_config.json: those that are off by less than 100 ms in the median. Compiles a decoder that
keeps all heads, once.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from captiond_engine import models
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.align import Detokenizer
from captiond_engine.decoding.passes import Prompt
from captiond_engine.decoding.timing import token_times
from captiond_engine.types import POSITION_SAMPLES, SAMPLE_RATE_HZ, Decoding, Float32Array, PromptSpec
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.loading import build_model, choose_device, tokenizer_of
from captiond_engine.whisper.model import WhisperModel
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import read_checkpoint
from rich.console import Console
from rich.table import Table

ALIGNED = Path(__file__).resolve().parents[2] / "tests" / "data" / "aligned" / "manifest.jsonl"
BEFORE, AFTER = 3_200, 1_600  # samples around a sentence
GOOD_S = 0.1
Head = tuple[int, int]
Sentence = dict[str, Any]


def all_heads(config: WhisperConfig) -> list[Head]:
    return [(layer, head) for layer in range(config.n_text_layer) for head in range(config.n_text_head)]


def off_by(
    model: WhisperModel, tokenizer: WhisperTokenizer, pcm: Float32Array, sentence: Sentence
) -> dict[Head, list[float]]:
    """How far the end of each word of one sentence is off by each head, in seconds."""
    start = round(sentence["start"] * SAMPLE_RATE_HZ) - BEFORE
    heard = pcm[max(0, start) : round(sentence["end"] * SAMPLE_RATE_HZ) + AFTER]
    mel = log_mel(heard, model.config.n_mels, model.config.max_hops)
    text = tuple(tokenizer.encode(" " + sentence["text"]))
    before, at = tokenizer.prompt(PromptSpec(), language="en")
    prompt = Prompt((*before, *text), at, len(text))
    positions = len(heard) // POSITION_SAMPLES
    model.greedy(model.encode(mel[None], [positions]), [prompt], max_new_tokens=1)
    attended = model.kept_attention(1)[0, at : len(prompt.tokens)]
    first = len(prompt.tokens) - len(text) - 1 - at
    found = {}
    for index, head in enumerate(all_heads(model.config)):
        times = token_times(attended[:, index : index + 1], first, len(text), positions)
        starts, heeded = (tuple(one * POSITION_SAMPLES for one in row) for row in times)
        decoding = Decoding(text, (0.0,) * len(text), starts=starts, heeded=heeded)
        words = Detokenizer(tokenizer).words(decoding, 0, len(heard))
        found[head] = [
            abs((max(0, start) + word.end) / SAMPLE_RATE_HZ - truth["end"])
            for word, truth in zip(words, sentence["words"], strict=True)
        ]
    return found


@click.command(help=__doc__)
@click.argument("model")
@click.argument("manifest", type=click.Path(path_type=Path, exists=True), default=ALIGNED)
def main(model: str, manifest: Path) -> None:
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 100)
    checkpoint = read_checkpoint(models.find(model))
    every = all_heads(checkpoint.config)
    config = replace(checkpoint.config, alignment_heads=tuple(every))
    tokenizer = tokenizer_of(checkpoint)
    whisper = build_model(
        config,
        checkpoint.tensors,
        choose_device("cpu"),
        tokenizer,
        progress=lambda event: console.print(f"  {event.message}"),
    )
    off: dict[Head, list[float]] = {head: [] for head in every}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        pcm, _ = soundfile.read(manifest.parent / row["path"], dtype="float32")
        for sentence in row["segments"]:
            for head, errors in off_by(whisper, tokenizer, pcm, sentence).items():
                off[head] += errors
    table = Table("layer", "head", "median, ms", "p90, ms", title=f"ends of {len(off[every[0]])} words")
    medians = {head: float(np.median(errors)) for head, errors in off.items()}
    for head in sorted(every, key=medians.__getitem__):
        p90 = float(np.percentile(off[head], 90))
        table.add_row(*map(str, head), f"{medians[head] * 1000:.0f}", f"{p90 * 1000:.0f}")
    console.print(table)
    good = [list(head) for head in every if medians[head] < GOOD_S]
    click.echo(json.dumps({"bench": "heads", "model": model, "alignment_heads": good}))


if __name__ == "__main__":
    main()
