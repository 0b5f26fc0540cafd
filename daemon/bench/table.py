"""The figures of ``report`` as a table for people. Takes its dictionaries; prints to a rich console."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from daemon.bench.report import LATENCIES, Figures


def print_figures(console: Console, groups: dict[str, Figures]) -> None:
    """One table for speech, one for the rest."""
    speech = {name: figures for name, figures in groups.items() if "wer" in figures}
    for name, figures in speech.items():
        console.print(_latency_table(name, figures))
        console.print(_error_table(figures))
        console.print(_stability_line(figures), soft_wrap=True)
    for name, figures in groups.items():
        if "strict_finals" in figures:
            console.print(_ghost_line(name, figures), soft_wrap=True)
        if figures["errors"] or figures["lost_s"]:
            console.print(f"[bold]{name}[/]: {figures['lost_s']} s lost, errors {figures['errors']}")


def _latency_table(name: str, figures: Figures) -> Table:
    title = f"{name}: {figures['clips']} clips, {figures['audio_s']:.0f} s"
    table = Table("ms", "n", "p50", "p90", "p99", title=title, title_justify="left")
    for key, label in LATENCIES.items():
        row = figures["latency_ms"][key]
        table.add_row(label, str(row["n"]), *(_number(row[p], 0) for p in ("p50", "p90", "p99")))
    bounds, ends = ", ".join(figures["bounds"]), ", ".join(figures["word_ends"])
    table.caption = f"speech bounds: {bounds}; word ends: {ends}"
    return table


def _error_table(figures: Figures) -> Table:
    """Rates after Whisper's normalizer; "plain" are lower case without punctuation."""
    columns = ("streaming", "offline", "delta")
    table = Table("WER %", "clips", "words", *columns, *(f"plain {column}" for column in columns))
    for name, row in figures["wer"].items():
        rates = [_number(source[key], 1) for source in (row, row["plain"]) for key in columns]
        table.add_row(name, str(row["clips"]), str(row["words"]), *rates)
    return table


def _stability_line(figures: Figures) -> str:
    flicker, counts = figures["flicker"], figures["segments"]
    return (
        f"flicker (UPWR): tentative {_number(flicker['upwr_tentative'], 3)}, with capitals and punctuation "
        f"{_number(flicker['upwr_tentative_exact'], 3)}, committed {_number(flicker['upwr_committed'], 3)}; "
        f"segments {counts['segments']}: {counts['finals']} finals, {counts['suppressed']} suppressed, "
        f"{counts['cut_early']} of {counts['ended_by_silence']} cut early ("
        f"{counts['sentences_torn']} within a sentence), {counts['too_long']} too long; "
        f"latest frame sent {figures['latest_frame_late_ms']:.0f} ms late\n"
    )


def _ghost_line(name: str, figures: Figures) -> str:
    return (
        f"{name}: {figures['strict_finals']} finals in {figures['strict_clips']} clips without voices "
        f"({_number(figures['strict_finals_per_hour'], 1)} an hour), {figures['strict_segments']} segments; "
        f"{figures['all_finals']} finals in all {figures['clips']} clips"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
