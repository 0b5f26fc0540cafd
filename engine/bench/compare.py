"""Encode and decode time of captiond, openai-whisper and faster-whisper on the same weights, in turn.

Run: ``make bench`` (extra ``bench``), or ``python -m engine.bench.compare --cases demo-en,tiny,base``.
Whole against whole: a 30 s window encoded, then 50 tokens decoded greedily, batch 1. Every contender's
tokens are compared, so that nobody is fast by saying something else. Medians; ratios captiond ÷ peer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captiond_engine.models import BUNDLED
from captiond_engine.types import Float32Array, PromptSpec
from captiond_engine.whisper.loading import build_model
from captiond_engine.whisper.tokens import WhisperTokenizer
from captiond_engine.whisper.weights import read_checkpoint
from max.driver import CPU
from rich.console import Console
from rich.table import Table

from engine.bench.contenders import Captiond, Case, Contender, CTranslate2, OpenAIWhisper, converted
from tests.parity import seeded

REST_S = 0.35  # MAX's threads spin for a while after each call; nobody is measured meanwhile


@dataclass(slots=True)
class Times:
    """Seconds of each round."""

    encode: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def medians_ms(self) -> tuple[float, float, float]:
        whole = [e + d for e, d in zip(self.encode, self.decode, strict=True)]
        encode, decode, both = (
            1000 * statistics.median(values) for values in (self.encode, self.decode, whole)
        )
        return encode, decode, both


def case_of(name: str) -> Case:
    """``demo-en``, or seeded random weights at a real size."""
    if name == "demo-en":
        checkpoint = read_checkpoint(BUNDLED / name)
        tokenizer = WhisperTokenizer.from_hugging_face(BUNDLED / name, checkpoint.config)
        config, tensors = checkpoint.config, checkpoint.tensors
    else:
        config, tensors = seeded.config_of(name), seeded.tensors_of(name)
        tokenizer = WhisperTokenizer.from_published(config)
    prompt, _ = tokenizer.prompt(PromptSpec(), language="en")
    return Case(name, config, tensors, tuple(prompt), (tokenizer.end_of_text,))


def contenders_of(case: Case, folder: Path, threads: int) -> list[Contender]:
    made: list[Contender] = [
        Captiond(case, build_model(case.config, case.tensors, CPU(), progress=lambda e: print(e.message))),
        OpenAIWhisper(case, threads),
    ]
    model = converted(case, folder)
    for precision in ("float32", "int8"):
        made += [CTranslate2(case, model, precision, count) for count in sorted({1, threads})]
    return made


def measure(contenders: list[Contender], mel: Float32Array, rounds: int) -> dict[str, Times]:
    """All contenders in turn, ``rounds`` times, after one round that is not counted."""
    found = {contender.name: Times() for contender in contenders}
    for counted in range(rounds + 1):
        for contender in contenders:
            time.sleep(REST_S)
            encoded, encode_s = _timed(lambda one=contender: one.encode(mel))  # type: ignore[misc]
            tokens, decode_s = _timed(lambda one=contender, e=encoded: one.decode(e))  # type: ignore[misc]
            times = found[contender.name]
            times.tokens = tokens
            if counted:
                times.encode.append(encode_s)
                times.decode.append(decode_s)
    return found


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def report(case: str, found: dict[str, Times], console: Console) -> dict[str, Any]:
    """Print one case's table; its figures for the JSON line."""
    table = Table(title=f"{case}: 30 s window, 50 tokens, batch 1 (median ms; ratio = captiond / peer)")
    for heading in (
        "",
        "encode",
        "decode",
        "whole",
        "ratio encode",
        "ratio decode",
        "ratio whole",
        "same tokens",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    ours_name = next(iter(found))
    ours, our_tokens = found[ours_name].medians_ms(), found[ours_name].tokens
    figures: dict[str, Any] = {}
    for name, times in found.items():
        medians = times.medians_ms()
        ratios = [mine / peer for mine, peer in zip(ours, medians, strict=True)]
        same = sum(a == b for a, b in zip(our_tokens, times.tokens, strict=False))
        table.add_row(
            name,
            *(f"{m:.1f}" for m in medians),
            *(f"{r:.2f}" for r in ratios),
            f"{same} of {len(our_tokens)}",
        )
        keys = ("encode_ms", "decode_ms", "whole_ms")
        figures[name] = {key: round(value, 2) for key, value in zip(keys, medians, strict=True)} | {
            "ratio_encode": round(ratios[0], 3),
            "ratio_decode": round(ratios[1], 3),
            "ratio_whole": round(ratios[2], 3),
            "same_tokens": same,
        }
    console.print(table)
    return figures


def about() -> dict[str, Any]:
    """Where these figures come from."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    packages = ("max", "openai-whisper", "torch", "faster-whisper", "ctranslate2")
    models = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "commit": git.stdout.strip(),
        "machine": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="demo-en,tiny,base")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    console = Console(width=140)
    figures = {}
    for name in arguments.cases.split(","):
        case = case_of(name)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(
                contenders_of(case, Path(folder), arguments.threads), seeded.mels(1)[0], arguments.rounds
            )
        figures[name] = report(name, found, console)
    print(json.dumps({"bench": "engine", **about(), "rounds": arguments.rounds, "cases": figures}))


if __name__ == "__main__":
    main()
