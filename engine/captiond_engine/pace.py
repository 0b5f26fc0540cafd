"""One stream's place in time: when its sound was said, and how much of its time is speech.

Takes: how far the stream has heard at which time, and what its passes covered. Gives: when a sample was said
at the pace of speech, whether a stream runs ahead of that pace, and its share of speech. Times are seconds of
a clock that the caller reads. Knows no clock, no device and no other stream.

A file that is pushed as fast as it is taken would always have the oldest undecoded sound, and a final due.
So it is given a clock of its own, as Zhang's VirtualClock (SIGCOMM 1990) gives one to a flow: sound was said
when it arrived, but never sooner than somebody could have said it. Who reads ahead is then served with what
the others leave, and at worst as if it spoke.
"""

from __future__ import annotations

from math import exp

from captiond_engine.types import SAMPLE_RATE_HZ

FASTEST = 1.05  # of the pace of speech: a sound card's clock that is wrong, and never so much
LEAD_S = 0.5  # by which sound that is live may come too early, as networks deliver it
AHEAD_S = 3.0  # sound that comes no earlier than this counts as live: what was buffered while connecting
LONGEST_LEAD_S = 10.0  # so that who was served fast for an hour is not made to wait for an hour
SPEAKING_S = 60.0  # time constant of the share of speech
LEAST_SHARE = 0.25  # of a stream that is silent now: it may speak at any time


class Pace:
    """A stream that is attached at ``now``, having heard ``heard_until`` samples."""

    def __init__(self, now: float, heard_until: int) -> None:
        self._heard_until = heard_until
        self._said_until = now  # when its newest sample was said
        self._asked_until = heard_until  # end of the newest pass, in samples
        self._share = 1.0  # unless it is known better, it speaks without pause

    def hear(self, now: float, heard_until: int, oldest: int) -> None:
        """The stream has heard up to ``heard_until``; ``oldest``: its first sample that was in no pass."""
        heard_s = (heard_until - self._heard_until) / SAMPLE_RATE_HZ
        self._heard_until = heard_until
        said_until = max(now, self._said_until + heard_s / FASTEST)
        self._share *= exp((self._said_until - said_until) / SPEAKING_S)
        lead_s = said_until - (heard_until - oldest) / SAMPLE_RATE_HZ - now
        self._said_until = said_until - max(0.0, lead_s - LONGEST_LEAD_S)

    def cover(self, start: int, end: int) -> float:
        """A pass over [start, end) of a segment begins; seconds of it that are in no earlier pass."""
        new_s = max(0, end - max(start, self._asked_until)) / SAMPLE_RATE_HZ
        self._asked_until = max(end, self._asked_until)
        self._share += new_s / SPEAKING_S
        return new_s

    def said_at(self, sample: int) -> float:
        """When ``sample`` was said, or will be at the pace of speech."""
        return self._said_until - (self._heard_until - sample) / SAMPLE_RATE_HZ

    def is_ahead(self, now: float, sample: int) -> bool:
        """Whether ``sample`` could not have been said yet by somebody who speaks."""
        return self.said_at(sample) > now + AHEAD_S

    def leads(self, now: float) -> bool:
        """Whether the newest sound came sooner than anybody could have said it."""
        return self._said_until > now + LEAD_S

    @property
    def share(self) -> float:
        """Of its time, how much is speech: a running mean, at least LEAST_SHARE, at most 1."""
        return min(1.0, max(LEAST_SHARE, self._share))
