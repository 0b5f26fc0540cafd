"""What a service tells systemd: ready, what it does, that it lives (sd_notify(3), sd_watchdog_enabled(3)).

Takes: sentences, from any thread. Gives: datagrams to ``$NOTIFY_SOCKET``; without one, nothing. A service
manager that does not listen costs a moment and a line in the log. Knows nothing of captiond.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

SEND_S = 1.0  # a service manager that is slower than this misses a message
STATUS_LETTERS = 240  # of a sentence that `systemctl status` shows in one line


class Notifier:
    """``address``: a path, an abstract name that begins with @, or "" for nobody.

    ``watchdog_s``: how often systemd wants to hear ``watchdog`` at least; None: it does not ask.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s if address else None
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """As systemd has set it for this process. A watchdog that is meant for another one is left alone."""
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        asked = ours and usec.isdecimal() and int(usec) > 0
        return cls(environment.get("NOTIFY_SOCKET", ""), int(usec) / 1e6 if asked else None)

    def ready(self) -> None:
        """The start, or a reload, is finished."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Everything that has to answer has answered."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """The start goes on and may take so much longer from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows; told when it is another one than before."""
        line = " ".join(sentence.split())
        line = line if len(line) <= STATUS_LETTERS else line[: STATUS_LETTERS - 1] + "…"
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_S)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("systemd does not take %s (%s)", assignments[0], error.strerror or error)
