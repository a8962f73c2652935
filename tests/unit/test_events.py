"""The form of events: what readers of version 1 hold on to."""

from __future__ import annotations

import msgspec
import pytest

from contract.events import Event, RawEvent, decode_events, encode_events, unwrap
from contract.order import check_times

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


def test_what_a_message_says_of_being_online() -> None:
    """An event has these fields when it says something, and since when if that changed something."""
    quiet, repeat, will = (
        RawEvent("a1", None, TS, TS, "k", msgspec.Raw(b"{}"), None, online, since)
        for online, since in ((None, None), (True, None), (False, TS))
    )
    assert b"online" not in encode_events([quiet])
    assert b"online_since" not in encode_events([repeat])
    read = decode_events(encode_events([quiet, repeat, will]))
    assert [(each.online, each.online_since) for each in read] == [(None, None), (True, None), (False, TS)]


def test_times_are_looked_at_once() -> None:
    """Since when a device is online is a time of its row like any other."""
    check_times([Event("a1", None, TS, TS, "k", {}, online=True, online_since=TS)])
    with pytest.raises(ValueError, match="a time is not in the form"):
        check_times([Event("a1", None, TS, TS, "k", {}, online=True, online_since="12:04")])


@pytest.mark.parametrize(
    ("metric", "extra"),
    [
        ("9" * 400, ""),
        ("-" + "9" * 400, ""),
        ("9223372036854775808", ""),
        ("-9223372036854775809", ""),
        ("1" + "0" * 5000, ""),
        ("1e999", ""),
        ("NaN", ""),
        ("1", ',"later":' + "[" * 100_000 + "]" * 100_000),
    ],
)
def test_a_row_that_no_gateway_writes_is_refused(metric: str, extra: str) -> None:
    """A number that no reader could count with, and what is nested without end, are errors like any other."""
    start = f'[{{"device_id":"a1","region":null,"ts":"{TS}","received_at":"{TS}","key":"k","metrics":{{"x":'
    payload = f"{start}{metric}}}{extra}}}]"
    with pytest.raises(ValueError, match=r"\w"):
        decode_events(payload.encode())
    head = f'{{"v":1,"stream":0,"n":1,"epoch":"e","created_at":"{TS}","events":'
    with pytest.raises(ValueError, match=r"\w"):
        unwrap(f"{head}{payload}}}".encode())


def test_numbers_that_a_gateway_writes() -> None:
    """Integers of 64 bits, and doubles of any size, are read as what they are."""
    numbers = {"a": 2**63 - 1, "b": -(2**63), "c": 1e300, "d": 1.8446744073709552e19, "e": True}
    payload = encode_events([RawEvent("a1", None, TS, TS, "k", msgspec.Raw(msgspec.json.encode(numbers)))])
    read = decode_events(payload)[0].metrics
    assert read == numbers
    assert [type(each) for each in read.values()] == [int, int, float, float, bool]
