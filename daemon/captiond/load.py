"""How much of the device's time those who speak need, and whether one more would fit.

Takes: shares of the device's time, and limits. Gives: the sentence with which a newcomer is refused. Counted
is the least that is still live, a partial a second and every final, so that a device with time to spare,
which makes more partials than that, is not called full. Knows no session and no request.
"""

from __future__ import annotations

from dataclasses import dataclass

CADENCE_S = 1.0  # between the partials of a stream, at the least; longer where segment.partial_step_ms is


@dataclass(frozen=True, slots=True)
class Load:
    """``needed``: by the ``streams`` that are spoken into; ``newcomer``: by one more, if it never pauses.

    Both are shares of the device's time, 0 where nothing was measured yet. ``limit`` is limits.load, 0: none;
    ``seats`` are those that limits.max_streams leaves free.
    """

    needed: float
    newcomer: float
    streams: int
    limit: float
    seats: int

    @property
    def more(self) -> int:
        """How many more speakers would fit. Who would be alone always does: nobody's captions suffer."""
        if not self.limit or not self.newcomer:
            return self.seats
        fit = max(0, int((self.limit - self.needed) / self.newcomer))
        return min(self.seats, fit if self.streams else max(1, fit))

    @property
    def refusal(self) -> str | None:
        """Why the device's time is too short for one more; None where it is not."""
        if self.more or not self.seats:
            return None
        return (
            f"The device is {self.needed:.0%} busy with {self.streams} stream{'s' * (self.streams != 1)}; "
            "one more would slow their captions. Try again later."
        )
