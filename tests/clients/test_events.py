"""Events from the wire: known ones typed, unknown ones kept, nonsense refused."""

from __future__ import annotations

import pytest
from captiond_clients.errors import ProtocolError
from captiond_clients.events import Final, OtherEvent, parse


def test_unknown_types_and_fields_are_kept_in_the_wire() -> None:
    message = '{"v":1,"type":"speaker.changed","stream":"s","seq":4,"who":2}'
    event = parse(message)
    assert isinstance(event, OtherEvent)
    assert (event.type, event.stream, event.seq, event.wire) == ("speaker.changed", "s", 4, message)
    more = '{"type":"transcript.final","segment":1,"text":"a","start_ms":0,"end_ms":1,"mood":"good"}'
    assert isinstance(parse(more), Final)


@pytest.mark.parametrize("message", ["", "[]", "hello", '{"type":"transcript.final","text":3}'])
def test_what_is_no_event_is_a_protocol_error(message: str) -> None:
    with pytest.raises(ProtocolError):
        parse(message)
