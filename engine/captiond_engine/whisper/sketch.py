"""Graphs that are looked at, not compiled: for the name of a stored graph and for the weights it is fed.

To check an operation of ours, MAX precompiles its package of kernels each time that a graph is begun, which
takes seconds. A sketch leaves that out: its operations are believed. Its text is that of the real graph, but
for what kernels are told of the processor: so it is the same for all processors, which a key names apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from max.graph import KernelLibrary

_sketching: ContextVar[bool] = ContextVar("sketching", default=False)


@contextmanager
def sketching() -> Iterator[None]:
    """Graphs that are built in here cannot be compiled."""
    token = _sketching.set(True)
    try:
        yield
    finally:
        _sketching.reset(token)


def unless_sketched(value: int) -> int:
    """What a kernel is told of the processor; 0 in a sketch."""
    return 0 if _sketching.get() else value


def library(kernels: Path) -> dict[str, Any]:
    """Arguments of ``Graph`` for a folder of kernels."""
    return {"kernel_library": _Believed()} if _sketching.get() else {"custom_extensions": [kernels]}


class _Believed(KernelLibrary):  # type: ignore[misc]  # MAX is not read by mypy
    """No kernels, and no doubt."""

    def verify_custom_op(self, custom_op: object) -> None:
        return
