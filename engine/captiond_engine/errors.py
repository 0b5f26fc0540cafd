"""Errors with a stable code: what went wrong, where, and what to do about it.

``code`` is part of the wire (``error.code``) and of the exit status, so it never changes once released.
"""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_UNREACHABLE = 69
EXIT_CONFIG = 78  # configuration or model (sysexits.h EX_CONFIG)


class CaptiondError(Exception):
    """Base of every error that a person is meant to read.

    ``code``: stable, lower case with underscores. ``advice``: what to do next, one sentence or empty.
    """

    code = "internal"
    exit_code = 1

    def __init__(self, message: str, *, advice: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class ModelError(CaptiondError):
    """A model is missing, corrupt, incomplete or of an architecture we do not run."""

    code = "model_invalid"
    exit_code = EXIT_CONFIG


class ModelNotFoundError(ModelError):
    code = "model_not_found"


class HubUnreachableError(ModelError):
    code = "hub_unreachable"


class ConfigError(CaptiondError):
    """A configuration file, environment variable or --set that cannot be used."""

    code = "config_invalid"
    exit_code = EXIT_CONFIG


class PortInUseError(ConfigError):
    code = "port_in_use"


class OptionsError(CaptiondError):
    """Decoding options that cannot be, alone or together."""

    code = "decoding_options_invalid"
    exit_code = EXIT_USAGE


class AudioError(CaptiondError):
    """Audio that cannot be decoded, or a format that is not spoken here."""

    code = "audio_invalid"
    exit_code = EXIT_USAGE


class DeviceError(CaptiondError):
    """The compute device failed or cannot do what was asked."""

    code = "device_failed"
    exit_code = EXIT_CONFIG


class UnreachableError(CaptiondError):
    """A daemon, broker or hub did not answer."""

    code = "unreachable"
    exit_code = EXIT_UNREACHABLE
