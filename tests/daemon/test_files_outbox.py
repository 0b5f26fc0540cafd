"""What waits to be written: in its place, with its time, counted where it must give way."""

from __future__ import annotations

from typing import Any

import pytest
from captiond import wire
from captiond.files import outbox
from captiond.files.facts import LogGap
from captiond.files.outbox import FactBox, StreamTime
from captiond.mailbox import Published


class Studio:
    """A box with a clock and a stream of our own."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.heard_until_ms = 0
        self.box = FactBox(
            formats=("jsonl", "txt"),
            streams=(),
            time_of=lambda name: StreamTime(900.0, self.heard_until_ms),
            epoch_of=lambda name: "e1",
            clock=lambda: self.now,
        )

    def tell(self, event: wire.Event, stream: str = "hall") -> None:
        self.box.put(Published(type(event)(**{**_fields(event), "stream": stream, "seq": 1})))

    def final(self, text: str, segment: int = 1, start_ms: int = 0) -> None:
        self.tell(
            wire.Final(segment=segment, text=text, start_ms=start_ms, end_ms=start_ms + 9, language=None)
        )


def _fields(event: wire.Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_a_final_bears_the_time_at_which_its_segment_began_not_that_at_which_it_came() -> None:
    studio = Studio()
    studio.heard_until_ms = 60_300  # the speaker was silent for 40 s without sending anything
    studio.tell(wire.SpeechStarted(segment=1, at_ms=60_000))
    studio.now += 20
    studio.final("hello", start_ms=60_000)
    (fact,) = studio.box.take()
    assert fact.at == pytest.approx(999.7)
    studio.heard_until_ms = 500_000  # read ahead, faster than time: not before the stream was opened
    studio.final("fast", segment=2, start_ms=61_000)
    studio.box.settle(1)
    assert studio.box.take()[0].at == 900.0


def test_gaps_stand_before_what_came_after_them_and_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LIMIT_FACTS", 3)
    studio = Studio()
    for number in range(3):
        studio.final(str(number), number)
    taken = studio.box.take()
    taken[0].written = 1  # it stands in the jsonl, and only in the text it is missing
    for number in range(3, 5):
        studio.final(str(number), number)
    studio.box.settle(0)
    assert [fact.event.text for fact in studio.box.take() if isinstance(fact.event, wire.Final)] == [
        "2",
        "3",
        "4",
    ]
    studio.box.settle(0)
    gap, *rest = studio.box.take()
    assert isinstance(gap.event, LogGap)
    assert (gap.event.lost_finals, gap.event.lost_lines) == (1, 1)
    assert studio.box.forget_losses() == 2
    assert studio.box.newly_lost_lines() == 3
    studio.box.settle(1)
    assert studio.box.take() == rest, "a gap that was told is not told again"


def test_nothing_is_kept_of_a_stream_that_was_closed_and_written() -> None:
    studio = Studio()
    studio.tell(wire.StreamOpened(source="websocket"))
    studio.final("hello")
    studio.tell(wire.StreamClosed(reason="end"))
    assert len(studio.box.alive()) == 1
    studio.box.settle(len(studio.box.take()))
    assert studio.box.alive() == set()


def test_audio_that_was_lost_is_a_fact_with_its_time_and_a_partial_is_none() -> None:
    studio = Studio()
    studio.heard_until_ms = 5_000
    studio.tell(wire.AudioLost(start_ms=2_000, end_ms=3_000, reason="gap"))
    studio.tell(
        wire.Partial(segment=1, revision=1, committed="a", tentative="", start_ms=0, heard_until_ms=9)
    )
    studio.tell(wire.Suppressed(segment=1, reason="no_speech"))
    (fact,) = studio.box.take()
    assert isinstance(fact.event, wire.AudioLost)
    assert fact.at == pytest.approx(997.0)
