"""Bars and lines as SVG, with nothing but text. Takes named numbers, gives one picture; knows no bench.

Colours keep apart for those who see few of them (Okabe and Ito, "Color Universal Design", 2008). Everything
that a picture says with colour it says in words or numbers too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH = 960
LEFT, RIGHT, TOP, ROW, GAP = 300, 110, 56, 22, 34  # pixels: names, figures, title, one bar, between charts
LINES_HEIGHT = 260
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
INK, FAINT, PAPER = "#1f2328", "#d0d7de", "#ffffff"
MARKED_BACK = "#eef4fb"


@dataclass(frozen=True, slots=True)
class Bar:
    """Parts laid end to end, the value written beside them, and its spread. ``marked``: ours."""

    name: str
    parts: tuple[float, ...]
    value: float
    least: float
    most: float
    marked: bool = False


@dataclass(frozen=True, slots=True)
class BarChart:
    title: str
    unit: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    """``lines``: by name, a value at each of ``x``."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]


Chart = BarChart | LineChart


def to_svg(charts: Sequence[Chart]) -> str:
    """All charts, one below the other."""
    y, body = 0.0, ""
    for chart in charts:
        drawn, height = _bars(chart) if isinstance(chart, BarChart) else _lines(chart)
        body += f'<g transform="translate(0 {y:.0f})">{drawn}</g>'
        y += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" '
        f'height="{y:.0f}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
        f'<rect width="{WIDTH}" height="{y:.0f}" fill="{PAPER}"/>{body}</svg>\n'
    )


def save(path: Path, charts: Sequence[Chart], title: str) -> None:
    """``path`` as SVG, or as a page with it where its name ends in ``.html``."""
    svg = to_svg(charts)
    if path.suffix == ".html":
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        svg = f"{head}<body>{svg}</body></html>\n"
    path.write_text(svg, encoding="utf-8")


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: int = 400) -> str:
    style = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = INK) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def _legend(names: Sequence[str], x: float, y: float) -> str:
    drawn = ""
    for index, name in enumerate(names):
        drawn += _rect(x, y - 10, 12, 12, COLOURS[index % len(COLOURS)]) + _text(x + 18, y, name)
        x += 40 + 7.2 * len(name)
    return drawn


def _bars(chart: BarChart) -> tuple[str, float]:
    """Each bar on a row: name, parts, a whisker from least to most, the sum in numbers."""
    most = max((bar.most for bar in chart.bars), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / most
    drawn = _text(16, 24, chart.title, weight=600) + _legend(chart.parts, LEFT, 46)
    for index, bar in enumerate(chart.bars):
        top, x = TOP + index * ROW, float(LEFT)
        if bar.marked:
            drawn += _rect(8, top, WIDTH - 16, ROW, MARKED_BACK)
        middle = top + ROW / 2
        drawn += _text(LEFT - 10, middle + 4.5, bar.name, anchor="end", weight=600 if bar.marked else 400)
        for part, value in enumerate(bar.parts):
            drawn += _rect(x, top + 4, value * scale, ROW - 8, COLOURS[part % len(COLOURS)])
            x += value * scale
        least, end = LEFT + bar.least * scale, LEFT + bar.most * scale
        if bar.least < bar.most:
            drawn += _line(least, middle, end, middle)
            drawn += "".join(_line(at, middle - 4, at, middle + 4) for at in (least, end))
        drawn += _text(max(x, end) + 8, middle + 4.5, f"{_short(bar.value)} {chart.unit}".rstrip())
    return drawn, TOP + len(chart.bars) * ROW


def _lines(chart: LineChart) -> tuple[str, float]:
    """A line a name over a grid of round steps, its last value in numbers."""
    left, bottom, right = 80.0, TOP + LINES_HEIGHT, WIDTH - RIGHT
    highest = 5 * _round_step(
        max((value for values in chart.lines.values() for value in values), default=0.0)
    )
    furthest = 5 * _round_step(max(chart.x, default=0.0))
    drawn = _text(16, 24, chart.title, weight=600) + _legend(list(chart.lines), left, 46)
    for step in range(6):
        y, x = bottom - LINES_HEIGHT * step / 5, left + (right - left) * step / 5
        drawn += _line(left, y, right, y, FAINT)
        drawn += _text(left - 8, y + 4.5, _short(highest * step / 5), anchor="end")
        drawn += _text(x, bottom + 20, _short(furthest * step / 5), anchor="middle")
    drawn += _text((left + right) / 2, bottom + 40, chart.x_label, anchor="middle")
    drawn += f'<g transform="translate(20 {TOP + LINES_HEIGHT / 2:.0f}) rotate(-90)">' + (
        _text(0, 0, chart.y_label, anchor="middle") + "</g>"
    )
    for index, values in enumerate(chart.lines.values()):
        points = [
            (left + (right - left) * x / furthest, bottom - LINES_HEIGHT * value / highest)
            for x, value in zip(chart.x, values, strict=True)
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn += f'<path d="M{path}" fill="none" stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="2"/>'
        drawn += _text(points[-1][0] + 8, points[-1][1] + 4.5, _short(values[-1]))
    return drawn, bottom + 48


def _short(value: float) -> str:
    """Whole from 100 on, else with one decimal where there is one."""
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.1f}"


def _round_step(most: float) -> float:
    """A fifth of ``most``, rounded up to 1, 2, 4, 5, 8 or 10 times a power of ten; for nothing, 0.2."""
    if most <= 0:
        return 0.2
    power = 10.0 ** math.floor(math.log10(most / 5))
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if most / 5 <= power * step * (1 + 1e-9))
