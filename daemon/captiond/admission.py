"""How much one address may ask of the port: connections, new ones a second, handshakes begun, wrong tokens.

Takes: addresses and the loop's time. Gives: for each connection a seat, a seat whose request is answered with
"later", or no seat. Knows no socket and no clock. An address is what TCP says; what a header such as
X-Forwarded-For says is anybody's word and is not looked at. Memory is bounded by the seats and by
``REMEMBERED`` addresses.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from captiond.config import LimitsConfig

LOOPBACK_FACTOR = 4  # this machine's programs, a reverse proxy among them, share one address
BURST_S = 4  # seconds' worth of new connections that may come at once, as when a page is loaded
SPARE = 32  # connections beyond a limit whose request is still read; further ones get no seat
ODD = 192  # connections for pages, probes and goodbyes, beside those of streams and subscribers
HALF_OPEN_SHARE = 4  # of an address's connections, one in so many may be without a request
HALF_OPEN_S = 1.0  # a request that takes longer than this may have to give way
WRONG_TOKENS = 10  # of one address that are answered at once; one more each second
WRONG_TOKEN_WAIT_S = 1.0
REMEMBERED = 4_096


# Why somebody is to come later, and the keys of the configuration that say so.
LATE = {"connections": "limits.connections_per_address or limits.connections", "rate": "limits.accepts_per_s"}


@dataclass(slots=True, eq=False)
class Seat:
    """One connection's. ``late``: the limit by which it is to come later, a key of LATE, or ""."""

    address: str
    since: float
    shut: Callable[[], None]  # called when the connection has to give way
    late: str = ""
    asked: bool = False  # it has said what it wants


class Bucket:
    """Tokens that come back at ``rate`` a second, up to ``size``."""

    __slots__ = ("_at", "_level")

    def __init__(self, size: float, now: float) -> None:
        self._level, self._at = size, now

    def take(self, size: float, rate: float, now: float) -> bool:
        """Take a token; False when there is none."""
        self._level = min(size, self._level + (now - self._at) * rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Admission:
    """The seats of one port. ``limits`` may be replaced while it is open."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self._seats: dict[str, set[Seat]] = {}
        self._half_open: dict[str, OrderedDict[Seat, None]] = {}
        self._count = 0
        self._arrivals: OrderedDict[str, Bucket] = OrderedDict()
        self._refusals: OrderedDict[str, Bucket] = OrderedDict()
        self._wrong: OrderedDict[str, Bucket] = OrderedDict()

    @property
    def count(self) -> int:
        """Connections that are open, in all."""
        return self._count

    @property
    def most(self) -> int:
        """Connections that may be open, in all."""
        limits = self.limits
        return limits.connections or limits.max_streams + limits.max_subscribers + ODD

    def arrive(self, address: str, now: float, shut: Callable[[], None]) -> Seat | str:
        """A seat for a new connection, or a key of LATE: the limit by which it gets none."""
        key = group_of(address)
        factor = LOOPBACK_FACTOR if is_local(key) else 1
        most_here = self.limits.connections_per_address * factor
        here = len(self._seats.get(key, ()))
        self._make_room(key, most_here // HALF_OPEN_SHARE, now)
        if here >= most_here + SPARE or self._count >= self.most + SPARE:
            return "connections"
        seat = Seat(key, now, shut)
        rate = self.limits.accepts_per_s * factor
        if not self._take(self._arrivals, key, rate * BURST_S, rate, now):
            # To read a request costs as much as to serve a page: that, too, has its rate.
            if not self._take(self._refusals, key, rate, rate, now):
                return "rate"
            seat.late = "rate"
        elif here >= most_here or self._count >= self.most:
            seat.late = "connections"
        self._seats.setdefault(key, set()).add(seat)
        self._half_open.setdefault(key, OrderedDict())[seat] = None
        self._count += 1
        return seat

    def ask(self, seat: Seat) -> None:
        """The connection has said what it wants."""
        seat.asked = True
        self._settle(seat)

    def _settle(self, seat: Seat) -> None:
        """``seat`` is no longer one that may have to give way."""
        waiting = self._half_open.get(seat.address)
        if waiting is not None:
            waiting.pop(seat, None)
            if not waiting:
                del self._half_open[seat.address]

    def leave(self, seat: Seat) -> None:
        """The connection is closed."""
        self._settle(seat)
        here = self._seats.get(seat.address, set())
        if seat in here:
            here.discard(seat)
            self._count -= 1
            if not here:
                del self._seats[seat.address]

    def wrong_token(self, address: str, now: float) -> float:
        """Seconds to wait before a wrong token is answered. A right one never waits."""
        accepted_at_once = self._take(self._wrong, group_of(address), WRONG_TOKENS, 1.0, now)
        return 0.0 if accepted_at_once else WRONG_TOKEN_WAIT_S

    def _make_room(self, key: str, most: int, now: float) -> None:
        """The oldest connection that has not said what it wants gives way, where there are too many."""
        here = self._half_open.get(key, OrderedDict())
        crowded = self._count >= self.most
        if len(here) < max(1, most) and not crowded:
            return
        oldest = next(iter(here), None)
        if crowded and oldest is None:
            oldest = min((next(iter(each)) for each in self._half_open.values()), key=_since, default=None)
        if oldest is not None and now - oldest.since >= HALF_OPEN_S:
            self._settle(oldest)
            oldest.shut()

    @staticmethod
    def _take(buckets: OrderedDict[str, Bucket], key: str, size: float, rate: float, now: float) -> bool:
        bucket = buckets.pop(key, None) or Bucket(size, now)
        buckets[key] = bucket  # the most recently seen is the last to be forgotten
        if len(buckets) > REMEMBERED:
            buckets.popitem(last=False)
        return bucket.take(size, rate, now)


def _since(seat: Seat) -> float:
    return seat.since


def group_of(address: str) -> str:
    """Whom an address counts as: IPv4 as it is, also inside IPv6; of IPv6 its /64, which one host may own."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        if not ip.is_loopback:
            return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def is_local(group: str) -> bool:
    """Whether a group of addresses is this machine."""
    try:
        return ipaddress.ip_address(group).is_loopback
    except ValueError:
        return False
