"""Many strangers at the port: storms, half-open handshakes, guessed tokens, headers without end.

The clock jumps, so that what is said about seconds is said about simulated ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from captiond.admission import HALF_OPEN_S, LOOPBACK_FACTOR, SPARE, WRONG_TOKENS, Seat
from captiond_engine.engine import Engine

from tests.daemon.house import FINAL, UPGRADE, House, audio_of, configured, house
from tests.sim.scripted import ScriptedDevice, say, scripted_traits

SCRIPT = (*say("one two three"), *say("four five six", at=16_000 * 4))
TOKEN = "a-token-of-sixteen-characters"


async def answers(home: House, path: str, number: int, **headers: str) -> Counter[int]:
    """The statuses of ``number`` requests at once; 0: no answer."""

    async def ask() -> int:
        try:
            host, _, port = home.netloc.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            wanted: Mapping[str, str] = {"Host": home.netloc, **UPGRADE, **headers}
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in wanted.items()]
            writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
            status = await reader.readline()
            writer.transport.abort()
            return int(status.split()[1]) if status else 0
        except ConnectionError:
            return 0

    return Counter(await asyncio.gather(*(ask() for _ in range(number))))


@asynccontextmanager
async def half_open(home: House, number: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that begin a request and never end it."""
    host, _, port = home.netloc.rpartition(":")
    pairs = [await asyncio.open_connection(host, int(port)) for _ in range(number)]
    for _, writer in pairs:
        writer.write(b"GET /v1/captions HTTP/1.1\r\nHost: x\r\n")
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.transport.abort()


async def settled(home: House, count: int) -> None:
    """Wait until the daemon has no more than ``count`` connections."""
    while home.app.admission.count > count:  # noqa: ASYNC110 (it is looked at from outside)
        await asyncio.sleep(0.01)


async def test_a_storm_is_asked_to_come_later_and_harms_nobody_inside() -> None:
    device = ScriptedDevice(SCRIPT)
    config = configured(limits={"accepts_per_s": 20})
    async with house(engine=engine_of(device), config=config) as home, home.speaker() as speaker:
        await speaker.until("hello")
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(speaker.speak(audio_of(SCRIPT)), name="speaking")
            seen: Counter[int] = Counter()
            for _ in range(6):
                seen += await answers(home, "/v1/captions", 100)
            await speaking
        await speaker.until(FINAL, 2)
        assert speaker.texts() == ["one two three", "four five six"]
        assert seen[503] > 200
        assert seen[101] > 0
        assert set(seen) <= {101, 503, 0}
        assert (await home.get("/healthz")).status == 200
        await settled(home, 2)


async def test_nothing_is_computed_for_those_who_are_not_let_in() -> None:
    device = ScriptedDevice(())
    config = configured(limits={"accepts_per_s": 1, "max_streams": 1})
    async with house(engine=engine_of(device), config=config) as home:
        await answers(home, "/v1/speak", 200)
        assert device.calls == []
        late = await answers(home, "/v1/speak", 5)
        assert late[503] == 5
        assert home.app.context is not None
        assert len(home.app.context.sessions.present()) <= 1


def engine_of(device: ScriptedDevice) -> Engine:
    return Engine(traits=scripted_traits(), tokenizer=device.tokenizer, device=device)


async def test_a_word_about_other_addresses_is_not_believed() -> None:
    config = configured(limits={"accepts_per_s": 1})
    async with house(config=config) as home:
        seen: Counter[int] = Counter()
        for number in range(60):
            forged = f"192.0.2.{number}"
            seen += await answers(home, "/", 1, X_Forwarded_For=forged, Forwarded=f"for={forged}")
        assert seen[503] > 20


async def test_probes_are_answered_to_those_who_come_too_often_and_refusals_are_counted() -> None:
    async with house() as home:
        arrive = home.app.admission.arrive

        def too_often(*arrival: Any) -> Seat | str:
            seat = arrive(*arrival)
            assert isinstance(seat, Seat)
            seat.late = "rate"
            return seat

        home.app.admission.arrive = too_often  # type: ignore[method-assign]
        for path in ("/healthz", "/readyz"):
            assert (await home.get(path)).status == 200
        refused = await home.get("/")
        assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
        assert b"limits.accepts_per_s" in refused.body
        assert home.app.metrics.refused.labels("rate")._value.get() == 1


async def test_an_address_holds_so_many_connections_and_no_more() -> None:
    config = configured(limits={"connections_per_address": 2, "accepts_per_s": 1_000})
    most = 2 * LOOPBACK_FACTOR
    async with house(config=config) as home, contextlib.AsyncExitStack() as stack:
        for _ in range(most):
            viewer = await stack.enter_async_context(home.viewer())
            await viewer.until("hello")
        refused = await home.get("/v1/captions", **UPGRADE)
        assert refused.status == 503
        assert b"limits.connections_per_address" in refused.body
        async with half_open(home, SPARE + 20):
            assert (await answers(home, "/", 5))[503] == 5  # said without reading what they want
            assert home.app.admission.count <= most + SPARE
        await settled(home, most)
        await stack.aclose()
        await settled(home, 0)
        assert (await home.get("/")).status == 200


async def test_handshakes_that_take_their_time_give_way_to_those_who_say_what_they_want() -> None:
    config = configured(limits={"connections_per_address": 16, "handshake_ms": 60_000})
    async with house(config=config) as home, half_open(home, 60) as waiting:
        await asyncio.sleep(HALF_OPEN_S + 0.5)
        for _ in range(20):
            async with home.viewer() as viewer:
                await viewer.until("hello")
        ended = [reader for reader in waiting if reader.at_eof()]
        assert len(ended) >= 15
        assert home.app.admission.count <= 60


async def test_who_shows_wrong_tokens_waits_and_who_shows_a_right_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    config = configured(server={"tokens_file": str(tmp_path / "tokens")})
    async with house(config=config) as home:
        loop = asyncio.get_running_loop()
        wrong, right = {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {TOKEN}"}
        for _ in range(WRONG_TOKENS):
            assert (await home.get("/v1/streams", **wrong)).status == 401
        began = loop.time()
        guess = asyncio.ensure_future(home.get("/v1/streams", **wrong))
        await asyncio.sleep(0)
        assert (await home.get("/v1/streams", **right)).status == 200
        assert (await guess).status == 401
        assert loop.time() - began >= 0.9
        missing = await home.get("/v1/streams")
        assert missing.status == 401
        refused = home.app.metrics.refused
        assert refused.labels("token_wrong")._value.get() == WRONG_TOKENS + 1
        assert refused.labels("token_missing")._value.get() == 1


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(500)) + "\r\n", 431),
        ("GET / HTTP/1.1\r\nX: " + "y" * 20_000 + "\r\n\r\n", 431),
        ("GET /" + "y" * 20_000 + " HTTP/1.1\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", None),
        ("\x16\x03\x01\x02\x00\x01", None),
        ("GET / HTTP/1.1\r\n\0\x1b[31m: y\r\n\r\n", None),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ("\r\n" * 5_000, None),
    ],
)
async def test_a_request_that_is_none_ends_with_its_connection(request_text: str, status: int | None) -> None:
    async with house(config=configured(limits={"handshake_ms": 2_000})) as home:
        host, _, port = home.netloc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_text.encode("latin-1"))
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.readline()
        assert answer[9:12].decode() == (str(status) if status else "")
        writer.close()
        await settled(home, 0)
        assert home.app.metrics.refused.labels("handshake")._value.get() == 1
        assert (await home.get("/healthz")).status == 200


async def test_the_memory_of_a_stream_is_free_as_soon_as_it_is_closed() -> None:
    """Not only when cycles are looked for: a storm of speakers leaves many, with room for a minute each."""
    async with house(SCRIPT, config=configured(limits={"resume_ms": 0})) as home:
        assert home.app.context is not None
        gc.collect()
        gc.disable()
        try:
            async with home.speaker("stream=a") as speaker:
                await speaker.speak(audio_of(SCRIPT), pace=None)
                await speaker.until(FINAL)
                (session,) = home.app.context.sessions.present()
                gone = weakref.ref(session)
                del session
            await settled(home, 0)
            for _ in range(100):  # the last tasks of the conversation end now
                await asyncio.sleep(0.01)
            assert gone() is None
        finally:
            gc.enable()
