"""Findings of the doctor, as the tests look at them."""

from __future__ import annotations

from typing import Any

import msgspec
from captiond.config import Config
from captiond.doctor.finding import Finding


def config_of(*, source: Any = (), **tables: Any) -> Config:
    return msgspec.convert({**tables, "source": source}, Config)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def told(finding: Finding, status: str, *words: str) -> None:
    """One line that says ``words``, and what to do unless all is well."""
    assert finding.status == status, finding
    assert "\n" not in finding.message + finding.advice
    for word in words:
        assert word in finding.message + finding.advice, finding
    assert status != "fail" or finding.exit_code in (69, 78)
