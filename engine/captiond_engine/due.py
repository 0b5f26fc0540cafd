"""Which pass of one stream is due, and whether the stream has to know its text before it listens on.

Takes: the segments of a stream and its listener. Gives: a pass, or a yes or no. Changes nothing.

First to last: the finals of ended segments, oldest first; in a pause, the pass that will be the final if
nobody speaks again; a partial, each time a step, and as much as one takes, has been heard.
"""

from __future__ import annotations

from collections.abc import Iterable

from captiond_engine.listener import Listener
from captiond_engine.live_segment import LiveSegment, Pass
from captiond_engine.stream_settings import StreamSettings


def due_pass(
    waiting: Iterable[LiveSegment], segment: LiveSegment | None, listener: Listener, settings: StreamSettings
) -> Pass | None:
    """Of ``waiting`` for their finals, or of the open ``segment``; None: nothing is due."""
    for ended in waiting:
        if ended.end is not None:
            return Pass(ended, ended.end, "final")
    if segment is None or not _is_audible(segment, listener, settings):
        return None
    quiet_end = listener.quiet_end
    if quiet_end is not None:
        return None if segment.asked_final == quiet_end else Pass(segment, quiet_end, "final")
    end = segment.partial_end(listener.seen, settings.partial_step, settings.longest_step)
    return Pass(segment, end, "partial") if end is not None and settings.partials else None


def waits_for_text(
    segment: LiveSegment | None, running: Pass | None, listener: Listener, settings: StreamSettings
) -> bool:
    """The pause is long enough for an end, if the text of its pass says so; and that pass will come."""
    early, quiet_end = settings.early_silence, listener.quiet_end
    if not early or quiet_end is None or listener.silence < early:
        return False
    if segment is None or not _is_audible(segment, listener, settings):
        return False
    return segment.asked_final != quiet_end or running == Pass(segment, quiet_end, "final")


def _is_audible(segment: LiveSegment, listener: Listener, settings: StreamSettings) -> bool:
    """Whether there is voice enough in the open segment for a pass."""
    return segment.continued or listener.voiced >= settings.min_speech
