"""A broker for a test, and a daemon that knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from captiond.mqtt.delivery import Pace
from captiond.sinks import mqtt

from tests.mqtt.broker import PROGRAM, Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Anonymous, and running."""
    if PROGRAM is None:
        pytest.skip("needs a broker: apt-get install mosquitto")
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of seconds as tenths of them; the order in which things happen stays the same."""
    pace = Pace(shortest_s=0.1, longest_s=0.4, stable_s=5.0, settle_s=2.0, refused_s=0.5)
    monkeypatch.setattr(mqtt, "PACE", pace)
