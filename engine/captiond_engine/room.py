"""How much one stream can be pushed: back-pressure for who can wait.

Takes: what the stream holds, and what is still needed of it. Gives: samples. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from captiond_engine.listener import Listener
from captiond_engine.live_segment import LiveSegment
from captiond_engine.stream_settings import StreamSettings
from captiond_engine.types import samples_from_ms

WATCHED = samples_from_ms(1_000)  # audio before a segment's onset that must not be overwritten
MOST_HELD = samples_from_ms(3_000)  # of audio that is not listened to while a text is waited for


def room_left(
    listener: Listener, waiting: Iterable[LiveSegment], segment: LiveSegment | None, settings: StreamSettings
) -> int:
    """Samples until undecoded speech is overwritten, or a text no longer waited for.

    ``waiting`` for their finals, and the open ``segment``.
    """
    needed = [listener.seen - settings.pre_roll - WATCHED]
    needed += [s.needs_from for s in waiting if s.needs_from is not None]
    if segment is not None:
        needed += [] if segment.needs_from is None else [segment.needs_from]
        if settings.early_silence:  # what is held may cut it back, so that it is read anew
            needed.append(segment.start)
    room = listener.ring.capacity - (listener.heard_until - min(needed))
    if settings.early_silence:
        room = min(room, MOST_HELD - listener.unseen)
    return max(0, room)
