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

from captiond.admission import Admission, Seat
from captiond.metrics import Metrics

log = logging.getLogger(__name__)

AT_ONCE = 128  # connections looked at before the loop's other work has its turn
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
RECEIVED_BYTES = 65_536  # in the system's own buffer, which would otherwise grow to minutes of audio


class Entrance:
    """All doors of one daemon and who came in by them.

    With ``tls``, those who come too often are cut off at once: to refuse them politely would cost more.
    """

    def __init__(self, admission: Admission, metrics: Metrics, *, tls: bool = False) -> None:
        self.admission = admission
        self._metrics = metrics
        self._tls = tls
        self._seats: dict[int, Seat] = {}  # by the number of the socket, which is in use once at a time

    def admit(self, connection: SeatedSocket, address: str) -> bool:
        """Give ``connection`` a seat; False when it is to be cut off."""
        seat = self.admission.arrive(address, asyncio.get_running_loop().time(), connection.shut)
        if seat is None or (self._tls and seat.late):
            self._metrics.refused.labels(seat.late if seat else "connections").inc()
            told = {"address": address}
            log.warning("%s has too many connections, or new ones a second: cut off", address, extra=told)
            if seat is not None:
                self.admission.leave(seat)
            return False
        self._seats[connection.fileno()] = seat
        return True

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

    def shut(self) -> None:
        """End the connection; asyncio notices and closes the socket."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Door(socket.socket):
    """A listening socket of ``entrance``."""

    entrance: Entrance

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The next connection that has a seat. Raises BlockingIOError when there is none."""
        for _ in range(AT_ONCE):
            plain, address = super().accept()
            connection = SeatedSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
            if self.entrance.admit(connection, address[0]):
                connection.entrance = self.entrance
                return connection, address
            connection.close()
        raise BlockingIOError(errno.EAGAIN, "the others after the loop's other work")


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
