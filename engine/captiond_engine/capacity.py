"""How much of the device's time somebody who speaks needs, as it was measured.

Takes: what passes took, of which kind, and how much speech they covered for the first time. Gives: the share
of the device's time that a stream needs which speaks without pause. Knows no clock, no stream and no limit.

What is counted is the least that is still live: a partial for each ``cadence_s`` of speech, and the finals. A
device that has time to spare makes more partials than that; they give way, and are no load.
"""

from __future__ import annotations

from typing import Literal

from captiond_engine.batch_cost import BatchCost

KEPT = 0.99  # of the weight of earlier passes, with each one
# Before anything was measured: a pass takes so many times the probe, which encodes half a second and decodes
# two tokens. Of demo-en it was 4 (windows of 3 s) to 25 (30 s).
PROBES_A_PASS = 16
PRIOR_PASSES = 4.0  # what is taken for granted weighs as much as so many measured passes
FINALS_PER_S = 0.5  # passes in pauses and at the end of segments, for each second of speech; before measured
PRIOR_SPEECH_S = 10.0  # the same for these
SPEECH_KEPT_S = 300.0  # time constant of their number

Kind = Literal["partial", "final"]


class Capacity:
    """One device's."""

    def __init__(self) -> None:
        self.batches = BatchCost()
        self._probe_s: float | None = None
        self._passes: dict[Kind, float] = {"partial": 0.0, "final": 0.0}
        self._took_s: dict[Kind, float] = {"partial": 0.0, "final": 0.0}
        self._finals = FINALS_PER_S * PRIOR_SPEECH_S
        self._speech_s = PRIOR_SPEECH_S

    def probed(self, took_s: float) -> None:
        """The least work there is took ``took_s``; the least of several counts."""
        self._probe_s = took_s if self._probe_s is None else min(took_s, self._probe_s)

    def measure(self, kind: Kind, jobs: int, *, sound_s: float, new_s: float, took_s: float) -> None:
        """A batch of ``jobs`` of one kind took ``took_s``.

        ``sound_s``: length of its windows in all. ``new_s``: speech that no pass had covered before.
        """
        self.batches.measure(jobs, sound_s, took_s)
        kept = KEPT**jobs
        self._passes[kind] = kept * self._passes[kind] + jobs
        self._took_s[kind] = kept * self._took_s[kind] + took_s
        faded = 1 - min(1.0, new_s / SPEECH_KEPT_S)
        self._speech_s = faded * self._speech_s + new_s
        self._finals = faded * self._finals + (jobs if kind == "final" else 0)

    def per_speaker(self, cadence_s: float) -> float:
        """Share of the device's time that a stream needs which speaks without pause; 0: nothing is known."""
        finals_per_s = self._finals / self._speech_s
        return self._pass_s("partial") / cadence_s + self._pass_s("final") * finals_per_s

    def _pass_s(self, kind: Kind) -> float:
        """Device time of one pass: of its batch, a part for each job."""
        other: Kind = "final" if kind == "partial" else "partial"
        if self._passes[other]:
            prior_s = self._took_s[other] / self._passes[other]
        elif self._probe_s is not None:
            prior_s = PROBES_A_PASS * self._probe_s
        elif self._passes[kind]:
            return self._took_s[kind] / self._passes[kind]
        else:
            return 0.0
        took_s = self._took_s[kind] + PRIOR_PASSES * prior_s
        return took_s / (self._passes[kind] + PRIOR_PASSES)
