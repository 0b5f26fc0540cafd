"""What there is to write: a fact, of which opening of a stream, and when it was said.

Takes the wire's events and the wall clock's times that belong to them. Knows no file and no format.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from captiond import wire


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """One opening of a stream, from ``stream.opened`` to ``stream.closed``: one time line, files of its own.

    ``opened_at``: seconds since 1970; where the stream's time 0 lies on the clock.
    """

    stream: str
    epoch: str
    opened_at: float


class LogGap(Struct, frozen=True, kw_only=True, tag_field="type", tag="log.gap"):
    """Lines that are missing at this place of a file, because they could not be written in time.

    ``lost_lines`` counts all of them, ``lost_finals`` those that were finals.
    """

    v: int = wire.VERSION
    stream: str
    lost_finals: int
    lost_lines: int


@dataclass(slots=True, eq=False)
class Fact:
    """One thing to write in every format. ``at``: when its first sample was heard, seconds since 1970.

    ``written``: in how many of the formats it stands already.
    """

    opening: Opening
    event: wire.Final | wire.AudioLost | LogGap
    at: float
    written: int = 0
