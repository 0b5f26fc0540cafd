"""What a search on the host costs beside the graph's own greedy loop: time a token, in turn within one run.

Run: ``python -m engine.bench.searches --cases demo-en,tiny``. One window of 30 s, 50 tokens without an end,
batch 1. On the host: the same greedy tokens pass by pass; with timestamps' rules; drawn five times; five
beams.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from captiond_engine.decoding.filters import LogitFilter, Suppress, TimestampRules
from captiond_engine.decoding.passes import ClipPrompt, ClipSearch, Prompt, search
from captiond_engine.decoding.rules import Suppression
from captiond_engine.decoding.search import BeamSearch, Sampling, Search
from captiond_engine.whisper.model import Encoding, WhisperModel
from rich.console import Console
from rich.table import Table

from tests.parity import models

TOKENS = 50
NEVER = -1  # no token ends a text
GRAPH = "greedy in the graph"


def model_of(case: str) -> WhisperModel:
    """The bundled model, or seeded random weights with the published vocabulary."""
    return models.bundled_model() if case == "demo-en" else models.seeded_speaker(case)


def ways(model: WhisperModel, encoding: Encoding) -> dict[str, Callable[[], list[int]]]:
    """Each way of decoding, by its name; a call gives its tokens."""
    tokenizer, config = model.require_tokenizer(), model.config
    endless = Suppression.of(config.n_vocab, always=[tokenizer.end_of_text])
    prompt = Prompt((tokenizer.start_of_transcript, tokenizer.no_timestamps))
    suppress = Suppress(endless)
    stamps = TimestampRules(tokenizer.timestamp_begin, tokenizer.end_of_text, tokenizer.no_timestamps, 50)

    def graph() -> list[int]:
        return model.greedy(encoding, [prompt], max_new_tokens=TOKENS, suppression=endless).tokens[0]

    def host(machine: Callable[[], Search], width: int = 1, *rules: LogitFilter) -> Callable[[], list[int]]:
        def run() -> list[int]:
            clip = ClipSearch(ClipPrompt(prompt, 0, width), machine(), (*rules, suppress))
            answers = search(model.passes(encoding), [clip])
            return list(answers[0].text.tokens) if answers else []

        return run

    return {
        GRAPH: graph,
        "greedy on the host": host(lambda: Sampling(NEVER, TOKENS)),
        "greedy, timestamps": host(lambda: Sampling(NEVER, TOKENS), 1, stamps),
        "best of 5": host(lambda: Sampling(NEVER, TOKENS, temperature=0.8, count=5), 5),
        "beam 5": host(lambda: BeamSearch(NEVER, TOKENS, beam_size=5, most_finished=5), 5),
    }


def measure(case: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of each way, in turn: milliseconds a token, and the ratio to the graph."""
    model = model_of(case)
    noise = np.random.default_rng(5).standard_normal((1, model.config.n_mels, 3_000), dtype=np.float32)
    encoding = model.encode(noise * np.float32(0.4))
    found = ways(model, encoding)
    texts = {name: run() for name, run in found.items()}
    if texts["greedy on the host"] != texts[GRAPH]:
        raise SystemExit(f"{case}: the host's tokens are not the graph's")
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, run in found.items():
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) * 1000 / TOKENS)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        name: {"ms_a_token": round(median, 3), "ratio": round(median / medians[GRAPH], 2)}
        for name, median in medians.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="demo-en")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cases = {case: measure(case, arguments.rounds) for case in arguments.cases.split(",")}
    for case, rows in cases.items():
        table = Table(title=f"{case}: 30 s, {TOKENS} tokens, batch 1 (medians)")
        for heading in ("", "ms a token", "passes a second", "× graph"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, row in rows.items():
            each = row["ms_a_token"]
            table.add_row(name, f"{each:.2f}", f"{1000 / each:.0f}", f"{row['ratio']:.2f}")
        Console(width=100).print(table)
    load = [round(one, 2) for one in os.getloadavg()]
    print(json.dumps({"bench": "searches", "rounds": arguments.rounds, "load": load, "cases": cases}))


if __name__ == "__main__":
    main()
