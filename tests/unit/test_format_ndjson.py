"""Lines of JSON: what a line is, what a bad one costs, and how payloads are cut."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.fields import NoNumber, Refused
from gateway.decode.formats import format_of
from gateway.decode.routes import compile_routes
from runtime.errors import Reject
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered, decode

ROUTE = Route(format="ndjson")
FORM = format_of(ROUTE, "route[0]")


def plain(value: object) -> object:
    """A value with what is refused of it as a tuple, so that it can be compared."""
    if isinstance(value, Refused):
        return (value.reason, value.detail)
    if isinstance(value, NoNumber):
        return (value.reason, value.text)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'{"a":1}\n', {"a": 1}),
        (b'{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        (b'{"a":1}\r\n{"a":2}', [{"a": 1}, {"a": 2}]),
        (b'\n \t\r\n{"a":1}\n\n\n {"a":2} \n\n', [{"a": 1}, {"a": 2}]),
        (b'{"a":1}{"a":2} \t{"b":{}}\n{"c":3}', [{"a": 1}, {"a": 2}, {"b": {}}, {"c": 3}]),
        (b'{"a":"} {"}', {"a": "} {"}),
        (b'{"a":{"b":[1]}}', {"a": {"b": [1]}}),
        (b"21.5\n22", [21.5, 22]),
        (b'["a1",21.5]', [["a1", 21.5]]),
        (b'["a1",21.5]\n["a2",22.5]', [["a1", 21.5], ["a2", 22.5]]),
        (b'{"a":NaN,"b":1}', {"a": ("malformed_json", "NaN"), "b": 1}),
    ],
)
def test_lines(payload: bytes, value: object) -> None:
    """A line is a message; blank ones are none; objects without a line end between them are several."""
    assert plain(FORM.parse(payload)) == value


@pytest.mark.parametrize(
    ("payload", "reason", "said"),
    [
        (b" \n\r\n", "empty_message", "no line"),
        (b"{'a':1}", "malformed_json", "line 1: "),
        (b'\n{"a":1', "malformed_json", "line 2: "),
        (b'{"a":1,"a":2}', "duplicate_key", "line 1: key 'a' appears twice"),
        (b'{"a":"\xff"}', "not_utf8", "byte 6 is not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "malformed_json", "byte-order mark"),
        (b"[" * 10_000, "too_deep", "nested too deeply"),
    ],
)
def test_a_line_that_is_none(payload: bytes, reason: str, said: str) -> None:
    """A payload of one line that cannot be read is refused, with the line and what is wrong with it."""
    with pytest.raises(Reject) as refused:
        FORM.parse(payload)
    assert refused.value.reason == reason
    assert said in refused.value.detail


def test_a_bad_line_costs_its_neighbours_nothing() -> None:
    """What can be read is stored; the line that cannot be is a letter that holds it and names it."""
    lines = [b'{"id":"1","x":1}', b'{"id":"2","x":', b'{"id":"3"}{"id":"3a","id":"3b"}', b"7", b'{"id":"4"}']
    readings, letters = decode(b"\r\n".join(lines), route=ROUTE)
    assert [reading.event.key for reading in readings] == ["1", "3", "4"]
    assert [reading.raw for reading in readings] == [lines[0], b'{"id":"3"}', lines[4]]
    assert [(letter.reason, letter.payload) for letter in letters] == [
        ("malformed_json", lines[1]),
        ("duplicate_key", b'{"id":"3a","id":"3b"}'),
        ("wrong_root", b"7"),
    ]
    assert letters[0].error.startswith("element 1: line 2: ")


def test_bad_lines_beyond_the_tenth_share_a_letter() -> None:
    """The letter that holds them says what the first was, and what is in it can be decoded again."""
    payload = b'{"id":"0"}\n' + b"\n".join(b'{"id":"%d"' % n for n in range(1, 31))
    readings, letters = decode(payload, route=ROUTE)
    assert (len(readings), len(letters)) == (1, 11)
    assert letters[-1].error.startswith("20 more elements of one payload: 20 malformed_json; the first, ")
    assert "line 12: " in letters[-1].error
    assert letters[-1].payload == b"\n".join(b'{"id":"%d"' % n for n in range(11, 31))


def test_nothing_but_bad_lines() -> None:
    """A payload of very many lines of which none is JSON is one letter, which says what the first was."""
    readings, (letter,) = decode(b"x\n" * 50, route=ROUTE)
    assert readings == []
    assert letter.reason == "many_bad_elements"
    assert "line 1: " in letter.error


def test_readings_inside_of_lines() -> None:
    """`each` is looked for in every line, with what is around it there; a bad line is a letter alone."""
    route = Route(topic="devices/telemetry", format="ndjson", each="values")
    payload = (
        b'{"device_id":"a1","ts":1763888400,"values":[{"t":1},{"t":2}]}\n'
        b"never\n"
        b'{"device_id":"a2","ts":1763888401,"values":[{"t":3}]}'
    )
    items = Decoder(compile_routes([route]), Limits()).decode(
        Delivered("devices/telemetry", payload), Received.of(NOW)
    )
    found = [
        (each.event.device_id, json.loads(bytes(each.event.metrics))["t"])
        for each in items
        if isinstance(each, Reading)
    ]
    assert found == [("a1", 1), ("a1", 2), ("a2", 3)]
    assert [each.payload for each in items if isinstance(each, Rejection)] == [b"never"]


def test_rubbish_costs_little() -> None:
    """A payload of the largest size with nothing but bad lines takes neither long nor much memory."""
    payload = b"{\n" * 2_000
    tracemalloc.start()
    began = time.process_time()
    try:
        value = FORM.parse(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(value) == 2_000
    assert peak < 2_000_000
    assert time.process_time() - began < 10
    with pytest.raises(Reject, match="more than 2000 lines that are no JSON"):
        FORM.parse(payload + b"{")


VALUES = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9), st.booleans()
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=5), st.sampled_from(["\n", "\r\n", "", " \n\n"]))
def test_what_is_cut_comes_back(values: list[dict[str, Any]], between: str) -> None:
    """Each element is a payload with the value of its line, and joined they have the values of all."""
    payload = between.join(map(json.dumps, values)).encode()
    found = FORM.parse(payload)
    cut = FORM.elements(payload)
    assert [FORM.parse(bytes(each)) for each in cut] == found
    assert FORM.parse(FORM.join(cut)) == found


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet='{}[]":,1aN \n\r\\', max_size=40).map(str.encode),
    )
)
def test_whatever_comes(payload: bytes) -> None:
    """Any bytes are read or refused; of a list there are as many elements, each read or refused alike."""
    with contextlib.suppress(Reject):
        value = FORM.parse(payload)
        if isinstance(value, list):
            for each, raw in zip(value, FORM.elements(payload), strict=True):
                if isinstance(each, Refused):
                    with pytest.raises(Reject) as refused:
                        FORM.parse(bytes(raw))
                    assert refused.value.reason == each.reason
                else:
                    assert plain(FORM.parse(bytes(raw))) in (plain(each), [plain(each)])
