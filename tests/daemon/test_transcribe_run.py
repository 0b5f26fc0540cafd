"""A recording with a scripted device on simulated time: batches, reading ahead, failures, what is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from captiond import wire
from captiond.config import Config
from captiond.transcribe.run import MOST_FAILURES, Position, transcribe
from captiond_engine.engine import Engine
from captiond_engine.errors import AudioError
from captiond_engine.types import Decoding, Float32Array, Job
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon.house import FINAL, Event, audio_of, configured, scripted_engine
from tests.sim.clock import run_jumping
from tests.sim.scripted import Script, ScriptedDevice, say

SECOND = 16_000
SCRIPT = tuple(word for n in range(12) for word in say(f"turn on{n}", at=(1 + 3 * n) * SECOND))
TEXTS = [f"turn on{n}" for n in range(12)]
PCM = audio_of(SCRIPT)


class Reading:
    """Blocks of ``pcm``, with ``each_s`` of simulated time between them; how far it was read."""

    def __init__(
        self, pcm: Float32Array, block: int = SECOND, each_s: float = 0.0, fault_at: int | None = None
    ) -> None:
        self.read = 0
        self._pcm, self._block, self._each_s, self._fault_at = pcm, block, each_s, fault_at

    async def blocks(self) -> AsyncIterator[Float32Array]:
        while self.read < len(self._pcm):
            await asyncio.sleep(self._each_s)
            if self._fault_at is not None and self.read >= self._fault_at:
                raise AudioError("clip: cannot be read to its end.")
            block = self._pcm[self.read : self.read + self._block]
            self.read += len(block)
            yield block


def configuration(batch: int = 4, **tables: Any) -> Config:
    return configured(transcribe={"batch": batch}, **tables)


async def events_of(
    reading: Reading, engine: Engine, config: Config, positions: list[Position] | None = None
) -> tuple[list[Event], AudioError | None]:
    told: list[Event] = []
    kept = [] if positions is None else positions
    try:
        await transcribe(
            "clip",
            reading.blocks(),
            config,
            engine,
            lambda event: told.append(json.loads(wire.encode(event))),
            on_position=kept.append,
        )
    except AudioError as error:
        return told, error
    return told, None


def run(
    pcm: Float32Array = PCM, script: Script = SCRIPT, batch: int = 4, block: int = SECOND, **device: Any
) -> tuple[list[Event], ScriptedDevice]:
    engine = scripted_engine(script, **device)
    told, error = run_jumping(events_of(Reading(pcm, block), engine, configuration(batch)))
    assert error is None
    assert isinstance(engine.device, ScriptedDevice)
    return told, engine.device


def texts(events: Sequence[Event]) -> list[str]:
    return [event["text"] for event in events if event["type"] == FINAL]


def plain(events: Sequence[Event]) -> list[Event]:
    """``events`` without what differs from run to run."""
    return [{key: value for key, value in e.items() if key not in ("epoch", "timings")} for e in events]


def test_the_events_are_those_of_a_stream() -> None:
    told, _ = run()
    assert [event["seq"] for event in told] == list(range(len(told)))
    assert {(event["v"], event["stream"]) for event in told} == {(1, "clip")}
    kinds = [event["type"] for event in told]
    assert kinds[:2] == ["hello", "stream.opened"]
    assert kinds[2:-1] == ["speech.started", "speech.ended", FINAL] * 12
    assert kinds[-1] == "stream.closed"
    assert texts(told) == TEXTS
    assert all(event["words"][0]["text"] == "turn" for event in told if event["type"] == FINAL)
    assert "error" not in told[-1]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(500, 60_000), st.sampled_from([0.0, 0.5, 30.0]))
def test_batches_and_blocks_leave_no_trace(batch: int, block: int, decode_s: float) -> None:
    told, device = run(batch=batch, block=block, decode_s=decode_s)
    assert plain(told) == plain(run(batch=1)[0])
    assert max(map(len, device.calls)) <= batch
    assert sum(map(len, device.calls)) == 12


def test_a_slow_device_gets_full_batches() -> None:
    _, device = run(batch=4, decode_s=1.0)
    assert [len(call) for call in device.calls] == [1, 4, 4, 3]


def test_while_the_device_works_more_is_read_but_only_for_the_next_batch() -> None:
    """Ten minutes, on a device slower than reading."""
    script = tuple(word for n in range(120) for word in say(f"word{n}", at=(1 + 5 * n) * SECOND))
    reading = Reading(np.zeros(600 * SECOND, np.float32))
    ahead: list[tuple[int, int]] = []

    class Watched(ScriptedDevice):
        async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
            before = reading.read
            answers = await super().run(jobs)
            ahead.append((reading.read - before, reading.read - jobs[0].payload.start))
            return answers

    device = Watched(script, decode_s=5.0)
    base = scripted_engine(script)
    for word in script:  # the detector is the real one: it must have something to hear
        reading._pcm[word.start : word.end] = audio_of(say("word", at=0))[: word.end - word.start]
    engine = Engine(traits=base.traits, tokenizer=device.tokenizer, device=device)
    told, error = run_jumping(events_of(reading, engine, configuration(4)))
    assert error is None
    assert len(texts(told)) == 120
    assert max(most for most, _ in ahead) > 10 * SECOND  # reading went on
    assert max(most for _, most in ahead) <= (4 + 4 + 2) * 5 * SECOND


def test_what_comes_slowly_is_told_as_it_comes() -> None:
    """A pipe at the pace of speech: no answer waits for a full batch."""
    told: list[tuple[float, Event]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def tell(event: wire.Event) -> None:
            told.append((loop.time() - began, json.loads(wire.encode(event))))

        reading = Reading(PCM, SECOND // 4, each_s=0.25)
        await transcribe("clip", reading.blocks(), configuration(4), scripted_engine(SCRIPT), tell)

    run_jumping(main())
    late = [at - event["end_ms"] / 1000 for at, event in told if event["type"] == FINAL]
    assert len(late) == 12
    assert max(late) <= 1.0


def test_positions_never_go_back_and_end_at_the_end() -> None:
    positions: list[Position] = []
    run_jumping(events_of(Reading(PCM), scripted_engine(SCRIPT, decode_s=0.1), configuration(2), positions))
    assert [p.told_ms for p in positions] == sorted(p.told_ms for p in positions)
    assert [p.heard_ms for p in positions] == sorted(p.heard_ms for p in positions)
    assert all(p.told_ms <= p.heard_ms for p in positions)
    length_ms = len(PCM) * 1000 // SECOND
    assert positions[-1] == Position(length_ms, length_ms)


def test_silence_of_any_length_says_nothing() -> None:
    told, device = run(pcm=np.zeros(0, np.float32), script=())
    assert [event["type"] for event in told] == ["hello", "stream.opened", "stream.closed"]
    told, device = run(pcm=np.zeros(60 * SECOND, np.float32), script=())
    assert [event["type"] for event in told] == ["hello", "stream.opened", "stream.closed"]
    assert device.calls == []


def test_what_was_heard_before_a_fault_is_told() -> None:
    reading = Reading(PCM, fault_at=round(8.5 * SECOND))
    told, error = run_jumping(events_of(reading, scripted_engine(SCRIPT), configuration()))
    assert str(error) == "clip: cannot be read to its end."
    assert texts(told) == TEXTS[:3]
    assert told[-1]["type"] == "stream.closed"


def test_a_batch_that_fails_is_asked_again_one_at_a_time() -> None:
    """The device may have had no room for it."""
    told, device = run(batch=4, decode_s=1.0, fail_calls={1})
    assert plain(told) == plain(run()[0])
    assert [len(call) for call in device.calls] == [1, 4, *[1] * 11]


def test_what_fails_twice_is_lost_in_its_place() -> None:
    told, _ = run(batch=1, fail_calls={3, 4})
    assert texts(told) == TEXTS[:3] + TEXTS[4:]
    (lost,) = [event for event in told if event["type"] == "audio.lost"]
    ended = [event for event in told if event["type"] == "speech.ended"]
    assert (lost["reason"], lost["end_ms"]) == ("device", ended[3]["at_ms"])
    assert [e["segment"] for e in told if e["type"] == "transcript.suppressed"] == [4]
    assert told[-1]["reason"] == "end"


@pytest.mark.parametrize("answered", [0, 5])
def test_a_device_that_is_gone_is_given_up(answered: int) -> None:
    """An hour is not read for a device that will not come back."""
    engine = scripted_engine(SCRIPT, fail_calls=lambda number: number >= answered)
    reading = Reading(PCM)
    told, _ = run_jumping(events_of(reading, engine, configuration(1)))
    assert texts(told) == TEXTS[:answered]
    assert isinstance(engine.device, ScriptedDevice)
    assert len(engine.device.calls) == answered + MOST_FAILURES
    assert (told[-1]["reason"], told[-1]["error"]) == ("error", "device_failed")
    lost = [event for event in told if event["type"] == "audio.lost"]
    spans = [(event["start_ms"], event["end_ms"]) for event in lost]
    assert spans == sorted(spans)
    assert spans[-1][1] == reading.read * 1000 // SECOND


async def test_being_cancelled_ends_it_at_once() -> None:
    engine = scripted_engine(SCRIPT, decode_s=1e6)
    told: list[wire.Event] = []
    task = asyncio.create_task(
        transcribe("clip", Reading(PCM).blocks(), configuration(), engine, told.append), name="transcribe"
    )
    while not (isinstance(engine.device, ScriptedDevice) and engine.device.calls):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    assert [type(event) for event in told] == [wire.Hello, wire.StreamOpened]


@pytest.mark.parametrize(("wish", "finals"), [("on", 2), ("off", 12), ("auto", 12)])
def test_packing_is_the_cards_choice_unless_the_configuration_says_so(wish: str, finals: int) -> None:
    config = configured(transcribe={"batch": 4, "pack": wish})
    told, _ = run_jumping(events_of(Reading(PCM), scripted_engine(SCRIPT), config))
    assert len(texts(told)) == finals
    assert " ".join(texts(told)) == " ".join(TEXTS)
