"""Temperatures, one after another, until a decode passes: what ``transcribe`` does with each window.

Takes windows' options and a way to decode some of them once. Gives a Decoding each, with the reason where
none passed. Has no clock: whoever calls says whether there is time for more. Reference: openai-whisper
``transcribe.py`` (``decode_with_fallback``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from captiond_engine.decoding.guards import failure, is_silence
from captiond_engine.decoding.options import NEVER, DecodingOptions, FallbackOptions, Thresholds
from captiond_engine.decoding.passes import always
from captiond_engine.types import Decoding, SuppressReason


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is tried in turn for one window, and what counts as failed."""

    attempts: tuple[DecodingOptions, ...]
    thresholds: Thresholds
    hold_back: bool

    @classmethod
    def of(cls, options: DecodingOptions | FallbackOptions) -> _Plan:
        if isinstance(options, DecodingOptions):
            return cls((options,), NEVER, hold_back=False)
        return cls(options.attempts, options.thresholds, options.hold_back)


class DecodesOnce(Protocol):
    def __call__(
        self, windows: Sequence[int], options: Sequence[DecodingOptions], may_go_on: Callable[[], bool]
    ) -> list[Decoding] | None:
        """One decode of each of these windows; None if ``may_go_on`` said no while it ran."""


def decode_with_fallback(
    decode: DecodesOnce,
    options: Sequence[DecodingOptions | FallbackOptions],
    may_go_on: Callable[[], bool] = always,
) -> list[Decoding]:
    """One decoding for each window, of its first temperature that passes, or of the last that was tried.

    The first temperature is always decoded. Another is begun only while ``may_go_on``; where it stops in the
    middle, what the last one gave stands. Windows that fail together are decoded again together.
    """
    plans = [_Plan.of(one) for one in options]
    found: dict[int, Decoding] = {}
    waiting = list(range(len(plans)))
    for attempt in range(max((len(plan.attempts) for plan in plans), default=0)):
        waiting = [window for window in waiting if attempt < len(plans[window].attempts)]
        if not waiting or (attempt and not may_go_on()):
            break
        asked = [plans[window].attempts[attempt] for window in waiting]
        decodings = decode(waiting, asked, may_go_on if attempt else always)
        if decodings is None:
            break
        for window, decoding in zip(waiting, decodings, strict=True):
            found[window] = _judged(decoding, plans[window])
        waiting = [window for window in waiting if failure(found[window], plans[window].thresholds)]
    return [found[window] for window in range(len(plans))]


def _judged(decoding: Decoding, plan: _Plan) -> Decoding:
    """``decoding`` with what is wrong with it."""
    reason = failure(decoding, plan.thresholds)
    failed = reason is not None
    if not failed and is_silence(decoding, plan.thresholds):
        reason = SuppressReason.NO_SPEECH
    return replace(decoding, failure=reason, held_back=plan.hold_back and failed)
