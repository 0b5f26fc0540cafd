"""The engine bench's figures as tables and charts. Takes the JSON line's dictionary; pure."""

from __future__ import annotations

from engine.bench.figures import COMPARED, Figures
from engine.bench.plot import Bar, BarChart, Chart
from engine.bench.sheets import Sheet, number

WHERE = (
    "captiond and whisper.cpp make the decoder's cross-attention K/V when they encode, the others with the "
    "first token: whole times compare one to one. Who says other tokens is fast by saying something else.",
)


def sheets_of(figures: Figures) -> list[Sheet]:
    """Of each case: times and ratios at each batch size, what a row costs over them, who was left out."""
    sheets = []
    for name, case in figures["cases"].items():
        for rows, found in case["batches"].items():
            if found:
                about = f"{name}, {rows} window{'s' * (rows != '1')} of 30 s, {figures['new_tokens']} tokens"
                sheets += [_times(about, found, figures["rounds"]), _ratios(about, found)]
        if len(case["batches"]) > 1:
            sheets.append(_batches(name, case["batches"]))
        if case["skipped"]:
            rows = tuple(case["skipped"].items())
            sheets.append(Sheet(f"{name}: not measured", ("contender", "why"), rows))
    return sheets


def _times(about: str, found: dict[str, Figures], rounds: int) -> Sheet:
    steps = ("mel", "encode", "decode", "whole")
    rows = []
    for name, one in found.items():
        whole = one["whole_ms"]
        rows.append(
            (
                name,
                *(number(one[f"{step}_ms"]["median"]) for step in steps),
                f"{whole['min']:.1f}–{whole['max']:.1f}",
                number(one["cpu_ms"]["median"], 0),
                number(one["peak_mib"], 0),
                f"{one['same_tokens']} of {one['tokens']}",
            )
        )
    headings = ("", *steps, "whole min–max", "CPU time", "peak MiB", "same tokens")
    return Sheet(f"{about}: ms a row (medians of {rounds})", headings, tuple(rows), WHERE)


def _ratios(about: str, found: dict[str, Figures]) -> Sheet:
    """Of medians; below 1 is faster."""
    references = {"to_int8": "int8", "to_float32": "float32"}
    headings = ("", *(f"{step} ÷ {name}" for name in references.values() for step in COMPARED))
    rows = tuple(
        (
            name,
            *(number(one.get(reference, {}).get(step), 2) for reference in references for step in COMPARED),
        )
        for name, one in found.items()
    )
    note = (
        "int8: the fastest of the others in int8; float32: faster-whisper in float32; for each step, "
        "the number of threads that is best for it."
    )
    return Sheet(f"{about}: time as a multiple of another's (below 1: faster)", headings, rows, (note,))


def _batches(name: str, batches: dict[str, dict[str, Figures]]) -> Sheet:
    """Whole and decode time of a row by the number of rows at once; and what more rows bring."""
    sizes = list(batches)
    rows = []
    for contender in batches[sizes[0]]:
        found = [batches[size].get(contender) for size in sizes]
        if any(one is None for one in found):
            continue
        cells = [contender]
        for step in ("decode", "whole"):
            medians = [one[f"{step}_ms"]["median"] for one in found if one]
            cells += [number(median) for median in medians]
            cells.append(number(medians[-1] / medians[0] if medians[0] else None, 2))
        rows.append(tuple(cells))
    headings: tuple[str, ...] = ("",)
    for step in ("decode", "whole"):
        headings += (*(f"{step} {size}" for size in sizes), f"{step} {sizes[-1]} ÷ {sizes[0]}")
    note = "whisper.cpp takes one window at a time: its rows come one after another."
    return Sheet(f"{name}: ms a row, by rows at once", headings, tuple(rows), (note,))


def charts_of(figures: Figures) -> list[Chart]:
    """Whole times of each case at the smallest batch size, in steps."""
    steps = ("mel", "encode", "decode")
    charts: list[Chart] = []
    for name, case in figures["cases"].items():
        rows, found = next(iter(case["batches"].items()))
        bars = tuple(
            Bar(
                contender,
                tuple(one[f"{step}_ms"]["median"] for step in steps),
                one["whole_ms"]["median"],
                one["whole_ms"]["min"],
                one["whole_ms"]["max"],
                marked=contender.startswith("captiond"),
            )
            for contender, one in found.items()
        )
        about = f"{name}: 30 s in, {figures['new_tokens']} tokens out, {rows} at once"
        charts.append(BarChart(f"{about}; ms a row (medians; line: least to most)", "ms", steps, bars))
    return charts
