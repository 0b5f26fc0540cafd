"""What waits for the broker: finals in order and counted exactly, of states only the newest."""

from __future__ import annotations

from collections import defaultdict

import pytest
from captiond.mqtt.outbox import Outbox
from captiond.mqtt.states import LIMIT_CHANGES, StateMessage, States
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sim.clock import run_jumping


class OutboxMachine(RuleBasedStateMachine):
    """Any order of putting, sending, confirming, refusing and losing the connection."""

    @initialize(max_finals=st.integers(1, 5))
    def begin(self, max_finals: int) -> None:
        self.max_finals = max_finals
        self.told_lost = 0
        self.outbox = Outbox(max_finals, self._lose)
        self.put_count = 0
        self.arrived: dict[str, list[int]] = defaultdict(list)
        self.held: set[str] = set()
        self.sending: tuple[str, int] | None = None

    def _lose(self, count: int) -> None:
        self.told_lost += count

    @rule(topic=st.sampled_from("abc"))
    def put(self, topic: str) -> None:
        self.outbox.put(topic, str(self.put_count).encode())
        self.put_count += 1

    def _waits(self) -> bool:
        return any(final.topic not in self.held for final in self.outbox._waiting)

    @precondition(lambda self: self.sending is None and self._waits())
    @rule()
    def take(self) -> None:
        final = run_jumping(self.outbox.take())
        assert final is not None
        assert final.topic not in self.held
        self.sending = (final.topic, int(final.payload))

    @precondition(lambda self: self.sending is not None)
    @rule()
    def confirm(self) -> None:
        topic, number = self.sending
        self.arrived[topic].append(number)
        self.outbox.confirm()
        self.sending = None

    @precondition(lambda self: self.sending is not None)
    @rule()
    def refuse(self) -> None:
        self.outbox.hold()
        self.held.add(self.sending[0])
        self.sending = None

    @rule()
    def connection_lost(self) -> None:
        self.outbox.give_back()
        self.sending = None

    @rule()
    def release(self) -> None:
        self.outbox.release()
        self.held.clear()

    @invariant()
    def every_final_is_somewhere_once(self) -> None:
        outbox = self.outbox
        assert outbox.confirmed + outbox.lost + len(outbox) == self.put_count
        assert outbox.confirmed == sum(map(len, self.arrived.values()))
        assert outbox.lost == self.told_lost

    @invariant()
    def it_is_bounded_and_keeps_what_it_has_room_for(self) -> None:
        assert len(self.outbox) <= self.max_finals + 1
        if self.outbox.lost:
            assert len(self.outbox) + self.outbox.confirmed >= self.max_finals

    @invariant()
    def each_topic_arrives_in_order_and_once(self) -> None:
        for numbers in self.arrived.values():
            assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        self.outbox.finish()
        self.outbox.give_back()
        left = len(self.outbox)
        assert self.outbox.give_up() == left
        assert run_jumping(self.outbox.take()) is None


TestOutbox = OutboxMachine.TestCase


def test_the_newest_stay() -> None:
    outbox = Outbox(3)
    for number in range(10):
        outbox.put("a", b"%d" % number)
    outbox.finish()

    async def everything() -> list[bytes]:
        found = []
        while (final := await outbox.take()) is not None:
            found.append(final.payload)
            outbox.confirm()
        return found

    assert run_jumping(everything()) == [b"7", b"8", b"9"]
    assert (outbox.confirmed, outbox.lost, outbox.resent) == (3, 7, 0)


async def due(states: States) -> list[StateMessage]:
    """Everything that is due now, told and confirmed."""
    found = []
    while states._due:
        message = await states.take()
        assert message is not None
        states.confirm(message)
        found.append(message)
    return found


async def payloads(states: States) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in await due(states)]


async def test_every_change_is_told_in_order_while_the_broker_is_there() -> None:
    states = States()
    states.begin()
    for payload in (b"ON", b"OFF", b"OFF", b"ON"):
        states.show("speech", payload, retain=False)
    assert await payloads(states) == [("speech", b"ON"), ("speech", b"OFF"), ("speech", b"ON")]


async def test_only_the_newest_is_told_when_it_comes_back() -> None:
    states = States()
    states.show("status", b"online", retain=True)
    for payload in (b"ON", b"OFF", b"ON"):
        states.show("speech", payload, retain=False)
        states.partial("partial", payload, 1)
    states.begin()
    assert await payloads(states) == [("status", b"online"), ("speech", b"ON")]
    states.end()
    states.begin()
    assert await payloads(states) == [("status", b"online")], "what is retained is told on every connection"
    assert states.partials_skipped == 3


async def test_a_partial_gives_way_to_a_newer_one_and_to_its_final() -> None:
    states = States()
    states.begin()
    states.partial("a", b"1", 1)
    states.partial("a", b"2", 1)
    states.partial("b", b"3", 1)
    assert await payloads(states) == [("a", b"2"), ("b", b"3")]
    states.partial("a", b"4", 2)
    states.settle("a", 1)
    assert await payloads(states) == [("a", b"4")], "a late final of the segment before settles nothing"
    states.partial("a", b"5", 2)
    states.settle("a", 2)
    assert await payloads(states) == []
    assert states.partials_skipped == 2


async def test_changes_that_nobody_takes_are_bounded_and_end_with_the_newest() -> None:
    states = States()
    states.begin()
    for number in range(1_000):
        states.show("speech", b"%d" % number, retain=False)
    told = await payloads(states)
    assert len(told) == LIMIT_CHANGES
    assert told[-1] == ("speech", b"999")


@pytest.mark.parametrize("heard", [b"ON", b"OFF", None])
async def test_a_stream_that_has_gone_is_forgotten_once_its_last_state_is_known(heard: bytes | None) -> None:
    """``heard``: the last that the broker has heard when the connection is lost."""
    states = States()
    if heard is not None:
        states.begin()
        states.show("speech", b"ON", retain=False)
        if heard == b"OFF":
            states.show("speech", b"OFF", retain=False)
        await due(states)
        states.end()
    else:
        states.show("speech", b"ON", retain=False)
    states.show("speech", b"OFF", retain=False)
    states.forget("speech")
    states.begin()
    assert await payloads(states) == ([("speech", b"OFF")] if heard == b"ON" else [])
    assert states._states == {}


async def test_an_unconfirmed_state_is_told_again() -> None:
    states = States()
    states.begin()
    states.show("speech", b"ON", retain=False)
    await states.take()
    states.end()
    states.show("speech", b"OFF", retain=False)
    states.forget("speech")
    states.begin()
    assert await payloads(states) == [("speech", b"OFF")]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=60))
def test_whoever_listens_knows_the_newest_state_in_the_end(steps: list[tuple[str, bool, bool]]) -> None:
    async def play() -> None:
        states = States()
        known: dict[str, bytes] = {}
        newest: dict[str, bytes] = {}
        for topic, on, connected in steps:
            (states.begin if connected else states.end)()
            newest[topic] = b"ON" if on else b"OFF"
            states.show(topic, newest[topic], retain=True)
            if states._due:
                message = await states.take()
                if message is not None and connected:
                    known[message.topic] = message.payload
                    states.confirm(message)
        states.begin()
        known |= {message.topic: message.payload for message in await due(states)}
        assert known == newest

    run_jumping(play())
