"""What one check of ``captiond doctor`` found: good, doubtful or broken, in one line, and what to do.

Holds values and knows no check.
"""

from __future__ import annotations

from typing import Literal

from captiond_engine.errors import EXIT_CONFIG, EXIT_UNREACHABLE, CaptiondError
from msgspec import Struct

Status = Literal["ok", "warn", "fail"]


class Finding(Struct, frozen=True):
    """``exit_code``: what the doctor ends with if nothing worse is found; 0 but for a ``fail``."""

    check: str
    status: Status
    message: str
    advice: str = ""
    exit_code: int = 0


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def warn(check: str, message: str, advice: str = "") -> Finding:
    return Finding(check, "warn", message, advice)


def fail(check: str, message: str, advice: str = "", *, exit_code: int = EXIT_CONFIG) -> Finding:
    return Finding(check, "fail", message, advice, exit_code)


def failed(check: str, error: CaptiondError) -> Finding:
    """What ``captiond serve`` would end with."""
    return fail(check, error.message, error.advice, exit_code=error.exit_code)


def exit_code(findings: list[Finding]) -> int:
    """0 where nothing has failed, 78 for configuration or model, else 69 for what cannot be reached."""
    codes = {finding.exit_code for finding in findings if finding.status == "fail"}
    if not codes:
        return 0
    return EXIT_UNREACHABLE if codes == {EXIT_UNREACHABLE} else EXIT_CONFIG
