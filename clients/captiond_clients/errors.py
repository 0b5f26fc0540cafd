"""What can go wrong for a client, with a stable code and an exit status (protocol.md, command line)."""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_UNREACHABLE = 69  # sysexits.h EX_UNAVAILABLE


class ClientError(Exception):
    """An error that a person is meant to read.

    ``code``: stable, lower case with underscores; that of the server's ``error`` event where there was one.
    ``advice``: what to do next, one sentence or empty. ``retry_in_s``: when it is tried again, where it is.
    """

    exit_code = 1
    retry_in_s: float | None = None

    def __init__(self, code: str, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class UnreachableError(ClientError):
    """No daemon answered, or it went away and did not come back in time."""

    exit_code = EXIT_UNREACHABLE

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__("unreachable", message, advice=advice)


class RefusedError(ClientError):
    """The daemon answered and does not want this: wrong parameters, no permission, wrong data."""

    exit_code = EXIT_USAGE


class AudioError(ClientError):
    """Audio that cannot be read."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__("audio_invalid", message, advice=advice)


class ProtocolError(ClientError):
    """The other side does not speak protocol version 1."""

    def __init__(self, message: str) -> None:
        super().__init__("protocol", message, advice="Is this the address of a captiond daemon?")
