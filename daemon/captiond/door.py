"""The listening sockets: who is let in is asked at ``accept``, before TLS or HTTP cost anything.

Takes: addresses to bind, and connections to them. Gives: those connections that have a seat, each of which is
given back when its socket is closed. asyncio accepts and closes through these methods alone, so that no way
of ending a connection is missed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress

from websockets.asyncio.server import ServerConnection

from captiond.admission import LATE, Admission, Seat
from captiond.metrics import Metrics

log = logging.getLogger(__name__)

AT_ONCE = 32  # connections let in before the loop's other work has its turn
LOOKED_AT = 256  # and looked at
COMPLAIN_EVERY_S = 10.0
LATER = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\n"
    b"There are too many connections.\n"
)
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
RECEIVED_BYTES = 65_536  # in the system's own buffer, which would otherwise grow to minutes of audio


class Entrance:
    """All doors of one daemon and who came in by them.

    Who gets no seat is told so in a few bytes; not at all with ``tls``, where that would take a handshake.
    """

    def __init__(self, admission: Admission, metrics: Metrics, *, tls: bool = False) -> None:
        self.admission = admission
        self._metrics = metrics
        self._tls = tls
        self._seats: dict[int, Seat] = {}  # by the number of the socket, which is in use once at a time
        self._refused = 0
        self._complained_at = float("-inf")

    def admit(self, connection: SeatedSocket, address: str) -> bool:
        """Give ``connection`` a seat; False when it has got none and can be closed."""
        now = asyncio.get_running_loop().time()
        seat = self.admission.arrive(address, now, connection.shut)
        if isinstance(seat, Seat) and self._tls and seat.late:
            self.admission.leave(seat)
            seat = seat.late
        late = seat if isinstance(seat, str) else seat.late
        if late:
            self._complain(address, late, now)
        if isinstance(seat, str):
            self._metrics.refused.labels(seat).inc()
            if not self._tls:
                connection.say(LATER)
            return False
        self._seats[connection.fileno()] = seat
        return True

    def _complain(self, address: str, late: str, now: float) -> None:
        """One line now and then: whoever storms the port must not fill the log."""
        self._refused += 1
        if now - self._complained_at >= COMPLAIN_EVERY_S:
            text = "%d connections were asked to come later, the last from %s, by %s"
            log.warning(text, self._refused, address, LATE[late], extra={"address": address})
            self._refused, self._complained_at = 0, now

    def leave(self, connection: SeatedSocket) -> None:
        """``connection`` is about to be closed."""
        seat = self._seats.pop(connection.fileno(), None)
        if seat is not None:
            self.admission.leave(seat)
            if not seat.asked:
                self._metrics.refused.labels("handshake").inc()

    def seat_of(self, connection: ServerConnection) -> Seat | None:
        """The seat of a connection that is open."""
        accepted = connection.transport.get_extra_info("socket")
        return self._seats.get(accepted.fileno()) if accepted is not None else None


class SeatedSocket(socket.socket):
    """An accepted connection that gives its seat back when it is closed."""

    entrance: Entrance | None = None

    def close(self) -> None:
        entrance, self.entrance = self.entrance, None
        if entrance is not None:
            entrance.leave(self)
        super().close()

    def say(self, answer: bytes) -> None:
        """Send a few bytes to somebody whose request is not read, as far as that goes without waiting."""
        with suppress(OSError):
            self.send(answer, socket.MSG_DONTWAIT)
            self.shutdown(socket.SHUT_WR)
            self.recv(RECEIVED_BYTES, socket.MSG_DONTWAIT)  # what is left unread would reset the connection

    def shut(self) -> None:
        """End the connection; asyncio notices and closes the socket."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Door(socket.socket):
    """A listening socket of ``entrance``."""

    entrance: Entrance
    _let_in = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The next connection that has a seat. Raises BlockingIOError when there is none for now."""
        if not self._let_in:
            asyncio.get_running_loop().call_soon(self._next_turn)
        for _ in range(LOOKED_AT if self._let_in < AT_ONCE else 0):
            plain, address = super().accept()
            connection = SeatedSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
            if self.entrance.admit(connection, address[0]):
                connection.entrance = self.entrance
                self._let_in += 1
                return connection, address
            connection.close()
        raise BlockingIOError(errno.EAGAIN, "the others after the loop's other work")

    def _next_turn(self) -> None:
        self._let_in = 0


async def open_doors(host: str, port: int, entrance: Entrance) -> list[Door]:
    """A door at each address of ``host``, all with the same port. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    doors: list[Door] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = doors[0].getsockname()[1] if doors else port
            try:
                bound = socket.create_server((address[0], chosen, *address[2:]), family=family)
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                absent = error  # such as IPv6, which a machine may know by name only
                continue
            bound.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES
            )  # inherited by what it accepts
            door = Door(fileno=bound.detach())
            door.entrance = entrance
            doors.append(door)
        if absent and not doors:
            raise absent
    except OSError:
        for door in doors:
            door.close()
        raise
    return doors
