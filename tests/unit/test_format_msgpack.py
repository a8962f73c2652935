"""MessagePack payloads: each format of the specification at its borders, refusals, how lists are cut."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.fields import NoNumber
from gateway.decode.formats import format_of
from gateway.decode.limits import MAX_DEPTH
from runtime.errors import Reject
from runtime.settings import Route

FORM = format_of(Route(topic="a/{device_id}", format="msgpack"), "route[0]")

pack = msgspec.msgpack.encode


def members(count: int) -> bytes:
    return b"".join(b"\xcd" + struct.pack(">H", n) + b"\xc0" for n in range(count))


FORMATS: list[tuple[str, bytes, Any]] = [
    ("nil", b"\xc0", None),
    ("false", b"\xc2", False),
    ("true", b"\xc3", True),
    ("positive fixint", b"\x00", 0),
    ("positive fixint, last", b"\x7f", 127),
    ("negative fixint", b"\xff", -1),
    ("negative fixint, last", b"\xe0", -32),
    ("uint 8", b"\xcc\xff", 255),
    ("uint 8, longer than need be", b"\xcc\x01", 1),
    ("uint 16", b"\xcd\xff\xff", 65535),
    ("uint 32", b"\xce\xff\xff\xff\xff", 2**32 - 1),
    ("uint 64", b"\xcf" + b"\xff" * 8, 2**64 - 1),
    ("int 8", b"\xd0\x80", -128),
    ("int 16", b"\xd1\x80\x00", -(2**15)),
    ("int 32", b"\xd2\x80\x00\x00\x00", -(2**31)),
    ("int 64", b"\xd3\x80" + bytes(7), -(2**63)),
    ("float 32", b"\xca\x41\xac\x00\x00", 21.5),
    ("float 32, of a decimal", b"\xca" + struct.pack(">f", 21.3), 21.3),
    ("float 64", b"\xcb" + struct.pack(">d", 1.1), 1.1),
    ("fixstr, empty", b"\xa0", ""),
    ("fixstr, last", b"\xbf" + b"a" * 31, "a" * 31),
    ("str 8", b"\xd9\x20" + b"a" * 32, "a" * 32),
    ("str 8, last", b"\xd9\xff" + b"a" * 255, "a" * 255),
    ("str 16", b"\xda\x01\x00" + b"a" * 256, "a" * 256),
    ("str 16, last", b"\xda\xff\xff" + b"a" * 65535, "a" * 65535),
    ("str 32", b"\xdb\x00\x01\x00\x00" + b"a" * 65536, "a" * 65536),
    ("bin 8, empty", b"\xc4\x00", ""),
    ("bin 8", b"\xc4\x02\xff\xfe", "__4"),
    ("bin 16", b"\xc5\x01\x00" + bytes(256), "A" * 342),
    ("bin 32", b"\xc6\x00\x01\x00\x00" + bytes(65536), "A" * 87382),
    ("fixarray, empty", b"\x90", []),
    ("fixarray, last", b"\x9f" + b"\x01" * 15, [1] * 15),
    ("array 16", b"\xdc\x00\x10" + b"\x01" * 16, [1] * 16),
    ("array 16, last", b"\xdc\xff\xff" + b"\x01" * 65535, [1] * 65535),
    ("array 32", b"\xdd\x00\x01\x00\x00" + b"\x01" * 65536, [1] * 65536),
    ("fixmap, empty", b"\x80", {}),
    ("fixmap, last", b"\x8f" + members(15), {str(n): None for n in range(15)}),
    ("map 16", b"\xde\x00\x10" + members(16), {str(n): None for n in range(16)}),
    ("map 16, many", b"\xde\x10\x00" + members(4096), {str(n): None for n in range(4096)}),
    ("map 32", b"\xdf\x00\x00\x00\x02" + members(2), {"0": None, "1": None}),
    ("fixext 1", b"\xd4\x05\x01", {"type": 5, "data": "AQ"}),
    ("fixext 2", b"\xd5\x05\x01\x02", {"type": 5, "data": "AQI"}),
    ("fixext 4", b"\xd6\x05\x01\x02\x03\x04", {"type": 5, "data": "AQIDBA"}),
    ("fixext 8", b"\xd7\x80" + bytes(8), {"type": -128, "data": "AAAAAAAAAAA"}),
    ("fixext 16", b"\xd8\x7f" + bytes(16), {"type": 127, "data": "A" * 22}),
    ("ext 8", b"\xc7\x03\x01\x01\x02\x03", {"type": 1, "data": "AQID"}),
    ("ext 16", b"\xc8\x00\x00\x01", {"type": 1, "data": ""}),
    ("ext 32", b"\xc9\x00\x00\x00\x01\x01\xff", {"type": 1, "data": "_w"}),
    ("timestamp 32", b"\xd6\xff\x00\x00\x00\x00", "1970-01-01T00:00:00Z"),
    ("timestamp 32, last", b"\xd6\xff\xff\xff\xff\xff", "2106-02-07T06:28:15Z"),
    (
        "timestamp 64",
        b"\xd7\xff" + struct.pack(">Q", 123456789 << 34 | 1795944600),
        "2026-11-29T09:30:00.123456789Z",
    ),
    ("timestamp 64, last", b"\xd7\xff" + struct.pack(">Q", 2**34 - 1), "2514-05-30T01:53:03Z"),
    ("timestamp 96", b"\xc7\x0c\xff" + struct.pack(">Iq", 500_000_000, -1), "1969-12-31T23:59:59.5Z"),
]


@pytest.mark.parametrize(("name", "payload", "value"), FORMATS, ids=[name for name, _, _ in FORMATS])
def test_formats(name: str, payload: bytes, value: Any) -> None:  # noqa: ANN401  # any value
    """Every format of the specification is read, alone and within a map."""
    found = FORM.parse(payload)
    assert (found, type(found)) == (value, type(value)), name
    assert FORM.parse(b"\x82\xa1a" + payload + b"\xa1b\x01") == {"a": value, "b": 1}


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (
            pack({"id": "a1-7", "temperature": 21.5, "up": True, "x": None}),
            {"id": "a1-7", "temperature": 21.5, "up": True, "x": None},
        ),
        (pack({"a": {"b": [1, {"c": 2.5}]}}), {"a": {"b": [1, {"c": 2.5}]}}),
        (b"\x81\xa1a\x81\xa1b\xca\x41\xac\x00\x00", {"a": {"b": 21.5}}),
        (b"\x83\x01\x02\xc3\x03\xc0\x04", {"1": 2, "true": 3, "null": 4}),
        (b"\x81\xc4\x01\x01\x05", {"AQ": 5}),
        (pack({"a": 1}) + pack({"b": 2}), [{"a": 1}, {"b": 2}]),
    ],
)
def test_values(payload: bytes, value: Any) -> None:  # noqa: ANN401  # any value
    """Messages as devices send them, and several of them one after the other."""
    assert FORM.parse(payload) == value


@pytest.mark.parametrize("text", ["ca7fc00000", "ca7f800000", "caff800000", "cb7ff8000000000000"])
def test_numbers_that_are_none(text: str) -> None:
    """What is not finite costs only its field."""
    found = FORM.parse(b"\x82\xa1u\x01\xa1v" + bytes.fromhex(text))
    assert found["u"] == 1
    assert (type(found["v"]), found["v"].reason) == (NoNumber, "number_out_of_range")
    assert type(FORM.parse(b"\x91\x91" + bytes.fromhex(text))[0][0]) is NoNumber


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"\xc1", "malformed_msgpack", "0xc1"),
        (b"\x81\xa1a\xc1", "malformed_msgpack", "byte 3"),
        (b"\x82\xa1a\x01\xa1a\x02", "duplicate_key", "'a'"),
        (b"\xde\x00\x02\xa1a\x01\xa1a\x02", "duplicate_key", "byte 6"),
        (b"\x82\xa1b\x01\xa1a\x82\xa1a\x01\xa1a\x02", "duplicate_key", "'a'"),
        (b"\x91\x82\xa1a\x01\xa1a\x02", "duplicate_key", "'a'"),
        (b"\x82\xa11\x01\x01\x02", "duplicate_key", "'1'"),
        (b"\x82\xa1a\xca\x41\xac\x00\x00\xd9\x01a\x02", "duplicate_key", "'a'"),
        (b"\x81\x91\x01\x02", "malformed_msgpack", "key"),
        (b"\x81\x80\x02", "malformed_msgpack", "key"),
        (b"\x82\xa1a\x01", "malformed_msgpack", "too soon"),
        (b"\xa5abc", "malformed_msgpack", "too soon"),
        (b"\xdf\xff\xff\xff\xff", "malformed_msgpack", "too soon"),
        (b"\xdd\xff\xff\xff\xff", "malformed_msgpack", "too soon"),
        (b"\xc6\xff\xff\xff\xff", "malformed_msgpack", "too soon"),
        (b"\xdb\xff\xff\xff\xff", "malformed_msgpack", "too soon"),
        (b"\xa1\xff", "not_utf8", "byte 1"),
        (b"\x81\xa1a\x01\x00", "malformed_msgpack", "not all are maps"),
        (b"\x01\x81\xa1a\x01", "malformed_msgpack", "not all are maps"),
        (b'{"temperature": 21.5}', "malformed_msgpack", 'format = "json"'),
        (b"\xd5\xff\x00\x00", "malformed_msgpack", "timestamp"),
        (b"\xd7\xff" + b"\xff" * 8, "malformed_msgpack", "nanoseconds"),
        (b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 2**62), "number_out_of_range", "calendar"),
        (b"\x91" * (MAX_DEPTH + 1) + b"\x00", "too_deep", "32"),
        (b"\x91" * 5000, "too_deep", "32"),
        (b"\x81\xa0" * 100_000, "too_deep", "32"),
    ],
)
def test_refused(payload: bytes, reason: str, detail: str) -> None:
    """What cannot be read in one way is refused, with its place."""
    with pytest.raises(Reject) as caught:
        FORM.parse(payload)
    assert (caught.value.reason, detail in caught.value.detail) == (reason, True), caught.value.detail


def test_depth() -> None:
    """Nesting to the limit is read."""
    assert FORM.parse(b"\x91" * MAX_DEPTH + b"\x00")
    assert FORM.parse(b"\x81\xa1a" * MAX_DEPTH + b"\xca\x41\xac\x00\x00")


def test_keys_that_hash_alike() -> None:
    """A payload of keys made to collide is refused soon, however large."""
    keys = [b"\xdc\x00\x10" + bytes(0xFF - (n >> bit & 1) for bit in range(16)) for n in range(13_000)]
    payload = b"\xde" + struct.pack(">H", len(keys)) + b"".join(key + b"\x00" for key in keys)
    for part in (payload, b"\xde\x01\x90" + payload[3 : 3 + 400 * 20]):
        started = time.process_time()
        with pytest.raises(Reject, match="key"):
            FORM.parse(part)
        assert time.process_time() - started < 3


def test_lengths_that_are_announced() -> None:
    """What is announced and does not come takes no memory."""
    tracemalloc.start()
    for payload in (b"\xdd\x7f\xff\xff\xff" * 20, b"\xdf\x7f\xff\xff\xff" * 20, b"\xdd\x00\x03\xff\xff" * 9):
        with pytest.raises(Reject):
            FORM.parse(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "payload",
    [
        pack([{"a": 1}, {"a": 2}]),
        pack([{"a": n} for n in range(20)]),
        pack([{"a": n} for n in range(5000)]),
        pack({"a": 1}) + pack({"a": 2}),
        b"\xdd\x00\x00\x00\x01\xd6\xff\x00\x00\x00\x00",
        pack([1, [2], [3, [4]]]),
        b"\x90\x80",
        b"\x90",
    ],
    ids=range(8),
)
def test_cut_and_joined(payload: bytes) -> None:
    """Each element is a payload of the same reading, and joined they are the same list."""
    value, raws = FORM.parse(payload), FORM.elements(payload)
    again = [FORM.parse(bytes(raw)) for raw in raws]
    assert [each[0] if type(each) is list else each for each in again] == value
    assert FORM.parse(FORM.join(raws)) == value


def test_written() -> None:
    """A value is written so that it is read again, numbers that are none too."""
    assert FORM.write is not None
    value = FORM.parse(b"\x83\xa1a\xcb\x7f\xf8" + bytes(6) + b"\xa1b\x92\xc0\xc2\xa1c\xc4\x01\x01")
    again = FORM.parse(FORM.write(value))
    assert (type(again["a"]), again["b"], again["c"]) == (NoNumber, [None, False], "AQ")


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in {str, bool, int, float, NoNumber}


ITEMS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=9),
        st.binary(max_size=9),
        st.datetimes(timezones=st.just(UTC)),
        st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=9)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=4),
    ),
    max_leaves=12,
)


def text_of(value: Any) -> str:  # noqa: ANN401  # any value
    if isinstance(value, dict):
        return str({key: text_of(each) for key, each in value.items()})
    return str([*map(text_of, value)]) if isinstance(value, list) else repr(str(value))


@settings(max_examples=80, deadline=None)
@given(ITEMS, st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=2)), max_size=3))
def test_any_bytes(item: object, changes: list[tuple[int, bytes]]) -> None:
    """Whatever comes is plain values or a refusal; a list can be cut and joined."""
    payload = pack(item)
    for at, put in changes:
        payload = payload[:at] + put + payload[at + 1 :]
    if not payload:
        return
    try:
        value = FORM.parse(payload)
    except Reject:
        return
    assert is_plain(value)
    if type(value) is list:
        raws = FORM.elements(payload)
        again = [FORM.parse(bytes(raw)) for raw in raws]
        assert text_of([each[0] if type(each) is list else each for each in again]) == text_of(value)
        assert text_of(FORM.parse(FORM.join(raws))) == text_of(value)


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_garbage(payload: bytes) -> None:
    """Bytes that mean nothing are refused, never anything else."""
    with contextlib.suppress(Reject):
        assert is_plain(FORM.parse(payload))
