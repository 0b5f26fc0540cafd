"""What waits to be written: facts of every stream in order, bounded, with the time at which each was said.

Takes: every published event, in the loop's thread, never waiting. Gives: facts to the one task that has them
written, and takes back what could not be. When full the oldest fact gives way; what is missing is counted
and told at its place by a ``LogGap``. Knows no file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from captiond import wire
from captiond.config import FileFormat
from captiond.files.facts import Fact, LogGap, Opening
from captiond.mailbox import Published

LIMIT_FACTS = 1_000  # an hour of one lively stream
BATCH_FACTS = 100  # go to the disk at once, so that news of trouble come soon
LIMIT_GAPS = 1_000  # openings whose gaps are told one by one; of more only the sum is known


@dataclass(frozen=True, slots=True)
class StreamTime:
    """What the session of a stream knows: when it was opened (seconds since 1970), and how far it is."""

    opened_at: float
    heard_until_ms: int


@dataclass(slots=True)
class _Open:
    opening: Opening
    started_at: dict[int, float] = field(default_factory=dict)  # of segments without a final yet


@dataclass(slots=True)
class _Missing:
    """What one opening's jsonl lacks. ``at``: when the first of it was said."""

    at: float
    finals: int = 0
    lines: int = 0


class FactBox:
    """The sink's box at the hub. ``time_of`` and ``epoch_of`` answer for the stream of that name."""

    def __init__(
        self,
        *,
        formats: Sequence[FileFormat],
        streams: Sequence[str],
        time_of: Callable[[str], StreamTime | None],
        epoch_of: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self.lost_finals = 0  # since ``forget_losses``
        self.finished = False
        self._formats = tuple(formats)
        self._streams = frozenset(streams)
        self._time_of = time_of
        self._epoch_of = epoch_of
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._waiting: deque[Fact] = deque()
        self._writing: list[Fact] = []
        self._gaps: dict[Opening, _Missing] = {}
        self._lost_lines = 0
        self._news = asyncio.Event()

    # --- as the hub's box ---------------------------------------------------------------------------

    def put(self, message: Published) -> None:
        """Keep what is worth a line, and remember when segments began."""
        event = message.event
        name = str(event.stream)
        if self._streams and name not in self._streams:
            return
        stream = self._open.get(name)
        if stream is None or isinstance(event, wire.StreamOpened):
            stream = self._open[name] = self._opened(name)
        match event:
            case wire.SpeechStarted(segment=segment, at_ms=at_ms):
                stream.started_at[segment] = self._said_at(stream.opening, at_ms)
            case wire.Suppressed(segment=segment):
                stream.started_at.pop(segment, None)
            case wire.Final(segment=segment, start_ms=start_ms):
                at = stream.started_at.pop(segment, None)
                self._keep(Fact(stream.opening, event, at or self._said_at(stream.opening, start_ms)))
            case wire.AudioLost(start_ms=start_ms):
                self._keep(Fact(stream.opening, event, self._said_at(stream.opening, start_ms)))
            case wire.StreamClosed():
                del self._open[name]
            case _:
                pass

    def finish(self, code: int, reason: str = "") -> None:
        """Nothing more comes; what is here is still to be written."""
        self.finished = True
        self._news.set()

    # --- for the writing task ------------------------------------------------------------------------

    async def wait(self, longest_s: float | None = None, *, for_facts: bool = True) -> None:
        """Until there are facts (if waited for), the box is finished, or ``longest_s`` have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while not (self.finished or (for_facts and self._waiting)):
                    self._news.clear()
                    await self._news.wait()

    def take(self) -> list[Fact]:
        """The next facts, with the gaps before them; ``settle`` says what became of them."""
        gaps = [_gap(opening, missing) for opening, missing in self._gaps.items()]
        self._gaps.clear()
        count = min(BATCH_FACTS, len(self._waiting))
        self._writing = [*gaps, *(self._waiting.popleft() for _ in range(count))]
        return self._writing

    def alive(self) -> set[Opening]:
        """Openings of which something may still have to be written."""
        return {
            *(stream.opening for stream in self._open.values()),
            *(fact.opening for fact in (*self._waiting, *self._writing)),
            *self._gaps,
        }

    def settle(self, written: int) -> None:
        """The first ``written`` of the facts taken are done with; the others come back to their place."""
        left, self._writing = self._writing[written:], []
        for fact in reversed(left):
            if isinstance(fact.event, LogGap):
                self._miss(fact, finals=fact.event.lost_finals, lines=fact.event.lost_lines)
            else:
                self._waiting.appendleft(fact)
        self._make_room()

    def forget_losses(self) -> int:
        """How many finals were lost until now; counting begins anew."""
        lost, self.lost_finals = self.lost_finals, 0
        return lost

    def newly_lost_lines(self) -> int:
        """How many lines were lost since this was last asked."""
        lost, self._lost_lines = self._lost_lines, 0
        return lost

    def give_up(self) -> None:
        """What still waits will not be written: count it as lost."""
        self.settle(0)
        while self._waiting:
            self._lose(self._waiting.popleft())

    def __len__(self) -> int:
        return len(self._waiting) + len(self._writing)

    # --- inside ---------------------------------------------------------------------------------------

    def _opened(self, name: str) -> _Open:
        time = self._time_of(name)
        return _Open(Opening(name, self._epoch_of(name), time.opened_at if time else self._clock()))

    def _said_at(self, opening: Opening, at_ms: int) -> float:
        """When stream time ``at_ms`` was heard, from how long ago it lies now.

        Right for live audio, also where the speaker sends nothing for a while. Audio that is faster than
        time was heard at most then; it was not heard before its stream was opened.
        """
        now, time = self._clock(), self._time_of(opening.stream)
        ago_ms = max(0, time.heard_until_ms - at_ms) if time else 0
        return max(opening.opened_at, now - ago_ms / 1000)

    def _keep(self, fact: Fact) -> None:
        self._waiting.append(fact)
        self._make_room()
        self._news.set()

    def _make_room(self) -> None:
        while len(self._waiting) > LIMIT_FACTS:
            self._lose(self._waiting.popleft())

    def _lose(self, fact: Fact) -> None:
        final = isinstance(fact.event, wire.Final)
        left = self._formats[fact.written :]
        self.lost_finals += final
        self._lost_lines += len(left)
        if "jsonl" in left:
            self._miss(fact, finals=int(final), lines=1)

    def _miss(self, fact: Fact, *, finals: int, lines: int) -> None:
        if fact.opening not in self._gaps and len(self._gaps) >= LIMIT_GAPS:
            return
        missing = self._gaps.setdefault(fact.opening, _Missing(fact.at))
        missing.at = min(missing.at, fact.at)
        missing.finals += finals
        missing.lines += lines


def _gap(opening: Opening, missing: _Missing) -> Fact:
    gap = LogGap(stream=opening.stream, lost_finals=missing.finals, lost_lines=missing.lines)
    return Fact(opening, gap, missing.at)
