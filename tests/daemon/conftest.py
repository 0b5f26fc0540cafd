"""All tests of the daemon run under a clock that jumps; sockets stay real."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.clock import JumpingLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], JumpingLoop]]:
    return {"jumping": JumpingLoop}
