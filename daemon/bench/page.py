"""The figures of a live run as one page: tables, latencies by percentile, and one session laid out in time.

Takes recordings and their figures; gives HTML that needs nothing else. What a client saw is drawn where it
came: sound level, true speech, segments, partials and finals on one axis, and below it how each caption grew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from daemon.bench.clips import SAMPLE_RATE_HZ, Clip, Float32Array, read_audio
from daemon.bench.feeding import Recording
from daemon.bench.metrics import QUANTILES
from daemon.bench.report import LATENCIES, Figures
from daemon.bench.timeline import Segment, read_timeline
from engine.bench.plot import COLOURS, FAINT, INK, LineChart, to_svg

STRIP_S = 20.0  # of a session on one line
WIDTH, LEVEL_HEIGHT, LANE = 1_180, 54, 15  # pixels
DRAWN = ("first_partial", "word_tentative", "word_committed", "finalization")
LANES = ("said", "segments", "partials", "finals")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 1220px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .15em .8em; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr:nth-child(even) { background: #f6f8fa; }
.tentative { color: #6e7781; } .late { color: #6e7781; width: 5em; display: inline-block; }
details { margin: .3em 0; } summary { cursor: pointer; } p.note { color: #57606a; }
"""


def html(figures: Figures, recordings: Sequence[Recording], shown: str | None = None) -> str:
    """The page. ``shown``: id of the session whose timeline is drawn; by default the longest with speech."""
    speech = [recording for recording in recordings if recording.clip.is_speech]
    chosen = next((r for r in speech if r.clip.id == shown), None) or max(
        speech, key=lambda r: r.clip.seconds, default=None
    )
    body = f"<h1>captiond, live: {escape(str(figures['model']))}</h1>" + _provenance(figures)
    for name, group in figures["figures"].items():
        body += f"<h2>{escape(name)}</h2>" + (
            _speech(group) + _latencies(name, group) if "wer" in group else _silence(group)
        )
    if chosen is not None:
        body += f"<h2>{escape(chosen.clip.id)} in time</h2>" + _session(chosen)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>captiond, live</title>'
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _provenance(figures: Figures) -> str:
    machine = figures["machine"]
    told = [
        f"commit {figures['commit']}" + (" (changed)" if figures["changed"] else ""),
        f"{machine['cpu']}, {machine['cores']} cores",
        f"streams at once: {figures['pace']['parallel']}",
        *figures["settings"],
    ]
    return f'<p class="note">{escape("; ".join(told))}</p>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _speech(group: Figures) -> str:
    latencies = [
        (label.strip(), str(row["n"]), *(_number(row[p]) for p in ("p50", "p90", "p99")))
        for key, label in LATENCIES.items()
        for row in [group["latency_ms"][key]]
    ]
    rates = [
        (name, str(row["words"]), *(_number(row[key], 1) for key in ("streaming", "offline", "delta")))
        for name, row in group["wer"].items()
    ]
    flicker, counts = group["flicker"], group["segments"]
    words = (
        f"Flicker: tentative {_percent(flicker['upwr_tentative'])}, committed "
        f"{_percent(flicker['upwr_committed'])} of {flicker['final_words']} words. "
        f"Segments {counts['segments']}: {counts['finals']} finals, {counts['suppressed']} suppressed, "
        f"{counts['cut_early']} of {counts['ended_by_silence']} ended before their true end, "
        f"{counts['sentences_torn']} of them within a sentence. "
        f"Speech bounds: {', '.join(group['bounds'])}; word ends: {', '.join(group['word_ends'])}."
    )
    return (
        _table(("ms", "n", "p50", "p90", "p99"), latencies)
        + _table(("WER %", "words", "streaming", "offline", "delta"), rates)
        + f"<p>{escape(words)}</p>"
    )


def _silence(group: Figures) -> str:
    told = (
        f"{group['strict_finals']} finals in {group['strict_clips']} clips without voices "
        f"({_number(group['strict_finals_per_hour'], 1)} an hour); "
        f"{group['all_finals']} in all {group['clips']}."
    )
    texts = "".join(
        f"<li>{escape(clip)}: {escape(' / '.join(said))}</li>" for clip, said in group["texts"].items()
    )
    return f"<p>{escape(told)}</p>" + (f"<ul>{texts}</ul>" if texts else "")


def _latencies(name: str, group: Figures) -> str:
    """Milliseconds by percentile; the last ones are left out, as one late word would set the scale."""
    drawn = {key: group["quantiles_ms"][key] for key in DRAWN}
    lines = {LATENCIES[key]: tuple(max(0.0, at) for at in row) for key, row in drawn.items() if row}
    if not lines:
        return ""
    x = tuple(map(float, QUANTILES))
    return to_svg([LineChart(f"{name}: latency by percentile, 0 at least", "percentile", "ms", x, lines)])


# --- one session ------------------------------------------------------------------------------------------


def _session(recording: Recording) -> str:
    clip, segments = recording.clip, read_timeline(recording.received).segments
    pcm = read_audio(clip.path)
    strips = [_strip(clip, segments, pcm, at * STRIP_S) for at in range(int(np.ceil(clip.seconds / STRIP_S)))]
    note = (
        "Grey: sound level. Blue: true speech. Orange: what was taken for a segment. Green marks: partials; "
        "wide ones commit words. Red marks: finals. All at the moment of their receipt."
    )
    grown = "".join(_grown(segment) for segment in segments)
    return f'<p class="note">{note}</p>{"".join(strips)}<h2>How each caption grew</h2>{grown}'


def _strip(clip: Clip, segments: Sequence[Segment], pcm: Float32Array, since: float) -> str:
    until = since + STRIP_S
    scale = (WIDTH - 70) / STRIP_S
    height = LEVEL_HEIGHT + (len(LANES) + 1) * LANE

    def x(second: float) -> float:
        return 60 + (min(max(second, since), until) - since) * scale

    def bar(lane: int, start: float, end: float, colour: str, title: str) -> str:
        if end <= since or start >= until:
            return ""
        y = LEVEL_HEIGHT + lane * LANE + 2
        return (
            f'<rect x="{x(start):.1f}" y="{y}" width="{max(1.0, x(end) - x(start)):.1f}" height="{LANE - 4}" '
            f'fill="{colour}"><title>{escape(title)}</title></rect>'
        )

    drawn = _level(pcm, since)
    for index, lane in enumerate(LANES):
        y = LEVEL_HEIGHT + (index + 1) * LANE - 4
        drawn += f'<text x="54" y="{y}" text-anchor="end">{lane}</text>'
    for second in range(int(since), int(until) + 1, 2):
        drawn += f'<text x="{x(second):.1f}" y="{height - 3}" text-anchor="middle">{second} s</text>'
        drawn += f'<path d="M{x(second):.1f} 0V{height - LANE}" stroke="{FAINT}"/>'
    for utterance in clip.utterances:
        drawn += bar(0, utterance.start, utterance.end, COLOURS[0], utterance.text)
    for segment in segments:
        drawn += bar(1, segment.start, segment.end or segment.start, COLOURS[1], segment.end_reason or "")
        committed = ""
        for shown in segment.displays:
            wide = 0.08 if shown.committed != committed else 0.03
            drawn += bar(2, shown.at, shown.at + wide, COLOURS[2], f"{shown.committed} | {shown.tentative}")
            committed = shown.committed
        if segment.final_at is not None:
            drawn += bar(3, segment.final_at, segment.final_at + 0.08, COLOURS[3], segment.final_text or "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'font-size="11" font-family="system-ui, sans-serif" fill="{INK}">{drawn}</svg>'
    )


def _level(pcm: Float32Array, since: float) -> str:
    """Decibels over -70 dBFS, each 50 ms."""
    step = SAMPLE_RATE_HZ // 20
    part = pcm[round(since * SAMPLE_RATE_HZ) : round((since + STRIP_S) * SAMPLE_RATE_HZ)]
    power = (part[: len(part) // step * step].reshape(-1, step).astype(np.float64) ** 2).mean(axis=1)
    heights = np.clip((10 * np.log10(power + 1e-12) + 70) / 70, 0, 1) * (LEVEL_HEIGHT - 6)
    width = (WIDTH - 70) / STRIP_S / 20
    return "".join(
        f'<rect x="{60 + at * width:.1f}" y="{LEVEL_HEIGHT - height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="{FAINT}"/>'
        for at, height in enumerate(heights)
    )


def _grown(segment: Segment) -> str:
    rows = "".join(
        f'<div><span class="late">{shown.at:.2f} s</span>{escape(shown.committed)}'
        f'<span class="tentative">{escape(shown.tentative)}</span></div>'
        for shown in segment.displays
    )
    if segment.final_at is not None:
        said = escape(segment.final_text or "")
        rows += f'<div><span class="late">{segment.final_at:.2f} s</span><b>{said}</b></div>'
    title = segment.final_text or f"suppressed: {segment.suppressed}"
    return f"<details><summary>{segment.start:.1f} s: {escape(title)}</summary>{rows}</details>"


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def last_line(text: str) -> Figures:
    """The figures of the newest run in a file of JSON lines. Raises ValueError."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = json.loads(lines[-1]) if lines else None
    if not isinstance(found, dict) or found.get("bench") != "live":
        raise ValueError("not a result of the live bench")
    return found
