"""Messages that cannot be cut: all of their readings have one payload, and none of them is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from gateway.transaction import contents_of
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

AT = "2025-11-23T09:00:00Z"


def decode(message: object, **words: Any) -> list[Reading | Rejection]:  # noqa: ANN401  # of a route
    decoder = Decoder(compile_routes([Route(topic="{device_id}/t", **words)]), Limits())
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return decoder.decode(Delivered("d/t", payload), Received.of(NOW))


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"id": "a", "v": 1}, {"id": "a", "v": 2}], {}),
        ([{"id": "a", "v": 1}, {"id": "b", "v": 3}, {"id": "a", "v": 1.0}], {}),
        ([{"id": "a", "v": 1, "ts": AT}, {"id": "a", "v": 1}], {}),
        ([{"id": "a", "v": 1, "x": "1"}, {"id": "a", "v": 1, "x": "2"}], {"tags": ["x"]}),
        ([{"id": "a", "v": 1, "region": "n"}, {"id": "a", "v": 1, "region": "s"}], {}),
    ],
)
def test_one_identity(items: list[Any], words: dict[str, Any]) -> None:
    """Two of one key that say different things would pass for repeats: the message is refused with both."""
    message = {"items": items}
    (letter,) = decode(message, each="items[?v]", **words)
    assert isinstance(letter, Rejection)
    assert (letter.reason, letter.payload) == ("duplicate_key", json.dumps(message).encode())
    assert "'a'" in letter.error
    assert "elements 0 and" in letter.error


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"id": "a", "v": 1}, {"id": "a", "v": 1}], {}),
        ([{"id": "a", "v": 1, "ts": AT}, {"id": "a", "v": 1, "ts": AT}], {}),
        ([{"id": "a", "v": 1}, {"id": "b", "v": 2}], {}),
        ([{"v": 1}, {"v": 2}], {}),
        ([{"v": 1, "ts": AT}, {"v": 1, "ts": AT}], {}),
    ],
)
def test_no_loss(items: list[Any], words: dict[str, Any]) -> None:
    """Two that are equal are repeats indeed, and those of other keys, or of none, are all stored."""
    found = decode({"items": items}, each="items[?v]", **words)
    assert [type(each) for each in found] == [Reading] * len(items)


def telegraf(count: int) -> bytes:
    metrics = [
        {
            "fields": {"usage_idle": 97.25 + n, "usage_user": 1.5, "usage_system": 0.25},
            "name": "cpu",
            "tags": {"cpu": f"cpu-{n}", "host": "press-1", "rack": "r1"},
            "timestamp": 1795424400,
        }
        for n in range(count)
    ]
    return json.dumps({"metrics": metrics}).encode()


TELEGRAF = {
    "each": "metrics || [@]",
    "time": "timestamp",
    "name": "name",
    "value": "fields",
    "tags": ["tags"],
    "device": "",
    "key": "",
    "clock": "received",
}


def test_a_batch() -> None:
    """A thousand readings in one payload share it, and their contents are not a thousand payloads."""
    payload = telegraf(1_000)
    assert 150_000 < len(payload) < 262_144
    found = decode(payload, **TELEGRAF)
    assert len(found) == 1_000
    readings = [each for each in found if isinstance(each, Reading)]
    assert len(readings) == 1_000
    assert {id(each.raw) for each in readings} == {id(readings[0].raw)}
    assert len(contents_of(readings)) < 1_000_000


def test_contents() -> None:
    """Content is all of the bytes, also where it is a digest of them; the same in a batch and alone."""
    one, same = (decode({"items": [{"id": "a"}, {"id": "b"}]}, each="items[?id]") for _ in range(2))
    other = decode({"items": [{"id": "a"}, {"id": "b"}], "x": 1}, each="items[?id]")
    whole = decode({"id": "c"})
    contents = [[each.content for each in found if isinstance(each, Reading)] for found in (one, same, other)]
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])
    readings = [each for each in (*one, *whole) if isinstance(each, Reading)]
    assert contents_of(readings) == "\x1d".join(each.content for each in readings)


def test_a_great_many_with_keys() -> None:
    """Those that can be in conflict would be letters of all of the payload each: fewer of them are taken."""
    message = {"x": "x" * 100_000, "items": [{"id": str(n), "v": n} for n in range(1_000)]}
    (letter,) = decode(message, each="items[?id]")
    assert isinstance(letter, Rejection)
    assert letter.reason == "too_many_readings"
    assert len(decode(message, each="items[?id]", key="")) == 1_000


def test_letters_of_lines() -> None:
    """One payload of lines has one budget of letters; the last one holds the rest, which a mend reads."""
    line = json.dumps({"v": [{"ts": "never", "n": n} for n in range(12)]}).encode()
    payload = b"\n".join([line] * 40 + [b'{"v":', b'{"v": [{"n": 1}]}'])
    words: dict[str, Any] = {"format": "ndjson", "each": "v"}
    found = decode(payload, **words)
    letters = [each for each in found if isinstance(each, Rejection)]
    assert (len(letters), len(found)) == (11, 12)
    assert letters[0].error.startswith("element 0.0: ")
    assert letters[-1].reason == "many_bad_elements"
    assert letters[-1].error.startswith(
        "471 more elements of one payload: 470 invalid_time, 1 malformed_json"
    )
    again = [each for letter in letters for each in decode(letter.payload, clock="prefer", **words)]
    assert [type(each) for each in again].count(Reading) == 480
    (bad,) = [each for each in again if isinstance(each, Rejection)]
    assert bad.payload == b'{"v":'


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"v": [%s]}' % b",".join([b"1"] * 4_001), {"each": "v"}),
        (b'{"v": [%s]}' % b",".join([b"1"] * 4_001), {"each": "v[?@]"}),
        (b"[%s]" % b",".join([b'{"a":1}'] * 8_193), {"key": ""}),
        (b"\n".join([b'{"a":1}'] * 4_001), {"format": "ndjson"}),
        (b"[%s]" % b",".join([b'{"a":1}'] * 4_001), {"rename": {"a": "b"}}),
        (b"\n".join([b'{"v":[1,2]}'] * 2_001), {"format": "ndjson", "each": "v"}),
        (b"\n".join([b'{"v":[{}]}'] * 4_001), {"format": "ndjson", "each": "v", "empty": "ignore"}),
    ],
)
def test_too_many(payload: bytes, words: dict[str, Any]) -> None:
    """A payload of more readings than anyone sends is refused as a whole."""
    (letter,) = decode(payload, **words)
    assert isinstance(letter, Rejection)
    assert (letter.reason, letter.payload) == ("too_many_readings", payload)


def test_as_many_as_there_may_be() -> None:
    """Two thousand are taken whatever is made of them, of plain messages 8,000, of lines 4,000."""
    items = [b'{"a":1}']
    assert len(decode(b'{"v": [%s]}' % b",".join(items * 2_000), each="v")) == 2_000
    assert len(decode(b"[%s]" % b",".join(items * 8_000), key="")) == 8_000
    assert len(decode(b"\n".join(items * 4_000), format="ndjson", key="")) == 4_000
    assert len(decode(b"[%s]" % b",".join(items * 2_000), rename={"b": "c"})) == 2_000


@pytest.mark.parametrize("value", ["1", "[1]"])
def test_a_piece_has_the_same_bytes_in_every_process(value: str) -> None:
    """What is around a reading stands in it in one order: by its bytes a repeat is known."""
    payload = b'{"a":"1","b":"2","c":"3","d":"4","e":"5","at":%d,"list":[{"n":"x","v":%s},{"n":"x","v":%s}]}'
    words = {
        "each": "list",
        "name": "n",
        "value": "v",
        "time": "at",
        "key": "",
        "tags": ["a", "b", "c", "d", "e"],
    }
    first, _ = decode(payload % (NOW.timestamp(), value.encode(), value.encode()), **words)
    assert isinstance(first, Reading)
    around = b',"at":%d,"a":"1","b":"2","c":"3","d":"4","e":"5"}' % NOW.timestamp()
    assert first.raw == b'{"list":[{"n":"x","v":%s}]%s' % (value.encode(), around)
