"""Decoded frames to 16 kHz mono s16le, and what is missing between them.

Takes: PyAV's audio frames of one stream, in order. Gives: bytes, and gaps in samples. Raises Unsupported
for what cannot be speech. Part of the decoding child; knows no container and no pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.error
import av.filter

from captiond.containers import media

RATE_HZ = 16_000
LEAST_GAP, MOST_GAP = Fraction(1, 5), Fraction(3_600)  # seconds of time without sound that are believed
BETWEEN_GAPS = 1  # seconds of sound, so that gaps cannot be told by the thousand


class Unsupported(Exception):
    """Sound of a shape that is not read here; the message says which."""


class Timeline:
    """Where the sound stands in the container's own time. ``origin``: its value at our 0, if known."""

    def __init__(self, origin: Fraction | None) -> None:
        self._origin = origin
        self._told = Fraction(0)  # our time so far, gaps included
        self._since_gap = Fraction(BETWEEN_GAPS)

    def gap_before(self, frame: Any) -> int:
        """Samples at 16 kHz that are missing before ``frame``; its own length is counted."""
        at = None if frame.pts is None or frame.time_base is None else frame.pts * Fraction(frame.time_base)
        gap = Fraction(0)
        if at is not None:
            if self._origin is None:
                self._origin = at - self._told
            ahead = at - self._origin - self._told
            if LEAST_GAP <= ahead <= MOST_GAP:
                gap = ahead if self._since_gap >= BETWEEN_GAPS else gap
            elif abs(ahead) >= LEAST_GAP:
                self._origin = at - self._told  # a clock that jumped: nothing is known of the time between
        length = Fraction(frame.samples, frame.sample_rate)
        self._since_gap = length if gap else self._since_gap + length
        self._told += gap + length
        return round(gap * RATE_HZ)


class Mono:
    """FFmpeg's resampler and mixer. A stream may change its rate and channels on the way."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._shape: tuple[Any, ...] = ()

    def convert(self, frame: Any) -> Iterator[bytes]:
        """What is now decided of the sound; about a millisecond waits for more."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self.finish()
            self._graph, self._shape = _graph_for(frame), shape
        frame.pts = None  # time is the Timeline's; a graph would mend it by itself
        self._graph.push(frame)
        yield from self._pull()

    def finish(self) -> Iterator[bytes]:
        """The rest."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph, self._shape = None, ()

    def _pull(self) -> Iterator[bytes]:
        while True:
            try:
                made = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield bytes(made.planes[0])[: made.samples * 2]


def _graph_for(frame: Any) -> Any:
    rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
    if not media.LEAST_RATE_HZ <= rate_hz <= media.MOST_RATE_HZ:
        raise Unsupported(f"Its rate ({rate_hz} Hz) is not one of speech.")
    if not 1 <= channels <= media.MOST_CHANNELS:
        raise Unsupported(f"It has {channels} channels.")
    graph = av.filter.Graph()
    graph.threads = 1  # a confined process cannot make any
    shape = {"sample_rate": str(rate_hz), "sample_fmt": frame.format.name, "time_base": f"1/{rate_hz}"}
    source = graph.add("abuffer", channel_layout=frame.layout.name, **shape)
    target = graph.add("aformat", sample_fmts="s16", channel_layouts="mono", sample_rates=str(RATE_HZ))
    sink = graph.add("abuffersink")
    source.link_to(target)
    target.link_to(sink)
    graph.configure()
    return graph
