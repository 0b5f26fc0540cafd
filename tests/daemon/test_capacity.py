"""Admission by measured capacity: who is let in, who is to come later, and what it does for those inside.

The device is scripted and takes its time; the clock jumps. Sockets are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
from captiond.load import Load
from captiond.messages import ClientError
from captiond.sessions import Wishes
from captiond_engine.types import Job
from websockets.exceptions import InvalidStatus

from tests.daemon.house import FINAL, UPGRADE, Client, House, audio_of, configured, house
from tests.daemon.test_metrics import scrape
from tests.sim.crowd import conversation, percentile
from tests.sim.scripted import Script, say

MOST = 10
SCRIPTS: dict[int, Script] = {slot: conversation(4, at=16_000 + slot * 3_000) for slot in range(MOST)}
Cost = Callable[[Sequence[Job]], float]


def cost(fixed_s: float, per_job_s: float) -> Cost:
    return lambda jobs: fixed_s + per_job_s * len(jobs)


def probe_of(seconds: float) -> Callable[[], object]:
    return lambda: asyncio.sleep(seconds)


@dataclass
class Crowd:
    """Speakers that came one after another, and what those were told who were not let in."""

    inside: list[Client] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)

    async def come(self, home: House, stack: contextlib.AsyncExitStack) -> bool:
        """One more; False when it was refused, before or after the upgrade."""
        try:
            client = await stack.enter_async_context(home.speaker("timings=1"))
        except InvalidStatus as refused:
            response = refused.response
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            self.refused.append(json.loads(response.body or b""))
            return False
        while not client.events and client.code is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if client.events[0]["type"] == "error":
            assert await client.closed() == 1013
            self.refused.append({"reason": client.events[0]["code"], "message": client.events[0]["message"]})
            return False
        self.inside.append(client)
        return True


@asynccontextmanager
async def speaking(crowd: Crowd) -> AsyncIterator[None]:
    """All inside speak at once, each its own script, to the end."""
    async with asyncio.TaskGroup() as tasks:
        for slot, client in enumerate(crowd.inside):
            tasks.create_task(client.speak(audio_of(SCRIPTS[slot])), name=f"speaker {slot}")
        yield
    for client in crowd.inside:
        await client.until(FINAL, 4)


def finals_of(crowd: Crowd) -> list[float]:
    """Milliseconds from the endpoint to the final, of all."""
    return [e["timings"]["endpoint_to_final_ms"] for client in crowd.inside for e in client.all(FINAL)]


def load(needed: float, newcomer: float, streams: int, limit: float = 0.8, seats: int = 10) -> Load:
    return Load(needed, newcomer, streams, limit, seats)


def test_how_many_more_fit() -> None:
    assert load(0.0, 0.2, 0).more == 4
    assert load(0.45, 0.2, 3).more == 1
    assert load(0.65, 0.2, 4).more == 0
    assert load(0.1, 0.2, 1, seats=2).more == 2
    assert load(0.9, 0.2, 5, limit=0).more == 10, "no limit"
    assert load(0.0, 0.0, 5).more == 10, "nothing is known"
    assert load(0.0, 3.0, 0).more == 1, "who is alone slows nobody's captions"
    told = load(0.83, 0.2, 5).refusal
    assert told is not None
    assert told.startswith("The device is 83% busy with 5 streams; one more would slow their captions.")
    assert load(0.83, 0.2, 5, seats=0).refusal is None, "the streams themselves are taken"
    assert load(0.3, 0.2, 5).refusal is None


async def test_those_inside_keep_their_pace_and_the_rest_is_told_why_to_come_later() -> None:
    config = configured(segment={"partial_step_ms": 500})  # more often, and batches are fuller and cheaper
    async with (
        house(SCRIPTS, config=config, cost_s=cost(0.1, 0.05)) as home,
        home.speaker("events=none") as first,
        contextlib.AsyncExitStack() as stack,
    ):
        await first.speak(audio_of(SCRIPTS[0]))  # the device is measured
        await first.say(type="end")
        await first.closed()
        crowd = Crowd()
        for _ in range(MOST):
            await crowd.come(home, stack)
        assert 2 <= len(crowd.inside) < MOST
        assert crowd.refused
        async with speaking(crowd):
            await asyncio.sleep(5)
            told = (await home.get("/readyz")).json()["load"]
            assert told["streams"] == len(crowd.inside)
            assert told["share"] == pytest.approx(told["limit"], abs=told["speaker"])
            seen = await scrape(home)
            assert seen["load_ratio"] == pytest.approx(told["share"], abs=0.01)
            assert seen["free_streams"] == told["more"]
            streams = (await home.get("/v1/streams")).json()
            assert sum(stream["load"] for stream in streams) == pytest.approx(told["share"], abs=0.02)
        assert (await scrape(home))["requests_refused_total", "capacity"] == len(crowd.refused)
    for refused in crowd.refused:
        assert refused["reason"] == "capacity"
        assert "% busy with" in refused["message"]
    assert percentile(finals_of(crowd), 0.95) <= 300
    gaps = [
        later["heard_until_ms"] - earlier["heard_until_ms"]
        for client in crowd.inside
        for earlier, later in pairwise(client.all("transcript.partial"))
        if earlier["segment"] == later["segment"]
    ]
    assert percentile(gaps, 0.95) <= 1_500
    assert not any(client.all("lag") or client.all("audio.lost") for client in crowd.inside)


async def test_without_the_limit_all_are_let_in_and_finals_stay_while_partials_get_rare() -> None:
    config = configured(limits={"load": 0, "lag_warn_ms": 1_500})
    async with (
        house(SCRIPTS, config=config, cost_s=cost(0.2, 0.1)) as home,
        contextlib.AsyncExitStack() as stack,
    ):
        crowd = Crowd()
        for _ in range(MOST):
            assert await crowd.come(home, stack)
        async with speaking(crowd):
            await asyncio.sleep(8)
            assert (await home.get("/readyz")).json()["load"]["share"] > 1.5
        for slot, client in enumerate(crowd.inside):
            assert " ".join(client.texts()).split() == [word.text for word in SCRIPTS[slot]]
            assert not client.all("audio.lost")
        assert any(client.all("lag") for client in crowd.inside)
        assert max(finals_of(crowd)) < 5_000
        few = sum(len(client.all("transcript.partial")) for client in crowd.inside) / len(crowd.inside)
    async with house(SCRIPTS, cost_s=cost(0.2, 0.1)) as home, contextlib.AsyncExitStack() as stack:
        alone = Crowd()
        await alone.come(home, stack)
        async with speaking(alone):
            pass
        assert few < len(alone.inside[0].all("transcript.partial")) / 2


async def test_a_burst_right_after_the_start_is_counted_before_it_is_measured() -> None:
    async with house(SCRIPTS, on_probe=probe_of(0.01)) as home, contextlib.AsyncExitStack() as stack:
        crowd = Crowd()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(MOST):
                tasks.create_task(crowd.come(home, stack))
        assert 1 <= len(crowd.inside) <= 4
        assert len(crowd.inside) + len(crowd.refused) == MOST
        assert {refused["reason"] for refused in crowd.refused} == {"capacity"}
        async with speaking(crowd):
            await asyncio.sleep(8)  # this device costs nothing, as was measured meanwhile
            assert await crowd.come(home, stack)
            crowd.inside.pop()


async def test_what_was_let_in_at_the_door_may_be_refused_at_the_seat() -> None:
    async with house(SCRIPTS, on_probe=probe_of(0.1)) as home:
        assert home.app.context is not None
        sessions = home.app.context.sessions
        assert sessions.refusal(None) is None
        first = await sessions.open("a", "websocket", Wishes(), object(), guest=True)
        with pytest.raises(ClientError, match=r"\d+% busy with 1 stream;") as refused:
            await sessions.open("b", "websocket", Wishes(), object(), guest=True)
        assert refused.value.code == "capacity"
        first.end("end")


async def test_configured_sources_are_never_refused_and_count(tmp_path: Path) -> None:
    script = say("turn on the lights")
    soundfile.write(tmp_path / "lobby.wav", audio_of(script, after_s=20), 16_000)
    sources = [{"name": name, "path": str(tmp_path / "lobby.wav")} for name in ("lobby", "hall", "yard")]
    async with house(script, config=configured(source=sources), on_probe=probe_of(0.1)) as home:
        await home.ready()
        names = {stream["name"] for stream in (await home.get("/v1/streams")).json()}
        assert names == {"lobby", "hall", "yard"}
        answer = await home.get("/v1/speak", **UPGRADE)
        assert (answer.status, answer.json()["reason"]) == (503, "capacity")
        assert "3 streams" in answer.json()["message"]
        assert (await home.get("/v1/captions", **UPGRADE)).status != 503, "to listen costs the device nothing"


async def test_who_lost_its_connection_comes_back_however_full_it_is() -> None:
    async with house(SCRIPTS, on_probe=probe_of(0.1)) as home:
        async with home.speaker("stream=a") as first:
            token = (await first.until("hello"))["resume"]
            first.socket.transport.abort()
            await first.closed()
        async with home.speaker("stream=b") as second:
            await second.until("hello")
            assert (await home.get("/v1/speak", **UPGRADE)).status == 503
            async with home.speaker(f"resume={token}") as again:
                assert (await again.until("hello"))["stream"] == "a"
                assert (await home.get("/readyz")).json()["load"]["streams"] == 2


async def test_who_opens_its_name_anew_takes_its_own_place() -> None:
    async with house(SCRIPTS, on_probe=probe_of(0.1)) as home, home.speaker("stream=b") as other:
        await other.until("hello")
        assert home.app.context is not None
        await home.app.context.sessions.open("a", "file", Wishes(), owner := object())
        (ours,) = [s for s in home.app.context.sessions.present() if s.name == "a"]
        assert (await home.get("/v1/speak?stream=a", **UPGRADE)).status == 503
        ours.lose(owner, orderly=False)
        assert (await home.get("/v1/speak", **UPGRADE)).status == 503
        async with home.speaker("stream=a") as anew:
            assert (await anew.until("hello"))["stream"] == "a"


async def test_who_is_silent_makes_room() -> None:
    """Four have come, and none of them says a word for minutes."""
    config = configured(limits={"max_streams": 6, "idle_ms": 0})
    async with (
        house(SCRIPTS, config=config, on_probe=probe_of(0.0075)) as home,
        contextlib.AsyncExitStack() as stack,
    ):
        crowd = Crowd()
        for _ in range(6):
            await crowd.come(home, stack)
        assert len(crowd.inside) == 4
        await asyncio.sleep(180)
        assert (await home.get("/readyz")).json()["load"]["more"] == 2
        assert await crowd.come(home, stack)
