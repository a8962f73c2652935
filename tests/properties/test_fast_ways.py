"""A decoder that has seen messages of a shape makes of the next what one makes that has seen none."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Received, Rejection
from gateway.decode.formats.influx import _usual, read_slowly
from gateway.decode.routes import compile_routes
from runtime.errors import Reject
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from gateway.decode.routes import CompiledRoute

TOPIC = "t/{device_id}"
SENML = Route(
    topic=TOPIC,
    format="senml",
    device="",
    key="",
    time="t",
    region="",
    name="n | name",
    value="v | vb | vs | vd",
    tags=("bn",),
    rename={"*.u": "*.unit", "*.s": "*.sum"},
    ignore=("*.name", "*.bver"),
)
INFLUX = Route(
    topic=TOPIC,
    format="influx",
    device="",
    key="",
    time="time",
    region="",
    name="measurement",
    value="fields",
    tags=("tags",),
)
LISTED = Route(topic=TOPIC, each="a", name="name", value="v", time="t", key="id | k", tags=("g",))
ROUTES = (
    Route(topic=TOPIC, time="t | o.t", key="id | k", states={"ON": 1}, region="g"),
    Route(topic=TOPIC, time="t", device="id | k", key="", numbers="from_text", on_bad_field="drop"),
    Route(topic="t/{x}", time="o.t | t", device="id", key="k", tags=("g", "o")),
    Route(topic=TOPIC, metrics="o | a", time="t", key="", rename={"v": "w", "*.v": "*"}, ignore=("name",)),
    Route(topic=TOPIC, numbers="from_text_with_unit", time="t", key="", states={"ON": 1, "": 0}),
    Route(topic="t/{device_id}/{metric}", tags=("g",), time="t", key="id"),
    Route(topic="t/{g}/{device_id}", tags=("g", "k"), time="t", key="id", empty="ignore"),
    Route(topic=TOPIC, each="a", time="t", key="id | k", tags=("g",), on_bad_field="drop"),
    LISTED,
    Route(
        topic=TOPIC,
        each="a",
        name="name",
        value="v",
        time="t",
        key="",
        numbers="from_text",
        states={"ON": 1},
        on_bad_field="drop",
    ),
    SENML,
    INFLUX,
)
ODD = st.sampled_from(
    [
        *(
            "",
            "NaN",
            "ON",
            "21,5",
            "21.5 °C",
            "007",
            "1e400",
            "-5",
            "9" * 25,
            "\x00",
            "\ud7ff",
            "é",
            "x" * 300,
        ),
        *("2026-11-23T09:00:00Z", "2026-11-23 08:59:00+01:00", "1795424400", "PT5S", "\ue0000", "\ue0001"),
        *(
            True,
            False,
            None,
            0,
            1,
            1.0,
            -0.0,
            1.5,
            2**63,
            -(2**63),
            2**63 - 1,
            2**64,
            10**30,
            1.7e308,
            5e-324,
        ),
        *(1795424400, 1795424400.0, 1795424400123, 2.0**30 + 0.5, 2.0**30 + 1.5, 2.0**30 + 2.5),
    ]
)
FIELDS = st.sampled_from(["t", "id", "k", "g", "v", "w", "name", "x", "o", "a", "", "\x00", "v.w", "\ue0001"])
OBJECT = st.dictionaries(FIELDS, ODD, min_size=1, max_size=4)
ELEMENT = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "a.v", "\x00", "", "\ue0001"]), "v": ODD | OBJECT},
    optional={"t": ODD, "id": ODD, "k": ODD, "g": ODD | OBJECT, "u": ODD},
)
SHAPED = st.dictionaries(
    FIELDS, ODD | OBJECT | st.lists(ELEMENT | OBJECT, max_size=3), min_size=1, max_size=5
)
LIST = st.fixed_dictionaries(
    {"a": st.lists(ELEMENT, min_size=1, max_size=3)}, optional={"t": ODD, "g": ODD, "id": ODD, "x": ODD}
)
NUMBER = st.sampled_from([0, 1, -1, 1.5, 1795424400, 1795424400.5, 1e308, -5, 2**63, 10**30, 2.0**30 + 0.5])
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.sampled_from(["", "d:", "\ue0000"]),
        "bt": NUMBER,
        "bu": st.sampled_from(["V", ""]),
        "bver": st.sampled_from([10, 5, 11]),
        "n": st.sampled_from(["a", "b", "", "\ue0001"]),
        "u": st.sampled_from(["V", "A", "", "\ue0002"]),
        "t": NUMBER,
        "v": NUMBER,
        "vs": st.sampled_from(["", "x", "\x00"]),
        "vb": st.booleans(),
        "s": NUMBER,
        "bv": NUMBER,
        "x": ODD,
    },
)
USUAL_RECORD = st.fixed_dictionaries(
    {"n": st.sampled_from(["a", "b", ""]), "v": NUMBER},
    optional={
        "bn": st.sampled_from(["d:", "", "e:"]),
        "t": NUMBER,
        "bt": NUMBER,
        "u": st.sampled_from(["V", ""]),
    },
)
PACK = st.lists(USUAL_RECORD | RECORD, min_size=1, max_size=3)
VALUE_TEXT = st.sampled_from(
    [
        "1",
        "-1i",
        "1.5",
        "-0",
        "1e5",
        "1e400",
        "00i",
        "9" * 18 + "i",
        "9" * 19 + "i",
        "1.",
        ".5",
        "t",
        "nan",
        '"x"',
        "5u",
        "\ue000",
        "1e-99",
        "-",
        "0.1e+7",
        "",
        "٣",
        "1_0",
    ]
)
NAME_TEXT = st.sampled_from(
    ["a", "b", "a.b", "é", "#a", "\ue0001", "\x7f", "\xa0", "a\\,", "x=y", '"', "\u2028"]
)
LINE = st.builds(
    lambda m, tags, fields, time, end: (
        m + "".join(f",{k}={v}" for k, v in tags) + " " + ",".join(f"{k}={v}" for k, v in fields) + time + end
    ),
    NAME_TEXT,
    st.lists(st.tuples(NAME_TEXT, NAME_TEXT), max_size=2),
    st.lists(st.tuples(NAME_TEXT, VALUE_TEXT), min_size=1, max_size=3),
    st.sampled_from(["", " 1795424400000000000", " -0", "  5", f" {2**63}", f" {-(2**63)}", " 5i", " 07"]),
    st.sampled_from(["", "", " ", "\r", "\n", "\r\n", "\r\r\n"]),
)


@cache
def compiled(number: int) -> list[CompiledRoute]:
    return compile_routes([ROUTES[number]])


def other_values(value: Any, draw: Any, at: str = "") -> Any:  # noqa: ANN401  # a message is any value
    """The same names with other values, mostly of their kinds."""
    if type(value) is dict:
        return {name: other_values(each, draw, name) for name, each in value.items()}
    if type(value) is list:
        return [other_values(each, draw) for each in value]
    if at in {"name", "n"} or draw(st.booleans()):
        return value
    return draw(ODD.filter(lambda each: type(each) is type(value)))


def said(decoder: Decoder, topic: str, payload: bytes) -> object:
    before = decoder.drops.counts.copy()
    ignored, empty = decoder.ignored, decoder.empty
    found = decoder.decode(Delivered(topic, payload), Received.of(NOW))
    drops = decoder.drops.counts - before
    items = [
        item
        if isinstance(item, Rejection)
        else (msgspec.json.encode(item.event), item.identity, item.line, item.keyed, item.raw, item.digest)
        for item in found
    ]
    return (
        re.sub(r"uuid:[0-9a-f-]{36}", "uuid:", repr(items)),
        dict(drops),
        decoder.ignored - ignored,
        decoder.empty - empty,
    )


def payload_of(number: int, message: Any) -> bytes:  # noqa: ANN401  # likewise
    if ROUTES[number] is INFLUX:
        return "\n".join(message).encode()
    return json.dumps(message).encode()


def check(number: int, messages: list[Any]) -> None:
    topic = "t/d/v" if ROUTES[number].topic.count("/") > 1 else "t/d"
    decoder = Decoder(compiled(number), Limits())
    for message in messages:
        payload = payload_of(number, message)
        fresh = Decoder(compiled(number), Limits())
        assert said(decoder, topic, payload) == said(fresh, topic, payload), (number, messages)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_was_seen_changes_nothing(data: st.DataObject) -> None:
    """The third message of a shape, and each before it, comes to what it comes to when it is the first."""
    number = data.draw(st.integers(0, len(ROUTES) - 1))
    route = ROUTES[number]
    if route is INFLUX:
        lines = data.draw(st.lists(LINE, min_size=1, max_size=2))
        check(number, [lines, lines, data.draw(st.lists(LINE, min_size=1, max_size=2)), lines])
        return
    one = data.draw(PACK if route is SENML else LIST | SHAPED | OBJECT if route.each else SHAPED | OBJECT)
    rest = [other_values(one, data.draw) for _ in range(2)]
    check(number, [one, one, *rest, one])


@settings(max_examples=100)
@given(LINE, st.sampled_from([None, 1, 10**9]))
def test_a_usual_line_is_read_as_any(line: str, unit: int | None) -> None:
    """What the quick way makes of a line, the other makes of it."""
    found = _usual(line, unit)
    if found is not None:
        try:
            slow: object = read_slowly(line.lstrip(" ").rstrip(" \r\n"), unit)
        except Reject as reject:
            slow = reject.detail
        assert repr(found) == repr(slow)
