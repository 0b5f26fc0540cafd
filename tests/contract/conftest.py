"""Conversations are replayed under a clock that jumps; sockets stay real."""

from __future__ import annotations

import pytest

from tests.sim.clock import JumpingPolicy


@pytest.fixture(scope="session")
def event_loop_policy() -> JumpingPolicy:
    return JumpingPolicy()
