"""What a batch of passes costs the device: learnt from the batches that were run.

Takes: of each batch its size, the sound that it encoded and how long it took. Gives: how long another is
expected to take. Time is fitted as ``fixed + per job + per second of sound``, by least squares over the
recent past. Knows no clock, no stream and no device.
"""

from __future__ import annotations

import numpy as np

KEPT = 0.99  # of the weight of what was measured before, with each batch: half of it after 69
# Ridge penalties of the three costs. As long as batches hold one job each, nothing tells the costs apart.
# Then these do: two thirds of a batch are taken for fixed, so that a larger batch is tried, and measured.
# What was measured long ago is forgotten, and tried again.
PENALTIES = np.array([0.1, 0.4, 0.4])
OUTLIER = 4.0  # of what was expected: a batch counts as no longer, as the machine was busy elsewhere
TRUSTED = 4  # batches, before an expectation says what is an outlier


class BatchCost:
    """One device's. ``expect`` and ``measure`` take some ten microseconds."""

    def __init__(self) -> None:
        self._squares = np.zeros((3, 3))  # weighted sums of x xᵀ and of x · seconds, x = (1, jobs, sound)
        self._products = np.zeros(3)
        self._fit: tuple[float, float, float] | None = None
        self.batches = 0

    @property
    def costs(self) -> tuple[float, float, float]:
        """Seconds: fixed, per job, per second of sound; none is negative. Zeros before the first batch."""
        if self._fit is None:
            self._fit = self._solve()
        return self._fit

    def measure(self, jobs: int, sound_s: float, took_s: float) -> None:
        """A batch of ``jobs`` with windows of ``sound_s`` seconds in all took ``took_s``."""
        expected_s = self.expect(jobs, sound_s)
        if expected_s is not None and self.batches >= TRUSTED:
            took_s = min(took_s, OUTLIER * expected_s)
        x = np.array([1.0, jobs, sound_s])
        self._squares = KEPT * self._squares + np.outer(x, x)
        self._products = KEPT * self._products + x * took_s
        self._fit = None
        self.batches += 1

    def expect(self, jobs: int, sound_s: float) -> float | None:
        """Seconds that ``jobs`` with ``sound_s`` of windows should take together; None: nothing is known."""
        if not self.batches:
            return None
        fixed, per_job, per_second = self.costs
        return fixed + per_job * jobs + per_second * sound_s

    def _solve(self) -> tuple[float, float, float]:
        """Ridge regression; a cost that comes out below zero is left out, and the others are fitted again."""
        found = np.zeros(3)
        if not self.batches:
            return 0.0, 0.0, 0.0
        usual_sound_s = self._squares[0, 2] / self._squares[0, 1]  # of one job
        penalties = PENALTIES * (1.0, 1.0, max(usual_sound_s, 1e-3) ** 2)
        kept = [0, 1, 2]
        while kept:
            part = np.ix_(kept, kept)
            found[kept] = np.linalg.solve(
                self._squares[part] + np.diag(penalties[kept]), self._products[kept]
            )
            least = int(np.argmin(found))
            if found[least] >= 0:
                break
            found[least] = 0.0
            kept.remove(least)
        return float(found[0]), float(found[1]), float(found[2])
