"""The form of events: what readers of version 1 hold on to."""

from __future__ import annotations

import msgspec

from contract.events import RawEvent, decode_events, encode_events

TS = "2026-11-23T09:00:00.000000Z"


def test_an_event_without_tags_has_no_such_field() -> None:
    """Rows of the outbox keep their bytes where a template names nothing else, and read as None."""
    payload = encode_events([RawEvent("a1", None, TS, TS, "k", msgspec.Raw(b'{"x":1}'))])
    assert b"tags" not in payload
    assert decode_events(payload)[0].tags is None


def test_tags_travel_with_the_event() -> None:
    """What a template names is what the read side gets."""
    raw = RawEvent("a1", None, TS, TS, "k", msgspec.Raw(b'{"x":1}'), {"line": "7"})
    assert decode_events(encode_events([raw]))[0].tags == {"line": "7"}
