"""Hub and mailboxes: numbers without holes, bounded memory, and one slow reader that harms nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from captiond import wire
from captiond.hub import Hub, Missed
from captiond.mailbox import Mailbox, SlowReaderError
from captiond.query import View
from hypothesis import given
from hypothesis import strategies as st


def hub(
    max_finals: int = 1_000, max_closed: int = 64, max_facts: int = 64, max_bytes: int = 1_048_576
) -> Hub:
    return Hub("captiond/test", "scripted", max_finals, max_closed, max_facts, max_bytes)


def final(segment: int, text: str = "words") -> wire.Final:
    return wire.Final(segment=segment, text=text, start_ms=0, end_ms=1, language="en", words=())


def partial(segment: int, revision: int) -> wire.Partial:
    return wire.Partial(
        segment=segment, revision=revision, committed="", tentative="x", start_ms=0, heard_until_ms=1
    )


async def emptied(box: Mailbox) -> list[dict[str, Any]]:
    box.finish(1000)
    told = []
    while (message := await box.get()) is not None:
        told.append(json.loads(message))
    return told


ALL, NOTHING = View(), Missed()


async def listening(hub: Hub, name: str = "a", missed: Missed = NOTHING, view: View = ALL) -> Mailbox:
    box = hub.mailbox(view)
    hub.subscribe(name, box, hub.hello(), missed)
    return box


async def test_a_newer_partial_replaces_the_older_and_a_final_settles_it() -> None:
    house = hub()
    feed = house.open("a", "test")
    box = await listening(house)
    for revision in range(1, 100):
        house.publish(feed, partial(1, revision))
    house.publish(feed, wire.SpeechEnded(segment=1, at_ms=1, reason="silence"))
    house.publish(feed, partial(1, 100))
    told = await emptied(box)
    assert [(e["type"], e["seq"]) for e in told[1:]] == [("speech.ended", 101), ("transcript.partial", 102)]
    box = await listening(house)
    house.publish(feed, partial(1, 101))
    house.publish(feed, final(1))
    assert [e["type"] for e in await emptied(box)] == ["hello", "transcript.partial", "transcript.final"]


@given(
    kinds=st.lists(st.sampled_from("pfs"), max_size=60),
    reads=st.lists(st.integers(0, 60), max_size=20),
)
async def test_numbers_only_grow_and_no_fact_is_missing(kinds: str, reads: list[int]) -> None:
    house = hub(max_facts=1_000)
    feed = house.open("a", "test")
    box = await listening(house)
    told: list[dict[str, Any]] = []
    for number, kind in enumerate(kinds):
        match kind:
            case "p":
                house.publish(feed, partial(number, 1))
            case "f":
                house.publish(feed, final(number))
            case _:
                house.publish(feed, wire.SpeechStarted(segment=number, at_ms=0))
        if number in reads and len(box):
            told.append(json.loads(await box.get() or b"{}"))
    told += await emptied(box)
    numbers = [event["seq"] for event in told[1:]]
    assert numbers == sorted(set(numbers))
    assert feed.seq == 1 + len(kinds)
    assert sum(e["type"] != "transcript.partial" for e in told[1:]) == len(kinds) - kinds.count("p")


async def test_too_many_facts_empty_the_box_and_say_so() -> None:
    house = hub(max_facts=8)
    feed = house.open("a", "test")
    slow, quick = await listening(house), await listening(house)
    for segment in range(9):
        house.publish(feed, final(segment))
        while len(quick):
            await quick.get()
    assert len(slow) == 0
    with pytest.raises(SlowReaderError):
        await slow.get()
    house.publish(feed, final(9))
    assert len(slow) == 0
    assert json.loads(await quick.get() or b"")["segment"] == 9


async def test_too_many_bytes_are_too_many() -> None:
    house = hub(max_bytes=2_000)
    feed = house.open("a", "test")
    box = await listening(house)
    for segment in range(3):
        house.publish(feed, final(segment, "w" * 800))
    with pytest.raises(SlowReaderError):
        await box.get()


async def test_history_is_what_was_asked_for_then_the_present_state() -> None:
    house = hub()
    feed = house.open("a", "test")
    for segment in range(30):
        house.publish(feed, wire.SpeechStarted(segment=segment, at_ms=0))
        house.publish(feed, final(segment))
    house.publish(feed, partial(30, 1))
    told = await emptied(await listening(house, missed=Missed(finals=20)))
    assert told[0]["type"] == "hello"
    assert told[0]["seq"] == feed.seq
    assert [e["segment"] for e in told[1:-1]] == list(range(10, 30))
    assert told[-1]["type"] == "transcript.partial"
    assert "gap" not in told[0]


async def test_history_of_all_streams_is_in_the_order_of_time() -> None:
    house = hub()
    feeds = [house.open(name, "test") for name in "ab"]
    for segment in range(4):
        for feed in feeds:
            house.publish(feed, final(segment))
    told = await emptied(await listening(house, "*", Missed(finals=3)))
    assert [(e["stream"], e["segment"]) for e in told[1:]] == [("b", 2), ("a", 3), ("b", 3)]


async def test_a_subscriber_resumes_after_its_number_or_is_told_of_a_gap() -> None:
    house = hub(max_finals=2)
    feed = house.open("a", "test")
    for segment in range(5):
        house.publish(feed, final(segment))
    resumed = await emptied(await listening(house, missed=Missed(20, feed.epoch, 5)))
    assert [e["seq"] for e in resumed[1:]] == [6]
    assert "gap" not in resumed[0]
    for missed in (Missed(20, feed.epoch, 1), Missed(20, "other", 5), Missed(20, feed.epoch, 7)):
        told = await emptied(await listening(house, missed=missed))
        assert told[0]["gap"] is True
        assert [e["segment"] for e in told[1:]] == [3, 4]
    assert (await emptied(await listening(house, "*", Missed(20, house.epoch, 3))))[0]["gap"] is True


async def test_numbers_and_segments_go_on_when_a_name_is_opened_again() -> None:
    house = hub()
    feed = house.open("a", "test")
    house.publish(feed, final(3))
    house.close(feed, "end")
    again = house.open("a", "test")
    assert again is feed
    assert (again.seq, again.last_segment) == (4, 3)


async def test_closed_names_are_forgotten_oldest_first_and_come_back_with_another_epoch() -> None:
    house = hub(max_closed=2)
    first = house.open("a", "test")
    house.close(first, "end")
    for name in "bc":
        house.close(house.open(name, "test"), "end")
    again = house.open("a", "test")
    assert again is not first
    assert again.epoch != first.epoch


async def test_a_name_that_never_spoke_is_forgotten_with_its_last_listener() -> None:
    house = hub()
    for number in range(100):
        box = await listening(house, f"name{number}")
        house.unsubscribe(f"name{number}", box)
    assert len(house._feeds) == 0


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("all", {"hello", "speech.started", "transcript.partial", "transcript.final", "stream.closed"}),
        ("final", {"hello", "transcript.final", "stream.closed"}),
        ("none", {"hello", "stream.closed"}),
    ],
)
async def test_a_view_holds_what_was_asked_for(events: Any, expected: set[str]) -> None:
    house = hub()
    feed = house.open("a", "test")
    box = await listening(house, view=View(events))
    house.publish(feed, wire.SpeechStarted(segment=1, at_ms=0))
    house.publish(feed, partial(1, 1))
    got = {json.loads(await box.get() or b"")["type"] for _ in range(len(box))}
    house.publish(feed, final(1))
    house.close(feed, "end")
    assert got | {e["type"] for e in await emptied(box)} == expected


async def test_words_and_timings_only_on_request() -> None:
    house = hub()
    feed = house.open("a", "test")
    plain, full = await listening(house), await listening(house, view=View("all", words=True, timings=True))
    timings = wire.Timings(captured_to_heard_ms=None, queued_ms=1, encode_ms=2, decode_ms=3, tokens=4)
    words = (wire.Word(text="hi", start_ms=1, end_ms=2, probability=0.5),)
    house.publish(
        feed,
        wire.Final(segment=1, text="hi", start_ms=0, end_ms=9, language="en", words=words, timings=timings),
    )
    short, long = (await emptied(plain))[-1], (await emptied(full))[-1]
    assert not {"words", "timings"} & set(short)
    assert long["words"] == [{"text": "hi", "start_ms": 1, "end_ms": 2, "probability": 0.5}]
    assert long["timings"] == {
        "captured_to_heard_ms": None, "queued_ms": 1, "encode_ms": 2, "decode_ms": 3, "tokens": 4,
    }  # fmt: skip
