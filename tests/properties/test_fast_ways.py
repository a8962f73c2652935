"""A decoder that has seen messages of a shape makes of the next what one makes that has seen none."""

from __future__ import annotations

import json
import re
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import cbor2
import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Received, Rejection
from gateway.decode.dialects import complete_routes, names, read
from gateway.decode.examples import payload_of
from gateway.decode.formats.influx import _usual, read_slowly
from gateway.decode.formats.sparkplug import read_slowly as read_sparkplug_slowly
from gateway.decode.formats.sparkplug_usual import Usual, look
from gateway.decode.routes import compile_routes
from gateway.sparkplug.naming import Unnamed, complete
from gateway.sparkplug.nodes.tables import Metric
from runtime.errors import Reject
from runtime.settings import Route
from runtime.settings.route import Example
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from collections.abc import Callable

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
    Route(topic=TOPIC, each="a", name="name", value="v", time="t", key="", numbers="from_text_with_unit"),
)
LABELS: dict[str, int] = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2, "vs": 3, "t": 6}
# Of other formats: what makes a payload of an object, and how many of them are one.
OTHERS: tuple[tuple[Route, Callable[[list[Any]], bytes]], ...] = (
    (
        Route(topic=TOPIC, format="msgpack", time="t", key="id | k", rename={"v": "w"}, on_bad_field="drop"),
        lambda messages: msgspec.msgpack.encode(messages[0]),
    ),
    (
        Route(topic=TOPIC, format="cbor", time="t", key="", tags=("g",), states={"ON": 1}),
        lambda messages: cbor2.dumps(messages[0]),
    ),
    (
        Route(topic=TOPIC, format="ndjson", time="t", key="id | k", rename={"v": "w"}),
        lambda messages: b"\n".join(json.dumps(each).encode() for each in messages),
    ),
    (
        Route(topic=TOPIC, format="ndjson", each="a | o", time="t", key="id | k", tags=("g",)),
        lambda messages: b"\n".join(json.dumps(each).encode() for each in messages),
    ),
    (
        Route(
            topic=TOPIC, format="csv", time="t", key="id", numbers="from_text", states={"ON": 1}, tags=("g",)
        ),
        lambda messages: b"t,id,g,v\n" + b"\n".join(map(row, messages)),
    ),
    (
        msgspec.structs.replace(SENML, on_bad_field="drop"),
        lambda messages: cbor2.dumps([{LABELS.get(name, name): each for name, each in messages[0].items()}]),
    ),
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


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def sized(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


NUMBERS = st.sampled_from([0, 1, 127, 128, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 1_795_424_400_000])
TEXTS = st.sampled_from(["a", "b", "a/b", "é", "", "x" * 130, "\ue0001"])
WIRE = st.one_of(
    st.builds(number, st.sampled_from([2, 3, 4, 7, 10, 11, 14, 6]), NUMBERS),
    st.builds(sized, st.sampled_from([1, 15, 9]), TEXTS),
    st.builds(
        lambda value: b"\x69" + struct.pack("<d", value), st.sampled_from([21.5, -0.0, float("nan"), 1e308])
    ),
    st.builds(lambda value: b"\x65" + struct.pack("<f", value), st.sampled_from([21.5, float("inf")])),
)
METRIC = st.lists(WIRE, max_size=5).map(lambda fields: b"".join([sized(1, "m"), *fields]))
USUAL_METRIC = st.builds(
    lambda name, when, of, value: (
        sized(1, name) + (number(3, when) if when else b"") + (number(4, of) if of else b"") + value
    ),
    st.sampled_from(["a", "b", "c/d"]),
    st.sampled_from([0, 1_795_424_400_000, 1_795_424_400_001]),
    st.sampled_from([0, 1, 3, 4, 7, 9, 10, 11]),
    st.one_of(
        st.builds(lambda value: b"\x69" + struct.pack("<d", value), st.sampled_from([21.5, -0.0, 1e308])),
        st.builds(number, st.sampled_from([10, 11]), NUMBERS),
        st.sampled_from([b"\x70\x00", b"\x70\x01", b""]),
    ),
)
ALIASED_METRIC = st.builds(
    lambda named, alias, metric: (metric[:3] if named else b"") + number(2, alias) + metric[3:],
    st.sampled_from([False, False, True]),
    st.sampled_from([1, 2, 3, 4, 24, 200]),
    USUAL_METRIC.filter(lambda metric: metric[1] == 1),  # of a name of one letter
)
SPARKPLUG = st.builds(
    lambda metrics, end: number(1, 1_795_424_400_000) + b"".join(sized(2, each) for each in metrics) + end,
    st.lists(USUAL_METRIC | ALIASED_METRIC | METRIC, max_size=3),
    st.sampled_from([b"\x18\x05", b"\x18\xff\x01", b"\x18\x80\x02", b"", b"\x18", b"\x18\x05\x00"]),
)


def row(message: Any) -> bytes:  # noqa: ANN401  # likewise
    """A line of the values of an object."""
    cells = [message.get(name) for name in ("t", "id", "g", "v")]
    texts = ["" if each is None else f"{each}".replace("\x00", "0") for each in cells]
    return ",".join(f'"{each}"' if each[:1] in {"2", ""} else each for each in texts).encode()


@cache
def dialect(name: str) -> tuple[list[CompiledRoute], Decoder, list[tuple[str, bytes]]]:
    """The routes of a dialect below a prefix, a decoder that remembers, and the messages of its examples."""
    raw: dict[str, Any] = {"route": [{"dialect": name, "prefix": "hall/"}]}
    complete_routes(raw)
    routes = compile_routes(msgspec.convert(raw["route"], list[Route]))
    examples = [
        msgspec.convert(example, Example)
        for route in read(name).routes.values()
        for example in route.get("example", ())
    ]
    messages = [(f"hall/{example.topic}", payload_of(example, name)) for example in examples]
    return routes, Decoder(routes, Limits()), messages


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


def bytes_of(number: int, message: Any) -> bytes:  # noqa: ANN401  # likewise
    if ROUTES[number] is INFLUX:
        return "\n".join(message).encode()
    return json.dumps(message).encode()


def check(number: int, messages: list[Any]) -> None:
    topic = "t/d/v" if ROUTES[number].topic.count("/") > 1 else "t/d"
    decoder = Decoder(compiled(number), Limits())
    for message in messages:
        payload = bytes_of(number, message)
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


def same(decoder: Decoder, fresh: Decoder, topic: str, payloads: list[bytes]) -> None:
    for payload in payloads:
        assert said(decoder, topic, payload) == said(fresh, topic, payload), (topic, payloads)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_nor_does_it_in_other_formats(data: st.DataObject) -> None:
    """So it is of CBOR, MessagePack and lines."""
    route, write = data.draw(st.sampled_from(OTHERS))
    one = data.draw(RECORD if route.format == "senml" else LIST | SHAPED | OBJECT if route.each else OBJECT)
    payloads = []
    for messages in ([one, one], [one], [other_values(one, data.draw), one], [other_values(one, data.draw)]):
        try:
            payloads.append(write(messages))
        except (OverflowError, UnicodeEncodeError):
            assume(False)  # noqa: FBT003  # nothing that the format has
    decoder = Decoder(compile_routes([route]), Limits())
    for payload in (payloads[0], *payloads, payloads[1]):
        same(decoder, Decoder(compile_routes([route]), Limits()), "t/d", [payload])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_nor_does_it_in_dialects(data: st.DataObject) -> None:
    """So it is of what devices of each dialect send, below a prefix, with other values in it."""
    routes, decoder, messages = dialect(data.draw(st.sampled_from(names())))
    topic, payload = data.draw(st.sampled_from(messages))
    payloads = [payload, payload]
    try:
        value = json.loads(payload)
    except ValueError:
        pass
    else:
        if type(value) in {dict, list}:
            payloads += [json.dumps(other_values(value, data.draw)).encode() for _ in range(2)]
    for each in (*payloads, payload):
        same(decoder, Decoder(routes, Limits()), topic, [each])


@settings(max_examples=100, deadline=None)
@given(st.lists(SPARKPLUG, min_size=1, max_size=3))
def test_usual_sparkplug_is_read_as_any(payloads: list[bytes]) -> None:
    """What the quick way makes of a payload, the other makes of it; and what was seen changes nothing."""
    topic = "spBv1.0/north/DDATA/l1/d1"
    raw: dict[str, Any] = {"route": [{"dialect": "ignition/device-data"}]}
    complete_routes(raw)
    routes = compile_routes(msgspec.convert(raw["route"], list[Route]))
    decoder = Decoder(routes, Limits())
    for payload in (*payloads, *payloads, *payloads):
        if (found := look(payload)) is not None:
            assert repr(found.value) == repr(read_sparkplug_slowly(payload))
        same(decoder, Decoder(routes, Limits()), topic, [payload])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(ALIASED_METRIC | USUAL_METRIC, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from([0, 1, 0x10, 0x18, 0x69, 0x7F, 0x80, 0xFF]))),
)
def test_a_laid_out_payload_is_read_as_any(metrics: list[bytes], changes: list[tuple[int, int]]) -> None:
    """Where pieces stood before they are looked for, and nothing is taken for what it is not."""
    said = b"".join(sized(2, each) for each in metrics)
    payload = number(1, 1_795_424_400_000) + said + b"\x18\x05"
    for _ in range(3):
        look(payload)
    other = bytearray(payload)
    for at, byte in changes:
        other[at % len(other)] = byte
        if (found := look(bytes(other))) is not None:
            assert repr(found.value) == repr(read_sparkplug_slowly(bytes(other)))


KNOWN = {
    1: Metric("a", 1),
    2: Metric("b\x1fc", 10),
    3: Metric("m", 4),
    "a": Metric("a", 2),
    "m": Metric("m", 0),
}


@settings(max_examples=100, deadline=None)
@given(st.lists(ALIASED_METRIC | USUAL_METRIC, min_size=1, max_size=3))
def test_a_glance_is_named_as_any(metrics: list[bytes]) -> None:
    """What a birth says of metrics that have aliases alone is the same, looked at or read."""
    payload = number(1, 1_795_424_400_000) + b"".join(sized(2, each) for each in metrics) + b"\x18\x05"
    slow = read_sparkplug_slowly(payload)
    for _ in range(3):
        glance = look(payload)
        if glance is None:
            return
        found: list[object] = []
        for value in (glance, slow):
            try:
                named = complete(value, KNOWN.get)
            except Unnamed as unnamed:
                found.append(unnamed.key)
            else:
                text = repr(named.value if isinstance(named, Usual) else named)
                found.append(re.sub(r" object at 0x\w+", "", text))
        assert found[0] == found[1]


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
