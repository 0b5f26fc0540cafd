"""``/metrics``: the numbers are those of the conversation, and the names those of the trade."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from captiond.metrics import Metrics
from captiond_engine.engine import Engine
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.daemon.house import FINAL, House, audio_of, configured, house
from tests.daemon.test_conversation import Doubtful
from tests.sim.scripted import say, scripted_traits

SCRIPT = (*say("good morning to all of you"), *say("and good night", at=16_000 * 5))
BASE_UNITS = ("seconds", "bytes", "info", "ratio")
# Counts of things have no unit; these are their names.
THINGS = (
    "ready", "streams", "subscribers", "connections", "connected", "messages", "parts", "fds", "loaded",
)  # fmt: skip
WRONG_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|kb|mb|kilobytes|percent|milli\w+)(_|$)")


class Scrape:
    """One answer of ``/metrics``."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families
        self.samples = {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}

    def __getitem__(self, key: str | tuple[str, ...]) -> float:
        """``"name"`` or ``("name", "a label's value")`` of captiond's own."""
        name, *labels = (key,) if isinstance(key, str) else key
        return self.samples[f"captiond_{name}", *labels]


async def scrape(home: House, **headers: str) -> Scrape:
    answer = await home.get("/metrics", **headers)
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    return Scrape(list(parse_text(answer.body.decode())))


async def test_the_numbers_are_those_of_the_conversation() -> None:
    async with house(SCRIPT, encode_s=0.125, decode_s=0.125) as home, home.viewer() as viewer:
        before = await scrape(home)
        assert (before["streams", "websocket"], before["finals_total"], before["subscribers"]) == (0, 0, 1)
        async with home.speaker("stream=a&timings=1") as speaker:
            pcm = audio_of(SCRIPT)
            await speaker.speak(pcm)
            await speaker.until(FINAL, 2)
            during = await scrape(home)
            assert (during["streams", "websocket"], during["subscribers"]) == (1, 2)
            assert during["audio_heard_seconds_total"] == pytest.approx(len(pcm) / 16_000)
            await speaker.say(type="end")
            await speaker.until("stream.closed")
        await viewer.until("stream.closed")
        after = await scrape(home)
    told = viewer.events
    counts = {kind: len(viewer.all(kind)) for kind in {event["type"] for event in told}}
    published = during["partials_total"]  # a viewer may be spared some of these
    assert published >= counts["transcript.partial"] > 2
    assert after["streams", "websocket"] == 0
    assert after["streams_opened_total", "websocket"] == after["streams_closed_total", "end"] == 1
    assert after["finals_total"] == counts[FINAL] == 2
    assert after["segments_ended_total", "silence"] == 2
    assert after["audio_heard_seconds_total"] == pytest.approx(len(pcm) / 16_000)
    assert after["first_partial_seconds_count"] == 2
    assert after["finalization_seconds_count"] == 2
    assert after["queue_seconds_count", "final"] == after["decode_seconds_count", "final"] == 2
    assert after["queue_seconds_count", "partial"] == published
    passes = after["device_passes_total", "final"] + after["device_passes_total", "partial"]
    assert passes == after["device_batches_total"] >= published
    assert after["device_busy_seconds_total"] == pytest.approx(0.25 * passes)
    assert after["behind_seconds"] == after["device_failures_total"] == after["slow_readers_total"] == 0
    assert (after["websockets_closed_total", "1000"], after["ready"]) == (1, 1)


async def test_times_are_those_of_the_timings() -> None:
    async with house(SCRIPT, encode_s=0.125, decode_s=0.125) as home, home.speaker("timings=1") as speaker:
        await speaker.speak(audio_of(SCRIPT))
        await speaker.until(FINAL, 2)
        seen = await scrape(home)
        finals = [event["timings"]["endpoint_to_final_ms"] for event in speaker.all(FINAL)]
        assert seen["finalization_seconds_sum"] == pytest.approx(sum(finals) / 1000)
        queued = [event["timings"]["queued_ms"] for event in speaker.all(FINAL)]
        assert seen["queue_seconds_sum", "final"] == pytest.approx(sum(queued) / 1000)


async def test_loss_silence_and_failures_are_counted_by_reason() -> None:
    async with house(SCRIPT, fail_calls=range(100)) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(SCRIPT))
        await speaker.say(type="end")
        await speaker.until("stream.closed")
        seen = await scrape(home)
        lost = [event["end_ms"] - event["start_ms"] for event in speaker.all("audio.lost")]
        assert lost
        assert seen["audio_lost_seconds_total", "device"] == pytest.approx(sum(lost) / 1000)
        assert seen["device_failures_total"] > 0
        assert (seen["finals_total"], seen["device_batches_total"]) == (0, 0)
    device = Doubtful(SCRIPT)
    engine = Engine(traits=scripted_traits(), tokenizer=device.tokenizer, device=device)
    async with house(engine=engine) as home, home.speaker() as speaker:
        await speaker.speak(audio_of(SCRIPT))
        told = await speaker.until("transcript.suppressed", 2)
        assert (await scrape(home))["segments_suppressed_total", told["reason"]] == 2


async def test_ready_is_what_readyz_says() -> None:
    async with house(config=configured(server={"hosts": ["here.example"]})) as home:
        home.app.readiness.block("device", "It is away.")
        assert (await scrape(home, Host="here.example"))["ready"] == 0
        home.app.readiness.clear("device")
        home.app.readiness.degrade("mqtt", "The broker is away.")
        assert (await scrape(home))["degraded_parts"] == 1
        assert (await scrape(home))["ready"] == 1


async def test_openmetrics_for_those_who_ask() -> None:
    async with house() as home:
        answer = await home.get(
            "/metrics", Accept="application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=0.1"
        )
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        names = {family.name for family in parse_openmetrics(answer.body.decode())}
        assert {"captiond_ready", "captiond_finals", "captiond_build"} <= names
        for accept in (
            "application/openmetrics-text; version=\udcff".encode("utf-8", "ignore").decode(),
            "a/b;;=,,",
        ):
            assert (await home.get("/metrics", Accept=accept)).status == 200


async def test_what_strangers_say_is_in_no_label() -> None:
    async with house(SCRIPT) as home:
        await home.get("/nothing-of-this-name")
        async with home.speaker("stream=secret-meeting") as speaker:
            await speaker.speak(audio_of(SCRIPT))
            await speaker.until(FINAL)
            await speaker.socket.close(4_242, "peculiar")
        seen = await home.get("/metrics")
        for text in (b"secret-meeting", b"nothing-of", b"4242", b"peculiar", b"morning"):
            assert text not in seen.body
        assert (await scrape(home))["websockets_closed_total", "other"] == 1


def everything() -> Iterator[Metric]:
    """All families, those of parts that are rarely there among them."""
    metrics = Metrics()
    metrics.stalled(0.3)
    for part in (metrics.mqtt_connected, metrics.mqtt_outbox, metrics.mqtt_lost, metrics.files_lost):
        assert part is not None
    return iter(metrics.registry.collect())


async def test_names_are_as_promtool_wants_them() -> None:
    async with house() as home:
        families = [*everything(), *home.app.metrics.registry.collect()]
    for family in families:
        name = family.name
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name), name
        assert family.documentation, name
        assert not WRONG_UNITS.search(name), name
        assert name.startswith(("captiond_", "process_", "python_")), name
        if not name.startswith("captiond_"):
            continue
        assert family.documentation.endswith("."), name
        if family.type == "counter":
            assert not name.endswith("_total"), name  # the library adds it
        elif family.type == "histogram":
            assert name.endswith("_seconds"), name
        elif family.type == "gauge":
            assert name.endswith((*BASE_UNITS, *THINGS)), name
            assert not name.endswith(("_total", "_count", "_sum")), name
        else:
            assert family.type == "info", name
        for sample in family.samples:
            assert all(len(value) < 64 for value in sample.labels.values()), name


async def test_a_stall_of_the_loop_is_told_with_the_longest() -> None:
    metrics = Metrics()
    for late_s in (0.01, 2.0, 0.2):
        metrics.stalled(late_s)
    seen = Scrape(list(parse_text(metrics.exposition()[1].decode())))
    assert seen["event_loop_stall_seconds_count"] == 3
    assert seen["event_loop_longest_stall_seconds"] == 2.0
