"""States on their way to the broker: what it shows now, of which only the newest counts.

Takes: partials, and states of topics such as ``ON`` and ``OFF``, in the loop's thread, never waiting. Gives:
messages to the task that sends them. Partials are dropped while the broker is away; other states are told
again, as they are then, on every new connection. Knows no broker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

LIMIT_CHANGES = 16  # of one topic that wait; of more the oldest are left out
SENT = b""  # was sent and is not confirmed: nobody knows what the broker has
LIMIT_TOPICS = 4_096  # that are not retained; of more nothing is told


@dataclass(frozen=True, slots=True)
class StateMessage:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(slots=True)
class _State:
    retain: bool
    newest: bytes
    changes: deque[bytes] = field(default_factory=lambda: deque(maxlen=LIMIT_CHANGES))
    told: bytes | None = None  # what the broker has confirmed; None: it was never sent anything
    closing: bool = False  # nobody will change it any more


class States:
    """One writer, one reader. Topics are told in the order in which they changed."""

    def __init__(self) -> None:
        self.partials_skipped = 0
        self._online = False
        self._finished = False
        self._states: dict[str, _State] = {}
        self._partials: dict[str, tuple[int, StateMessage]] = {}  # by topic, with the number of the segment
        self._due: dict[str, None] = {}  # topics in order
        self._news = asyncio.Event()

    def show(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """``payload`` is the state of ``topic`` from now on."""
        state = self._states.get(topic)
        if state is None:
            if not retain and len(self._states) >= LIMIT_TOPICS:
                return
            state = self._states[topic] = _State(retain, payload)
        elif state.newest == payload and not state.closing:
            return
        state.newest, state.closing = payload, False
        if self._online:
            state.changes.append(payload)
            self._mark(topic)

    def forget(self, topic: str) -> None:
        """``topic`` will not change any more: it is kept until the broker has heard its last state."""
        state = self._states.get(topic)
        if state is not None:
            state.closing = True
            self._drop_settled(topic, state)

    def partial(self, topic: str, payload: bytes, segment: int) -> None:
        """The newest partial of a stream; the one before it is not sent any more."""
        self.partials_skipped += topic in self._partials or not self._online
        if self._online:
            self._partials[topic] = (segment, StateMessage(topic, payload, 0, False))
            self._mark(topic)

    def settle(self, topic: str, segment: int | None = None) -> None:
        """There is a final of ``segment`` (None: of all): an older partial would come too late."""
        waiting = self._partials.get(topic)
        if waiting is not None and (segment is None or waiting[0] <= segment):
            del self._partials[topic]
            self._due.pop(topic, None)
            self.partials_skipped += 1

    def refresh(self, topic: str) -> None:
        """Tell the state of ``topic`` once more."""
        state = self._states.get(topic)
        if state is not None and self._online and not state.changes:
            state.changes.append(state.newest)
            self._mark(topic)

    def begin(self) -> None:
        """A new connection: the broker may have forgotten what it was told."""
        self._online = True
        for topic, state in list(self._states.items()):
            state.changes.clear()
            if state.retain or state.newest != state.told:
                state.changes.append(state.newest)
                self._mark(topic)
            self._drop_settled(topic, state)

    def end(self) -> None:
        """The connection is lost. Partials that were not sent are of no use any more."""
        self._online = False
        self.partials_skipped += len(self._partials)
        self._partials.clear()
        self._due.clear()
        for topic, state in list(self._states.items()):
            state.changes.clear()
            self._drop_settled(topic, state)

    def finish(self) -> None:
        """Nothing more will change: ``take`` gives what is due, and then None."""
        self._finished = True
        self._news.set()

    async def take(self) -> StateMessage | None:
        """What is due next; ``confirm`` it when it has been sent. None at the end."""
        while True:
            while self._due:
                topic = next(iter(self._due))
                del self._due[topic]
                if topic in self._partials:
                    return self._partials.pop(topic)[1]
                state = self._states.get(topic)
                if state is not None and state.changes:
                    payload = state.changes.popleft()
                    state.told = SENT
                    if state.changes:
                        self._due[topic] = None
                    return StateMessage(topic, payload, 1, state.retain)
            if self._finished:
                return None
            self._news.clear()
            await self._news.wait()

    def confirm(self, message: StateMessage) -> None:
        """The broker has ``message``."""
        state = self._states.get(message.topic)
        if state is not None:
            state.told = message.payload
            self._drop_settled(message.topic, state)

    def _drop_settled(self, topic: str, state: _State) -> None:
        """Forget a closing topic of which the broker knows the last state, or knows nothing at all."""
        if state.closing and not state.changes and state.told in (None, state.newest):
            del self._states[topic]

    def _mark(self, topic: str) -> None:
        self._due.setdefault(topic)
        self._news.set()
