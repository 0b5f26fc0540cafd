"""All of a recording of minutes as text: captiond beside openai-whisper, with the same weights.

Both their own way (captiond's segments; openai-whisper's windows, with and without timestamps), and each in
the other's cut: captiond in windows of 30 s, openai-whisper on captiond's segments. Characters are counted,
so that text which is missing shows. Recordings: the bundled sample four times over, and what lies in
``../shared`` beside the checkout. Prints texts and tables (standard error) and one JSON line (standard
output).
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from captiond_engine.errors import CaptiondError
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array
from whisper_normalizer.english import EnglishTextNormalizer

from daemon.bench.clips import ClipError, read_audio, read_manifest
from daemon.bench.metrics import WordErrors
from engine.bench.apart import EndedError, prepared
from engine.bench.cases import NEW_TOKENS, SAMPLE
from engine.bench.contenders import Entry
from engine.bench.figures import Figures
from engine.bench.long_sides import Heard, by_captiond, by_openai_whisper
from engine.bench.plot import Bar, BarChart
from engine.bench.publish import ROOT, Files, console, file_options, load_average, publish
from engine.bench.sheets import Sheet, number

SHARED = ROOT.parent / "shared"
SETS = ("models/demo-en/test/session", "data/open/long")
SHORTEST_S = 120.0
TIMES = 4  # the sample, 39 s
NOTES = (
    '"WER % to openai": to its text in 30 s windows without timestamps.',
    "demo-en was made for single sentences, and its timestamps were never evaluated: windows of several "
    "sentences, and timestamps, cost it words whoever runs it.",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """float32 [samples] at 16 kHz, and what is said in it."""

    name: str
    pcm: Float32Array
    text: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_RATE_HZ


def recordings(longest_s: float) -> list[Recording]:
    """Those that are here, each cut after its last whole segment before ``longest_s``."""
    manifest = json.loads(SAMPLE.with_suffix(".json").read_text(encoding="utf-8"))
    said = " ".join(segment["text"] for segment in manifest["segments"])
    found = [Recording("sample ×4", np.tile(read_audio(SAMPLE), TIMES), " ".join([said] * TIMES))]
    for folder in SETS:
        manifest_file = SHARED / folder / "manifest.jsonl"
        if not manifest_file.exists():
            console().print(f"skipped: no {manifest_file.name} in {folder} beside the checkout")
            continue
        for clip in read_manifest(manifest_file):
            if clip.is_session and clip.seconds >= SHORTEST_S:
                kept = [(end, u.text) for (_, end), u in zip(clip.cuts, clip.utterances, strict=True)]
                kept = [(end, text) for end, text in kept if end <= longest_s]
                pcm = read_audio(clip.path)[: round(kept[-1][0] * SAMPLE_RATE_HZ)]
                found.append(Recording(clip.id, pcm, " ".join(text for _, text in kept)))
    return found


def hear(model: str, recording: Recording, folder: Path) -> list[Heard]:
    """Both sides, one after the other, each in a process of its own."""
    path = folder / "recording.wav"
    soundfile.write(path, recording.pcm, SAMPLE_RATE_HZ)
    openai = Entry("openai-whisper", "float32")
    prepared(model, NEW_TOKENS, [openai], folder)
    ours = _apart(by_captiond, model, path)
    return ours + _apart(by_openai_whisper, folder / openai.file, path, ours[0].segments)


def _apart(side: Callable[..., list[Heard]], *arguments: Any) -> list[Heard]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(side, *arguments).result()


def figures_of(recording: Recording, heard: Sequence[Heard]) -> Figures:
    """By who heard it. Rates in per cent after Whisper's normalizer; ``wer_to_openai`` compares with
    openai-whisper's text without timestamps."""
    normalise = EnglishTextNormalizer()
    truth = normalise(recording.text)
    reference = next((one.text for one in heard if one.who.startswith("openai-whisper, 30 s")), "")
    sides: Figures = {}
    for one in heard:
        said = normalise(one.text)
        sides[one.who] = {
            "text": one.text,
            "characters": len(one.text),
            "characters_to_reference": round(len(one.text) / max(len(recording.text), 1), 3),
            "words": len(one.text.split()),
            "wer": _rate(truth, said),
            "wer_to_openai": _rate(normalise(reference), said) if reference else None,
            "seconds": round(one.seconds, 3),
            "realtime_factor": round(one.seconds / recording.seconds, 4),
            "until_s": one.until_s,
        }
    return {
        "audio_s": round(recording.seconds, 2),
        "reference": {
            "text": recording.text,
            "characters": len(recording.text),
            "words": len(recording.text.split()),
        },
        "sides": sides,
    }


def _rate(truth: str, said: str) -> float | None:
    errors = WordErrors()
    errors.add(truth, said)
    return errors.rate


def sheet_of(name: str, figures: Figures) -> Sheet:
    reference = figures["reference"]
    rows = [
        ("what was said", str(reference["characters"]), "1.00", str(reference["words"]), "", "", "", "", "")
    ]
    for who, one in figures["sides"].items():
        rows.append(
            (
                who,
                str(one["characters"]),
                number(one["characters_to_reference"], 2),
                str(one["words"]),
                number(one["wer"]),
                number(one["wer_to_openai"]),
                number(one["until_s"]),
                number(one["seconds"]),
                number(one["realtime_factor"], 3),
            )
        )
    headings = (
        "",
        "characters",
        "÷ said",
        "words",
        "WER %",
        "WER % to openai",
        "until s",
        "seconds",
        "÷ audio",
    )
    return Sheet(f"{name}: {figures['audio_s']:.0f} s of audio", headings, tuple(rows), NOTES)


def texts_sheet(name: str, figures: Figures) -> Sheet:
    rows = [("what was said", figures["reference"]["text"])]
    rows += [(who, one["text"]) for who, one in figures["sides"].items()]
    return Sheet(f"{name}: all of the text", ("", "text"), tuple(rows))


def chart_of(name: str, figures: Figures) -> BarChart:
    counted = {"what was said": figures["reference"]} | figures["sides"]
    bars = tuple(
        Bar(who, (n := float(one["characters"]),), n, n, n, marked=who.startswith("captiond"))
        for who, one in counted.items()
    )
    return BarChart(f"{name}: characters of text", "", ("characters",), bars)


@click.command(help=__doc__)
@click.option("--model", default="demo-en", show_default=True, help="Name or path, as for captiond serve.")
@click.option("--seconds", default=160.0, show_default=True, help="Cut recordings there.")
@click.option("--limit", type=click.IntRange(1), help="Only so many recordings.")
@file_options
def command(model: str, seconds: float, limit: int | None, **files: Path | None) -> None:
    load_before = load_average()
    found: dict[str, Figures] = {}
    try:
        for recording in recordings(seconds)[:limit]:
            with tempfile.TemporaryDirectory() as folder:
                found[recording.name] = figures_of(recording, hear(model, recording, Path(folder)))
    except (CaptiondError, ClipError, EndedError) as error:
        raise click.ClickException(str(error)) from error
    sheets = [sheet for item in found.items() for sheet in (texts_sheet(*item), sheet_of(*item))]
    charts = [chart_of(*item) for item in found.items()]
    figures = {"model": model, "recordings": found}
    publish("long", figures, sheets, charts, Files(**files), load_before)


if __name__ == "__main__":
    command()
