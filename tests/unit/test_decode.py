"""What the decoder accepts, what it makes of it, and every rejection by its reason."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

TOPIC = "devices/a1/telemetry"


def decode(payload: bytes, topic: str = TOPIC, route: Route | None = None) -> list[Reading | Rejection]:
    decoder = Decoder(compile_routes([route or Route()]), Limits())
    return decoder.decode(Delivered(topic, payload), Received.of(NOW))


def accept(payload: bytes, topic: str = TOPIC, route: Route | None = None) -> Reading:
    (item,) = decode(payload, topic, route)
    assert isinstance(item, Reading), item
    return item


def reject(payload: bytes, topic: str = TOPIC, route: Route | None = None) -> Rejection:
    (item,) = decode(payload, topic, route)
    assert isinstance(item, Rejection), item
    return item


def test_the_documented_example() -> None:
    """The message of the interface document decodes to what it says."""
    reading = accept(
        b'{"id": "a1-000017", "ts": "2026-11-23T09:00:00.250Z", "region": "north", '
        b'"temperature": 21.5, "humidity": 40.25}'
    )
    event = reading.event
    assert (event.device_id, event.region, event.key) == ("a1", "north", "a1-000017")
    assert event.ts == "2026-11-23T09:00:00.250000Z"
    assert event.received_at == "2026-11-23T09:00:00.000000Z"
    assert json.loads(bytes(event.metrics)) == {"temperature": 21.5, "humidity": 40.25}
    assert reading.keyed


@pytest.mark.parametrize("name", ["id", "message_id", "idempotency_key"])
def test_key_aliases(name: str) -> None:
    """Each name of the message key is one, and none of them becomes a metric."""
    event = accept(json.dumps({name: "k", "x": 1}).encode()).event
    assert event.key == "k"
    assert json.loads(bytes(event.metrics)) == {"x": 1}


@pytest.mark.parametrize("name", ["ts", "timestamp", "time"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-23T08:00:00Z", "2026-11-23T08:00:00.000000Z"),
        ("2026-11-23T09:30:00+02:00", "2026-11-23T07:30:00.000000Z"),
        ("2026-11-23 08:00:00.123456", "2026-11-23T08:00:00.123456Z"),
        (1763888400, "2025-11-23T09:00:00.000000Z"),
        (1763888400.25, "2025-11-23T09:00:00.250000Z"),
        (1763888400250, "2025-11-23T09:00:00.250000Z"),
        (1763888400250001, "2025-11-23T09:00:00.250001Z"),
        (1763888400250001999, "2025-11-23T09:00:00.250001Z"),
    ],
)
def test_device_times(name: str, value: str | float, expected: str) -> None:
    """ISO 8601 and epoch seconds, ms, µs and ns all become the contract's form."""
    assert accept(json.dumps({"id": "k", name: value}).encode()).event.ts == expected


def test_every_number_boolean_and_string_is_a_metric() -> None:
    """Scalars are metrics wherever they stand: nested ones by path, those of `metrics` by name."""
    event = accept(
        b'{"id":"k","a":1,"b":2.5,"c":true,"d":"on","e":null,"f":[1],"g":{"h":1},"metrics":{"i":3,"j":null}}'
    ).event
    assert json.loads(bytes(event.metrics)) == {
        "a": 1,
        "b": 2.5,
        "c": True,
        "d": "on",
        "f.0": 1,
        "g.h": 1,
        "i": 3,
    }


def test_the_largest_numbers() -> None:
    """Doubles up to ±1e300 and 64-bit integers are metrics; text that looks like a large one is only text."""
    event = accept(b'{"id":"k","a":1e300,"b":-1e300,"c":-9223372036854775808,"d":"1e301"}').event
    assert json.loads(bytes(event.metrics)) == {"a": 1e300, "b": -1e300, "c": -(2**63), "d": "1e301"}


def test_array_elements_are_judged_one_by_one() -> None:
    """A bad element of an array is rejected with its own bytes; its neighbours are read."""
    items = decode(b'[{"id":"1","x":1}, {"id":"2","ts":"never"} ,{"id":"3","x":3}]')
    first, second, third = items
    assert isinstance(first, Reading)
    assert isinstance(third, Reading)
    assert isinstance(second, Rejection)
    assert second.reason == "invalid_time"
    assert second.payload == b'{"id":"2","ts":"never"}'
    assert second.error.startswith("element 1: ")


# Whatever the date: a real gateway is sent all of it too.
REJECTED = {
    "not UTF-8": (b'{"id":"\xff"}', "not_utf8"),
    "overlong UTF-8": (b'{"id":"\xc0\x80"}', "not_utf8"),
    "a surrogate in UTF-8": (b'{"id":"\xed\xa0\x80"}', "not_utf8"),
    "a lone surrogate": (b'{"id":"\\ud800","x":1}', "malformed_json"),
    "not JSON": (b"hello", "malformed_json"),
    "a space": (b" ", "malformed_json"),
    "truncated": (b'{"id":"k","x":1', "malformed_json"),
    "trailing text": (b'{"id":"k"} x', "malformed_json"),
    "two objects": (b'{"id":"k"}{"id":"l"}', "malformed_json"),
    "NaN": (b'{"id":"k","x":NaN}', "malformed_json"),
    "Infinity": (b'{"id":"k","x":-Infinity}', "malformed_json"),
    "a string as root": (b'"text"', "wrong_root"),
    "a number as root": (b"1", "wrong_root"),
    "null as root": (b"null", "wrong_root"),
    "a number in an array": (b"[1]", "wrong_root"),
    "an empty array": (b"[]", "empty_message"),
    "an empty object": (b"{}", "empty_message"),
    "deep nesting": (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too_deep"),
    "a key twice": (b'{"id":"k","x":1,"x":2}', "duplicate_key"),
    "a key twice, one with a space": (b'{"id":"k","x":1,"x" :2}', "duplicate_key"),
    "a key twice, hidden by a colon": (b'{"id":"a:b","id":"a","x":1}', "duplicate_key"),
    "a key twice, one escaped": (b'{"id":"k","x":1,"\\u0078":2}', "duplicate_key"),
    "a key twice, deeper": (b'{"id":"k","m":{"x":1,"x":2}}', "duplicate_key"),
    "a metric twice": (b'{"id":"k","x":1,"metrics":{"x":2}}', "duplicate_key"),
    "1e400": (b'{"id":"k","x":1e400}', "number_out_of_range"),
    "1.1e300": (b'{"id":"k","x":1.1e300}', "number_out_of_range"),
    "-1.7e308 in metrics": (b'{"id":"k","s":"e30","metrics":{"x":-17e307}}', "number_out_of_range"),
    "a key of 300 digits": (b'{"id":' + b"9" * 300 + b"}", "invalid_key"),
    "NUL in a value": (b'{"id":"k","x":"a\\u0000"}', "invalid_string"),
    "NUL in the key": (b'{"id":"k\\u0000"}', "invalid_key"),
    "NUL in a name": (b'{"id":"k","x\\u0000":1}', "invalid_metric"),
    "an empty key": (b'{"id":""}', "invalid_key"),
    "a long key": (b'{"id":"' + b"k" * 257 + b'"}', "invalid_key"),
    "an object as key": (b'{"id":{}}', "invalid_key"),
    "a boolean as key": (b'{"id":true}', "invalid_key"),
    "a number as region": (b'{"id":"k","region":1}', "invalid_region"),
    "a control character in the region": (b'{"id":"k","region":"a\\n"}', "invalid_region"),
    "an empty metric name": (b'{"id":"k","":1}', "invalid_metric"),
    "a long metric name": (b'{"id":"k","' + b"m" * 129 + b'":1}', "invalid_metric"),
    "a word as time": (b'{"id":"k","ts":"yesterday"}', "invalid_time"),
    "a boolean as time": (b'{"id":"k","ts":true}', "invalid_time"),
    "an impossible date": (b'{"id":"k","ts":"2026-02-30T00:00:00Z"}', "invalid_time"),
    "the calendar's edge": (b'{"id":"k","ts":"9999-12-31T23:59:59-23:00"}', "invalid_time"),
    "a negative time": (b'{"id":"k","ts":-90000000000}', "invalid_time"),
    "a time of -1": (b'{"id":"k","ts":-1}', "invalid_time"),
    "a time beyond the calendar": (b'{"id":"k","ts":99999999999}', "time_out_of_range"),
    "nanoseconds beyond the calendar": (b'{"id":"k","ts":99999999999999999999}', "time_out_of_range"),
    "1e300 as time": (b'{"id":"k","ts":1e300}', "invalid_time"),
    "before 2000": (b'{"id":"k","ts":"1999-12-31T23:59:59Z"}', "time_out_of_range"),
    "epoch zero": (b'{"id":"k","ts":0}', "time_out_of_range"),
    "far ahead": (b'{"id":"k","ts":"2999-12-31T23:59:59Z"}', "time_out_of_range"),
    "another device": (b'{"id":"k","device_id":"b2"}', "device_mismatch"),
    "a number as device": (b'{"id":"k","device_id":1}', "device_mismatch"),
}


@pytest.mark.parametrize(("payload", "reason"), REJECTED.values(), ids=REJECTED.keys())
def test_bad_payloads(payload: bytes, reason: str) -> None:
    """Each kind of rubbish is rejected with its reason; a whole payload's bytes are kept as they came."""
    rejection = reject(payload)
    assert rejection.reason == reason
    assert rejection.error
    assert payload.endswith(rejection.payload) or rejection.payload in payload


def test_the_place_of_a_wrong_byte_is_named() -> None:
    """Bytes that are no text are told by their place in the payload."""
    assert reject(b'{"id":"k","x":"\xff"}').error == "byte 15 is not UTF-8"


def test_a_clock_may_be_ahead_by_the_limit() -> None:
    """A day ahead is taken, a millisecond more is not."""
    assert accept(b'{"id":"k","ts":"2026-11-24T09:00:00Z"}').event.ts == "2026-11-24T09:00:00.000000Z"
    assert reject(b'{"id":"k","ts":"2026-11-24T09:00:00.001Z"}').reason == "time_out_of_range"


def test_the_skew_is_named() -> None:
    """A clock that is wrong is told by how much."""
    assert "1 day, 1:00:00 ahead" in reject(b'{"id":"k","ts":"2026-11-24T10:00:00Z"}').error


def test_payload_over_the_limit() -> None:
    """A payload over the limit is rejected with both sizes, unread."""
    rejection = reject(b'{"id":"k","x":"' + b"x" * 262_144 + b'"}')
    assert rejection.reason == "payload_too_large"
    assert "262144" in rejection.error


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("somewhere/else", "no_route"),
        ("devices/a/b/telemetry", "no_route"),
        ("devices//telemetry", "invalid_device_id"),
        (f"devices/{'d' * 129}/telemetry", "invalid_device_id"),
        ("devices/a\x07/telemetry", "invalid_device_id"),
        ("devices/a+/telemetry", "invalid_device_id"),
        ("devices/a#/telemetry", "invalid_device_id"),
    ],
)
def test_bad_topics(topic: str, reason: str) -> None:
    """A topic that matches no route, or names an impossible device, is rejected."""
    assert reject(b'{"id":"k"}', topic).reason == reason


def test_device_named_by_the_payload() -> None:
    """A route without {device_id} takes it from the payload, with the same rules."""
    route = Route(topic="plant/#")
    assert accept(b'{"id":"k","device_id":"b2"}', "plant/7", route).event.device_id == "b2"
    assert accept(b'{"id":"k","device_id":"hall/b 2"}', "plant/7", route).event.device_id == "hall/b 2"
    for impossible in ("b#2", "b+", "/b", "b/", "b//2", ""):
        letter = reject(f'{{"id":"k","device_id":"{impossible}"}}'.encode(), "plant/7", route)
        assert letter.reason == "invalid_device_id"
    assert reject(b'{"id":"k"}', "plant/7", route).reason == "invalid_device_id"


def test_region_named_by_the_topic() -> None:
    """A route's {region} is the region unless the payload says another."""
    route = Route(topic="{region}/{device_id}")
    assert accept(b'{"id":"k"}', "north/a1", route).event.region == "north"
    assert accept(b'{"id":"k","region":"south"}', "north/a1", route).event.region == "south"


def test_a_message_without_key_is_known_by_time_and_content() -> None:
    """Identical repeats are one; another value, region or time is another message."""
    base = accept(b'{"ts":"2026-11-23T08:00:00Z","region":"n","x":1}')
    same = accept(b'{"ts":"2026-11-23T08:00:00Z","region":"n","x":1}')
    assert base.identity == same.identity
    assert base.content == same.content
    assert not base.keyed
    for other in (
        b'{"ts":"2026-11-23T08:00:00Z","region":"n","x":2}',
        b'{"ts":"2026-11-23T08:00:00Z","region":"m","x":1}',
        b'{"ts":"2026-11-23T08:00:01Z","region":"n","x":1}',
    ):
        assert accept(other).identity != base.identity


def test_a_message_without_key_and_time_is_always_new() -> None:
    """Nothing tells a repeat of it from a second reading, so each delivery is one of its own."""
    assert accept(b'{"x":1}').identity != accept(b'{"x":1}').identity


def test_content_covers_device_time_but_not_gateway_time() -> None:
    """Another device time is a conflict; a repeat of a message without device time is none."""
    decoder = Decoder(compile_routes([Route()]), Limits())

    def content(payload: bytes, now: datetime) -> str:
        (item,) = decoder.decode(Delivered(TOPIC, payload), Received.of(now))
        assert isinstance(item, Reading)
        return item.content

    later = NOW + timedelta(seconds=5)
    assert content(b'{"id":"k","x":1}', NOW) == content(b'{"id":"k","x":1}', later)
    stated = [content(b'{"id":"k","ts":%d,"x":1}' % ts, NOW) for ts in (1763888400, 1763888401)]
    assert stated[0] != stated[1]


def test_key_and_time_as_identity() -> None:
    """A route may say that a device's counter starts again: then its time is part of the identity."""
    route = Route(identity="key+time")
    one = accept(b'{"id":"1","ts":1763888400,"x":1}', route=route)
    two = accept(b'{"id":"1","ts":1763888401,"x":2}', route=route)
    assert one.identity != two.identity


def test_copy_text_is_escaped() -> None:
    """What COPY's text form gives a meaning arrives as itself."""
    line = accept(rb'{"id":"a\tb\\N\n","x":"c\\d\"e"}').line
    assert line.split("\t")[2] == r"a\tb\\N\n"
    assert line.split("\t")[4] == r'{"x":"c\\\\d\\"e"}'
