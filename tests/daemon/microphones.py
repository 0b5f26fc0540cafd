"""A real daemon whose microphones hear a world of fake devices, and what is said into them.

Takes: devices and sources. Gives: the running daemon, and what ``/readyz`` says of its sources.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from captiond.capture.portaudio import PortAudio

from tests.daemon.fake_sounddevice import FakeSounddevice
from tests.daemon.house import Event, House, audio_of, configured, house
from tests.sim.scripted import Script, say

TURN_ON = say("turn on the lights")
# Two words each three seconds, for five minutes.
TALK = tuple(word for i in range(100) for word in say(f"a{i} b{i}", at=(3 * i + 1) * 16_000))
LONG_TALK = audio_of(TALK)
DESK: dict[str, Any] = {"kind": "microphone", "name": "desk"}


@asynccontextmanager
async def hearing(
    world: FakeSounddevice,
    script: Script = TURN_ON,
    *sources: dict[str, Any],
    portaudio: PortAudio | None = None,
    tables: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    """A daemon with ``sources``, or with one microphone; ``more`` as for ``house``."""
    shared = portaudio or PortAudio(lambda: world)
    config = configured(source=list(sources) or [DESK], **(tables or {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captiond.sources.microphone.the_portaudio", lambda: shared)
        async with house(script, config=config, **more) as home:
            while home.app.context is None:  # noqa: ASYNC110 (loading has no event outside)
                await asyncio.sleep(0)  # the clock may stand still, as a device may hang already
            yield home


async def reasons(home: House) -> list[str]:
    return list((await home.get("/readyz")).json()["reasons"])


async def until_trouble(home: House, word: str) -> str:
    while True:
        for reason in await reasons(home):
            if word in reason:
                return reason
        await asyncio.sleep(0.05)


def check_times(finals: Sequence[Event], script: Script) -> None:
    """What is captioned lies where it was said, whatever was lost before it; a word may be half heard."""
    places = {word.text: (word.start + word.end) // 32 for word in script}  # middles, in ms
    assert finals
    for final in finals:
        assert all(final["start_ms"] <= places[text] <= final["end_ms"] for text in final["text"].split())
