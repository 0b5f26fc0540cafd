"""What a client saw of one stream, put in order by segment.

Takes the events of a stream with the second of their receipt (0: the first sample was captured); gives
one record a segment. Knows no reference text and no metric.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """``at``: seconds between the capture of the stream's first sample and the receipt."""

    at: float
    event: Event


@dataclass(frozen=True, slots=True)
class Display:
    """One ``transcript.partial``: what was to be shown from ``at`` on."""

    at: float
    committed: str
    tentative: str

    @property
    def text(self) -> str:
        return self.committed + self.tentative


@dataclass(slots=True)
class Segment:
    """One segment as a client saw it. Times are seconds; None: that event never came."""

    id: int
    start: float = 0.0
    end: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    end_reason: str | None = None
    displays: list[Display] = field(default_factory=list)
    final_at: float | None = None
    final_text: str | None = None
    suppressed: str | None = None
    endpoint_to_final_ms: float | None = None


@dataclass(slots=True)
class Timeline:
    """One stream, whole. ``faults``: codes of ``error`` events; ``lost_s``: audio reported lost."""

    segments: list[Segment] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lost_s: float = 0.0
    closed: bool = False


def read_timeline(received: Iterable[Received]) -> Timeline:
    """Segments in the order of their start. Event types that say nothing of a segment are passed over."""
    timeline = Timeline()
    segments: dict[int, Segment] = {}
    for item in received:
        event = item.event
        if "segment" in event:
            number = int(event["segment"])
            _note(segments.setdefault(number, Segment(number)), item.at, event)
        elif event["type"] == "audio.lost":
            timeline.lost_s += (event["end_ms"] - event["start_ms"]) / 1000
        elif event["type"] == "error":
            timeline.faults.append(str(event["code"]))
        elif event["type"] == "stream.closed":
            timeline.closed = True
    timeline.segments = sorted(segments.values(), key=lambda segment: segment.start)
    return timeline


def _note(segment: Segment, at: float, event: Event) -> None:
    match event["type"]:
        case "speech.started":
            segment.started_at, segment.start = at, event["at_ms"] / 1000
        case "speech.ended":
            segment.ended_at, segment.end = at, event["at_ms"] / 1000
            segment.end_reason = event["reason"]
        case "transcript.partial":
            segment.displays.append(Display(at, event["committed"], event["tentative"]))
        case "transcript.final":
            segment.final_at, segment.final_text = at, event["text"]
            segment.start, segment.end = event["start_ms"] / 1000, event["end_ms"] / 1000
            segment.endpoint_to_final_ms = (event.get("timings") or {}).get("endpoint_to_final_ms")
        case "transcript.suppressed":
            segment.suppressed = event["reason"]
