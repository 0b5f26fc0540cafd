"""Every golden conversation is replayed against a daemon with a scripted device, over real websockets.

After a change that is meant: ``python -m tests.contract.record``, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conversation import Step, play, read

FILES = {
    path.stem: read(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).parent.glob("*.jsonl"))
}


@pytest.mark.parametrize("name", FILES)
async def test_the_daemon_says_exactly_this(name: str) -> None:
    assert await play(FILES[name]) == FILES[name]


def test_every_event_of_the_wire_is_in_a_conversation() -> None:
    told = {message["type"] for steps in FILES.values() for message in messages(steps)}
    assert told == {
        "hello", "stream.opened", "stream.closed", "speech.started", "speech.ended", "transcript.partial",
        "transcript.final", "transcript.suppressed", "audio.lost", "lag", "flushed", "configured", "error",
    }  # fmt: skip


def messages(steps: list[Step]) -> list[Step]:
    return [step["message"] for step in steps if "to" in step and "message" in step]
