"""CBOR payloads: every example of RFC 8949 appendix A, what is refused, and how lists are cut."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.fields import NoNumber
from gateway.decode.formats import format_of
from gateway.decode.limits import MAX_DEPTH
from runtime.errors import Reject
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Callable

FORM = format_of(Route(topic="a/{device_id}", format="cbor"), "route[0]")

APPENDIX_A: list[tuple[str, Any]] = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("c249010000000000000000", "18446744073709551616"),
    ("3bffffffffffffffff", "-18446744073709551616"),
    ("c349010000000000000000", "-18446744073709551617"),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f90000", 0.0),
    ("f98000", -0.0),
    ("f93c00", 1.0),
    ("fb3ff199999999999a", 1.1),
    ("f93e00", 1.5),
    ("f97bff", 65504.0),
    ("fa47c35000", 100000.0),
    ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f90001", 5.960464477539063e-8),
    ("f90400", 0.00006103515625),
    ("f9c400", -4.0),
    ("fbc010666666666666", -4.1),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("f7", None),
    ("f0", "simple(16)"),
    ("f8ff", "simple(255)"),
    ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
    ("c11a514b67b0", 1363896240),
    ("c1fb41d452d9ec200000", 1363896240.5),
    ("d74401020304", "01020304"),
    ("d818456449455446", "ZElFVEY"),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", "http://www.example.com"),
    ("40", ""),
    ("4401020304", "AQIDBA"),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("63e6b0b4", "\u6c34"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", [*range(1, 26)]),
    ("a0", {}),
    ("a201020304", {"1": 2, "3": 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
    ("a56161614161626142616361436164614461656145", {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
    ("5f42010243030405ff", "AQIDBAU"),
    ("7f657374726561646d696e67ff", "streaming"),
    ("9fff", []),
    ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("9f01820203820405ff", [1, [2, 3], [4, 5]]),
    ("83018202039f0405ff", [1, [2, 3], [4, 5]]),
    ("83019f0203ff820405", [1, [2, 3], [4, 5]]),
    ("9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", [*range(1, 26)]),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
    ("826161bf61626163ff", ["a", {"b": "c"}]),
    ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}),
]
APPENDIX_A_NO_NUMBERS = [
    ("f97c00", "inf"),
    ("f97e00", "nan"),
    ("f9fc00", "-inf"),
    ("fa7f800000", "inf"),
    ("fa7fc00000", "nan"),
    ("faff800000", "-inf"),
    ("fb7ff0000000000000", "inf"),
    ("fb7ff8000000000000", "nan"),
    ("fbfff0000000000000", "-inf"),
]


def parse(text: str) -> Any:  # noqa: ANN401  # CBOR is any value
    return FORM.parse(bytes.fromhex(text))


@pytest.mark.parametrize(("text", "value"), APPENDIX_A)
def test_examples_of_the_rfc(text: str, value: Any) -> None:  # noqa: ANN401  # likewise
    """Every example of RFC 8949 appendix A has its value, by the advice of §6.1."""
    found = parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "written"), APPENDIX_A_NO_NUMBERS)
def test_numbers_that_are_none(text: str, written: str) -> None:
    """What is not finite costs only its field."""
    found = parse(f"a2617501 6176 {text}")
    assert found["u"] == 1
    assert (type(found["v"]), found["v"].reason, found["v"].text) == (
        NoNumber,
        "number_out_of_range",
        written,
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("c48221196ab3", 273.15),  # RFC 8949 §3.4.4
        ("c5822003", 1.5),
        ("a16176fa41aa6666", {"v": 21.3}),
        ("81fbc010666666666666", [-4.1]),
        ("82fb40354ccccccccccdfa41aa6666", [21.3, 21.3]),
        ("fb40354cccc0000000", 21.299999237060547),  # nothing was rounded when it was sent
        ("fa3eaaaaab", 0.3333333432674408),  # of no short decimal
        ("82fb40354cccc0000000 fa41aa6666", [21.299999237060547, 21.3]),  # each as it was sent
        ("82 45fa41aa6666 fb40354cccc0000000", ["-kGqZmY", 21.299999237060547]),  # in bytes it is no float
        (  # in keys, tags, arrays and what has no length too
            "a3 fa41aa6666 fb40354cccc0000000 f93c00c1fa41aa6666 c1fb40358000000000009ffa41aa6666 5f41faffff",
            {"21.299999237060547": 21.299999237060547, "1.0": 21.3, "21.5": [21.3, "-g"]},
        ),
        ("c48200c249010000000000000000", 18446744073709551616.0),
        ("d81e820103", 1 / 3),
        ("d9d9f7a1616101", {"a": 1}),
        ("d64401020304", "AQIDBA=="),  # to be base64, with padding
        ("d7a1616182420102 4103", {"a": ["0102", "03"]}),  # of all that is within (§3.4.5.2)
        ("d82550000102030405060708090a0b0c0d0e0f", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("d8641a00004d1e", "2024-01-20"),
        ("d9010283010203", [1, 2, 3]),
        ("d8ff a1 02 03", {"2": 3}),  # of a tag that nobody knows
        ("a5 20 01 f5 02 f6 03 4101 04 f93e00 05", {"-1": 1, "true": 2, "null": 3, "AQ": 4, "1.5": 5}),
        ("a1c2410101", {"1": 1}),
        ("a1616101 a1616102", [{"a": 1}, {"a": 2}]),  # RFC 8742
        ("a0 80", [{}, []]),
    ],
)
def test_values(text: str, value: Any) -> None:  # noqa: ANN401  # likewise
    """Tags, keys and sequences become plain values."""
    assert parse(text) == value


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("fa"), st.sampled_from([21.3, -4.1, 0.1, 1e-9, 5.0])),
            st.tuples(st.just("fb"), st.sampled_from([21.299999237060547, 21.3, 0.10000000149011612])),
            st.tuples(
                st.just(""),
                st.one_of(
                    st.integers(-(2**64), 2**64 - 1),
                    st.text("aú", max_size=300),
                    st.lists(
                        st.dictionaries(st.text("ab", max_size=30), st.booleans(), max_size=3), max_size=30
                    ),
                ),
            ),
        ),
        max_size=30,
    )
)
def test_floats_are_what_each_was_sent_as(items: list[tuple[str, Any]]) -> None:
    """One of 32 bits is the decimal that was meant, one of 64 is exact, whatever stands beside it."""
    raws: dict[str, Callable[[Any], bytes]] = {
        "fa": lambda value: b"\xfa" + struct.pack(">f", value),
        "fb": lambda value: b"\xfb" + struct.pack(">d", value),
        "": cbor2.dumps,
    }
    payload = cbor2.dumps([None] * len(items))[: -len(items) or None]
    payload += b"".join(raws[head](value) for head, value in items)
    assert FORM.parse(payload) == [
        value if type(value) is not int or value >= -(2**63) else str(value) for _, value in items
    ]


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("f818", "malformed_cbor", "item at byte 0 of 2"),
        ("a2616101616102", "duplicate_key", "'a'"),
        ("a2 01 05 6131 06", "duplicate_key", "come to the same text"),
        ("bf6161016162ff", "malformed_cbor", "missing value"),
        ("a16161", "malformed_cbor", "ends too soon"),
        ("a1616101 00", "malformed_cbor", "bytes 4 to 4 of 5"),
        ("0102", "malformed_cbor", "only maps and arrays"),
        ("a1616101 a1", "malformed_cbor", "item at byte 4"),
        ("61ff", "not_utf8", "byte 0"),
        ("a1820101f4", "malformed_cbor", "key"),
        ("a1a0f4", "malformed_cbor", "key"),
        ("d81c81d81d00", "malformed_cbor", "tag 28"),
        ("d90100826161d81900", "malformed_cbor", "tag 256"),
        ("d84141 00", "malformed_cbor", "typed array"),
        ("c201", "malformed_cbor", "bignum"),
        ("c401", "malformed_cbor", "two integers"),
        ("c48201f5", "malformed_cbor", "bool"),
        ("d8254101", "malformed_cbor", "UUID"),
        ("d8641b00ffffffffffffff", "malformed_cbor", "calendar"),
        ("1c", "malformed_cbor", "byte 0"),
        ("ff", "malformed_cbor", "break"),
        ("9bffffffffffffffff", "malformed_cbor", "too soon"),
        ("bb0000ffffffffffff00", "malformed_cbor", "too soon"),
        ("5b7fffffffffffffff", "malformed_cbor", "too soon"),
        ("81" * (MAX_DEPTH + 1) + "00", "too_deep", "32"),
        ("9f" * 5000, "too_deep", "32"),
        ("c6" * 5000 + "00", "too_deep", "32"),
        ("c2590401" + "ff" * 1025, "number_out_of_range", "1025 bytes"),
    ],
)
def test_refused(text: str, reason: str, detail: str) -> None:
    """What cannot be read in one way is refused, with its place."""
    with pytest.raises(Reject) as caught:
        parse(text)
    assert (caught.value.reason, detail in caught.value.detail) == (reason, True), caught.value.detail


def test_json_is_recognised() -> None:
    """Whoever sends JSON on a route for CBOR is told so."""
    with pytest.raises(Reject, match='format = "json"'):
        FORM.parse(b'{"temperature": 21.5}')


def test_fractions_out_of_range() -> None:
    """A fraction beyond doubles costs only its field, and one too small for them is zero."""
    assert parse("a16176c4821903e801")["v"].text == "1e1000"
    assert parse("a16176c5821a0000ffff01")["v"].text == "inf"
    assert parse("a16176d81e820100")["v"].text == "nan"
    assert parse("c4823903e701") == 0.0


def test_depth() -> None:
    """Nesting to the limit is read, tags do not count."""
    assert parse("c6c6" + "81" * MAX_DEPTH + "00")


def test_keys_that_hash_alike() -> None:
    """A payload of keys made to collide is refused soon, however large; plain ones of that size are read."""
    keys = [b"\x90" + bytes(0x20 | (n >> bit & 1) for bit in range(16)) for n in range(14_000)]
    payload = b"\xb9" + struct.pack(">H", len(keys)) + b"".join(key + b"\x00" for key in keys)
    started = time.process_time()
    with pytest.raises(Reject, match="key"):
        FORM.parse(payload)
    assert time.process_time() - started < 5
    many = {n: {"x": 1.5, "y": [b"\xff\xff", "z"]} for n in range(1000)}
    assert len(FORM.parse(cbor2.dumps(many, indefinite_containers=True))) == 1000


def test_lengths_that_are_announced() -> None:
    """What is announced and does not come takes no memory."""
    tracemalloc.start()
    for text in ("9a7fffffff", "ba7fffffff", "5a7fffffff", "7a7fffffff", "9b00ffffffffffffff" * 10):
        with pytest.raises(Reject):
            parse(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "82a1616101a1616102",
        "9fa1616101a1616102ff",
        "a1616101a1616102",
        "d9d9f782a1616101a1616102",
        "d782a161614102 4101",
        "828101820203",
        "81d9d9f78101",
        "8101a0",
        "9a00000001a0",
        "80",
    ],
)
def test_cut_and_joined(text: str) -> None:
    """Each element is a payload of the same reading, and joined they are the same list."""
    payload = bytes.fromhex(text)
    if text == "8101a0":  # a list and a map that follow each other
        assert FORM.parse(payload) == [[1], {}]
    value, raws = FORM.parse(payload), FORM.elements(payload)
    again = [FORM.parse(bytes(raw)) for raw in raws]
    assert [each[0] if type(each) is list else each for each in again] == value
    assert FORM.parse(FORM.join(raws)) == value
    assert FORM.join([*raws[:1]] * 300) == b"\x99\x01\x2c" + FORM.join(raws[:1])[1:] * 300 or not raws


def test_written() -> None:
    """A value is written so that it is read again, numbers that are none too."""
    assert FORM.write is not None
    value = parse("a4 6161 f97e00 6162 c4821903e801 6163 82f6f4 6164 4101")
    again = FORM.parse(FORM.write(value))
    assert str(again["a"]) == "nan"
    assert again["b"].text == "1e1000"
    assert (again["c"], again["d"]) == ([None, False], "AQ")


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
        st.integers(),
        st.floats(),
        st.text(max_size=9),
        st.binary(max_size=9),
        st.decimals(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(ITEMS, st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=2)), max_size=3))
def test_any_bytes(item: object, changes: list[tuple[int, bytes]]) -> None:
    """Whatever comes is plain values or a refusal; a list can be cut and joined."""
    payload = cbor2.dumps(item)
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
        assert len(raws) == len(value)
        again = [FORM.parse(bytes(raw)) for raw in raws]
        assert repr_of([each[0] if type(each) is list else each for each in again]) == repr_of(value)
        assert repr_of(FORM.parse(FORM.join(raws))) == repr_of(value)


def repr_of(value: Any) -> str:  # noqa: ANN401  # any value
    if isinstance(value, dict):
        return str({key: repr_of(each) for key, each in value.items()})
    return str([*map(repr_of, value)]) if isinstance(value, list) else repr(str(value))


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_garbage(payload: bytes) -> None:
    """Bytes that mean nothing are refused, never anything else."""
    with contextlib.suppress(Reject):
        assert is_plain(FORM.parse(payload))
