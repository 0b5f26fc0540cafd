"""Who gets a seat: of each address so many connections, so many new ones a second, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from captiond.admission import (
    BURST_S,
    HALF_OPEN_S,
    LOOPBACK_FACTOR,
    REMEMBERED,
    SPARE,
    WRONG_TOKENS,
    Admission,
    Seat,
    group_of,
)
from captiond.config import LimitsConfig
from hypothesis import given
from hypothesis import strategies as st

FAR = "192.0.2.7"


@dataclass
class Visitors:
    """Connections that come, ask and leave."""

    admission: Admission
    shut: list[str] = field(default_factory=list)

    def come(self, address: str = FAR, now: float = 0.0, *, ask: bool = True) -> Seat | str:
        seat = self.admission.arrive(address, now, lambda: self.shut.append(address))
        if isinstance(seat, Seat) and ask:
            self.admission.ask(seat)
        return seat

    def fate(self, address: str = FAR, now: float = 0.0) -> str:
        """ "": let in; "later rate": its request is read; "rate": not even that."""
        seat = self.come(address, now)
        return seat if isinstance(seat, str) else f"later {seat.late}" if seat.late else ""


def admission(**limits: int) -> Visitors:
    plain = {"connections": 100, "connections_per_address": 8, "accepts_per_s": 1_000}
    return Visitors(Admission(LimitsConfig(**(plain | limits))))  # type: ignore[arg-type]


def test_beyond_its_share_an_address_is_asked_to_come_later_then_gets_no_seat() -> None:
    visitors = admission()
    seats = [visitors.come() for _ in range(8 + SPARE)]
    assert [seat.late for seat in seats if isinstance(seat, Seat)] == [""] * 8 + ["connections"] * SPARE
    assert visitors.come() == "connections"
    assert visitors.fate("192.0.2.8") == ""
    for seat in seats:
        assert isinstance(seat, Seat)
        visitors.admission.leave(seat)
        visitors.admission.leave(seat)  # twice is once
    assert visitors.admission.count == 1
    assert visitors.fate() == ""


def test_this_machine_may_have_more() -> None:
    visitors = admission()
    assert {visitors.fate("127.0.0.1") for _ in range(8 * LOOPBACK_FACTOR)} == {""}
    assert visitors.fate("::ffff:127.0.0.1") == "later connections"


def test_new_connections_come_at_a_rate_with_a_burst_for_each_address() -> None:
    visitors = admission(accepts_per_s=5, connections_per_address=1_000, connections=1_000)
    fates = [visitors.fate() for _ in range(5 * BURST_S + 5 + 3)]
    assert fates == [""] * 5 * BURST_S + ["later rate"] * 5 + ["rate"] * 3
    assert visitors.fate("192.0.2.8") == ""
    assert [visitors.fate(now=1.0) for _ in range(11)] == [""] * 5 + ["later rate"] * 5 + ["rate"]


def test_a_handshake_that_takes_its_time_gives_way_and_a_quick_one_does_not() -> None:
    visitors = admission(connections_per_address=8)  # two of them may be without a request
    slow = [visitors.come(ask=False) for _ in range(2)]
    visitors.come(now=HALF_OPEN_S / 2, ask=False)
    assert visitors.shut == []
    for _ in range(5):
        visitors.come(now=HALF_OPEN_S + 0.1, ask=False)
    assert visitors.shut == [FAR, FAR]
    assert all(isinstance(seat, Seat) for seat in slow)
    visitors.come("192.0.2.8", now=10.0, ask=False)
    assert visitors.shut == [FAR, FAR]


def test_a_full_house_makes_room_at_the_cost_of_the_oldest_that_never_asked() -> None:
    visitors = admission(connections=20, connections_per_address=12)
    visitors.come("192.0.2.1", ask=False)
    for number in range(19):
        visitors.come(f"192.0.3.{number}")
    assert visitors.fate("192.0.2.99", now=5.0) == "later connections"
    assert visitors.shut == ["192.0.2.1"]
    for number in range(200):
        visitors.come(f"192.0.4.{number}", now=5.0)
    assert visitors.admission.count == 20 + SPARE


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_a_host_counts_as_one_however_many_addresses_it_has(address: str, group: str) -> None:
    assert group_of(address) == group


def test_wrong_tokens_wait_after_some_and_cost_nobody_else() -> None:
    visitors = admission()
    waits = [visitors.admission.wrong_token(FAR, 0.0) for _ in range(WRONG_TOKENS + 2)]
    assert waits[:WRONG_TOKENS] == [0.0] * WRONG_TOKENS
    assert min(waits[WRONG_TOKENS:]) > 0
    assert visitors.admission.wrong_token("192.0.2.8", 0.0) == 0.0
    assert visitors.admission.wrong_token(FAR, 60.0) == 0.0


def test_a_million_addresses_are_not_remembered() -> None:
    visitors = admission(connections=10, connections_per_address=4)
    for number in range(3 * REMEMBERED):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        seat = visitors.come(address, now=number / 100)
        assert isinstance(seat, Seat)
        visitors.admission.leave(seat)
        visitors.admission.wrong_token(address, 0.0)
    inner = visitors.admission
    assert max(len(inner._arrivals), len(inner._refusals), len(inner._wrong)) <= REMEMBERED
    assert (len(inner._seats), len(inner._half_open), inner.count) == (0, 0, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["come", "ask", "leave"]), st.integers(0, 5), st.floats(0, 0.5)),
        max_size=80,
    )
)
def test_seats_are_never_more_than_there_are_and_all_come_back(steps: list[tuple[str, int, float]]) -> None:
    visitors = admission(connections=6, connections_per_address=4, accepts_per_s=3)
    taken: list[Seat] = []
    now = 0.0
    for what, number, passed in steps:
        now += passed
        if what == "come":
            came = visitors.come(f"192.0.2.{number % 3}", now, ask=False)
            taken += [came] if isinstance(came, Seat) else []
        elif taken:
            seat = taken[number % len(taken)]
            if what == "ask":
                visitors.admission.ask(seat)
            else:
                taken.remove(seat)
                visitors.admission.leave(seat)
        assert visitors.admission.count == len(taken) <= 6 + SPARE
    for seat in taken:
        visitors.admission.leave(seat)
    inner = visitors.admission
    assert (inner.count, inner._seats, inner._half_open) == (0, {}, {})
