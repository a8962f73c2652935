"""Messages that are several readings, or say what they are in their own way: what becomes of each.

Every reading of such a message has bytes of its own, which decoded again are that reading; and every scalar
of the message is in a reading, in the count of what is left out, or in a dead letter.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cbor2
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.limits import MAX_LETTERS
from gateway.decode.refusals import MANY
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = "devices/a1/telemetry"
TS = 1_763_888_400
AT = "2025-11-23T09:00:00.000000Z"
AT_1 = "2025-11-23T09:00:01.000000Z"
Drops = dict[tuple[str, str], int]


def decode(
    message: object, route: Route, topic: str = TOPIC, decoder: Decoder | None = None
) -> tuple[list[Reading | Rejection], Drops]:
    """Readings and letters; what was left out, by name and reason."""
    decoder = decoder or Decoder(compile_routes([route]), Limits())
    decoder.drops.counts.clear()
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    found = decoder.decode(Delivered(topic, payload), Received.of(NOW))
    return found, {(name, reason): count for (_, name, reason), count in decoder.drops.counts.items()}


def readings(message: object, route: Route, topic: str = TOPIC) -> list[Reading]:
    """The readings of a message that has no letters, each decoded again from its bytes to the same."""
    found = []
    for each in decode(message, route, topic)[0]:
        assert isinstance(each, Reading), each
        (again,) = decode(each.raw, route, topic)[0]
        assert isinstance(again, Reading), again
        assert (said(again), again.raw) == (said(each), each.raw)
        found.append(each)
    return found


def said(reading: Reading) -> tuple[Any, ...]:
    """Device, region, key, time, metrics and tags; no key and no time where they were made up at arrival."""
    event = reading.event
    ts = None if event.ts == event.received_at else event.ts
    key = None if event.key.startswith("uuid:") else event.key
    return event.device_id, event.region, key, ts, metrics(reading), event.tags


def metrics(reading: Reading | Rejection) -> dict[str, Any]:
    assert isinstance(reading, Reading), reading
    return dict(json.loads(bytes(reading.event.metrics)))


def rejected(message: object, route: Route, topic: str = TOPIC) -> Rejection:
    ((item,), _) = decode(message, route, topic)
    assert isinstance(item, Rejection), item
    return item


def test_readings_of_an_array_inside() -> None:
    """Each element is a reading with its own time and key; what is around is looked for too, or left out."""
    message = {
        "gw": "g1",
        "region": "north",
        "data": [{"id": "x", "ts": TS, "t": 1}, {"id": "y", "ts": TS + 1, "t": 2, "region": "south"}],
    }
    one, two = readings(message, Route(each="data"))
    assert said(one) == ("a1", "north", "x", AT, {"t": 1}, None)
    assert said(two) == ("a1", "south", "y", AT_1, {"t": 2}, None)
    assert json.loads(one.raw) == {"data": [{"id": "x", "ts": TS, "t": 1}], "region": "north"}
    assert decode(message, Route(each="data"))[1] == {("gw", "left_out"): 1}


def test_a_key_around_several_readings() -> None:
    """The key of a message tells its readings apart by their numbers, also when one is decoded again."""
    message = {"id": "m7", "data": [{"ts": TS, "t": 1}, {"ts": TS, "t": 1}, {"ts": TS, "t": 2}]}
    found = readings(message, Route(each="data"))
    assert [each.event.key for each in found] == ["m7:0", "m7:1", "m7:2"]
    assert len({each.identity for each in found}) == len(found)
    assert all(each.keyed for each in found)


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ({"id": 7, "data": [{"t": 1}]}, ["7"]),
        ({"id": 7, "data": [{"t": 1}, {"t": 2}]}, ["7:0", "7:1"]),
        ({"id": "m", "data": {"t": 1}}, ["m"]),
        ({"id": "m", "data": [{"id": "x", "t": 1}, {"t": 2}]}, ["x", "m:1"]),
        ([{"id": "m", "data": [{"t": 1}]}, {"id": "n", "data": [{"t": 2}, {"t": 3}]}], ["m", "n:0", "n:1"]),
    ],
)
def test_which_key_a_reading_has(message: object, keys: list[str]) -> None:
    """Its own; else that of its message, as it is where it is the only one."""
    assert [each.event.key for each in readings(message, Route(each="data"))] == keys


def test_a_key_around_that_an_expression_finds() -> None:
    """Such a message cannot be cut: each reading has all of its bytes, and a key of its own all the same."""
    message = {"a": "p", "b": "q", "data": [{"t": 1}, {"t": 2}]}
    found, _ = decode(message, Route(each="data", key="join('-', [a, b])"))
    assert [said(each)[2] for each in found if isinstance(each, Reading)] == ["p-q:0", "p-q:1"]
    assert {each.raw for each in found if isinstance(each, Reading)} == {json.dumps(message).encode()}


@pytest.mark.parametrize("each", ["data", "data[?t]", "data[].{t: t}"])
def test_readings_without_keys_are_told_apart(each: str) -> None:
    """Two of one device and time have two keys, the same at each delivery, whatever bytes they have."""
    message = {"ts": TS, "data": [{"t": 1}, {"t": 2}]}
    first, again = ([said(one)[2] for one in decode(message, Route(each=each))[0]] for _ in range(2))  # type: ignore[arg-type]
    assert len(set(first)) == len(first) == 2
    assert first == again


PAIR = {"points": [[TS, 1.5], [TS + 1, 2.5]]}


@pytest.mark.parametrize(
    ("message", "words", "expected"),
    [
        (
            PAIR,
            {"each": "points", "time": "[0]", "rename": {"1": "t"}},
            [(AT, {"t": 1.5}), (AT_1, {"t": 2.5})],
        ),
        (
            PAIR,
            {"each": "points", "time": "0", "name": "'t'", "value": "1"},
            [(AT, {"t": 1.5}), (AT_1, {"t": 2.5})],
        ),
        (
            PAIR,
            {"each": "points", "time": "[0]", "name": "'t'", "value": "[1]"},
            [(AT, {"t": 1.5}), (AT_1, {"t": 2.5})],
        ),
        (
            {"p": [[[TS, "a"], {"v": 1}]]},
            {"each": "p", "time": "[0][0]", "metrics": "[1].v"},
            [(AT, {"1.v": 1})],
        ),
        (
            {"p": [[TS, 1, 2]]},
            {"each": "p", "time": "[0]", "metrics": "{all: sum([1:])}"},
            [(AT, {"all": 3})],
        ),
        (
            {"ts": TS, "v": {"a": 1, "b": [2], "c": {"d": 3}}},
            {"each": "v.*", "name": "$1", "value": "@"},
            [(AT, {"a": 1, "b": 2, "c.d": 3})],
        ),
        ({"ts": TS, "a": 1, "b": {"c": 2}}, {"metrics": "data | @"}, [(AT, {"a": 1, "b.c": 2})]),
        ({"ts": TS, "data": {"a": 1}}, {"metrics": "data | @"}, [(AT, {"a": 1})]),
        ({"ts": TS, "data": None, "a": 1}, {"metrics": "values | data | @"}, [(AT, {"a": 1})]),
    ],
)
def test_arrays_and_messages_that_hold_what_is_looked_for(
    message: object, words: dict[str, Any], expected: list[tuple[str, dict[str, Any]]]
) -> None:
    """`[0]` is a place of an element that is an array, and `@` the element, or what is left of it."""
    route = Route(**{"key": "", **words})
    decoder = Decoder(compile_routes([route]), Limits())
    for _ in range(3):  # once as anything, once to learn it, once by what is known
        found, dropped = decode(message, route, decoder=decoder)
        assert [(each.event.ts, metrics(each)) for each in found if isinstance(each, Reading)] == expected
        assert "data | @" not in str(words) or not dropped


def test_devices_by_name() -> None:
    """Where a * stands for devices, `$1` is each; its own object is looked into before the message."""
    message = {
        "ts": TS,
        "rooms": {
            "north": {"ts": TS + 1, "floor": 1, "values": [{"t": 1}]},
            "south": {"values": [{"t": 2}, {"t": 3, "ts": TS + 1}]},
        },
    }
    route = Route(topic="up", each="rooms.*.values", device="$1", key="")
    found = readings(message, route, "up")
    assert [said(each)[0] for each in found] == ["north", "south", "south"]
    assert [said(each)[3] for each in found] == [AT_1, AT, AT_1]
    assert decode(message, route, "up")[1] == {("rooms.north.floor", "left_out"): 1}


def test_numbers_that_a_star_stands_for() -> None:
    """`$1` of an array is a number, and a piece of the message keeps it."""
    message = {"ports": [{"v": [{"t": 1}]}, {"v": [{"t": 2}]}]}
    found = readings(message, Route(topic="up", each="ports.*.v", device="$1", key="", time=""), "up")
    assert [(said(each)[0], metrics(each)) for each in found] == [("0", {"t": 1}), ("1", {"t": 2})]


def test_messages_in_an_array() -> None:
    """Of an array at the root each element is a message, with what is around its own readings."""
    message = [{"ts": TS, "data": [{"t": 1}]}, {"x": 1}, {"ts": TS + 1, "data": [{"t": 2}, {"t": 3}]}]
    route = Route(each="data", key="")
    assert [(said(each)[3], metrics(each)) for each in readings(message, route)] == [
        (AT, {"t": 1}),
        (AT_1, {"t": 2}),
        (AT_1, {"t": 3}),
    ]
    assert decode(message, route)[1] == {("1.x", "left_out"): 1}


KEPWARE = {
    "timestamp": TS * 1000,
    "values": [
        {"id": "Line.Oven.T", "v": 201.5, "q": True, "t": TS * 1000},
        {"id": "Line.Oven.On", "v": "ON", "q": True, "t": TS * 1000},
        {"id": "Line.Oven.T", "v": 202, "q": False, "t": TS * 1000 + 1000},
        {"id": "Line.Oven.Set", "v": {"low": 1, "high": 2}, "q": True, "t": TS * 1000},
    ],
}


def test_names_and_values() -> None:
    """Metrics of one time are one reading, what else is said of each under its name; states are numbers."""
    route = Route(each="values", name="id", value="v", time="t | timestamp", key="", states={"ON": 1})
    one, two = readings(KEPWARE, route)
    assert metrics(one) == {
        "Line.Oven.T": 201.5,
        "Line.Oven.T.q": True,
        "Line.Oven.On": 1,
        "Line.Oven.On.q": True,
        "Line.Oven.Set.low": 1,
        "Line.Oven.Set.high": 2,
        "Line.Oven.Set.q": True,
    }
    assert said(one)[3] == AT
    assert (said(two)[3], metrics(two)) == (AT_1, {"Line.Oven.T": 202, "Line.Oven.T.q": False})
    assert decode(KEPWARE, route)[1] == {("timestamp", "left_out"): 1}


def test_what_names_a_metric_is_no_key() -> None:
    """A name counts before the key, though messages have a field of that name for one."""
    (one,) = readings([{"id": "t", "v": 1}, {"id": "u", "v": 2}], Route(name="id", value="v", time=""))
    assert (metrics(one), one.keyed) == ({"t": 1, "u": 2}, False)


def test_a_metric_that_is_said_again() -> None:
    """One that comes twice for one time is two readings, and neither is lost."""
    found = readings([{"n": "t", "v": 1}, {"n": "t", "v": 2}], Route(name="n", value="v", time=""))
    assert [metrics(each) for each in found] == [{"t": 1}, {"t": 2}]


@pytest.mark.parametrize(
    ("message", "route", "expected"),
    [
        ({"t": 5, "u": "x"}, Route(each="*", name="$1", value="value", key="", time=""), {"t": 5, "u": "x"}),
        ([["t", 5], ["u", 6]], Route(name="0", value="1", time=""), {"t": 5, "u": 6}),
        ({"n": 7, "v": 1}, Route(name="n", value="v", time=""), {"7": 1}),
        ({"n": "t", "v": [1, 2]}, Route(name="n", value="v", time=""), {"t.0": 1, "t.1": 2}),
        ({"n": "t", "v": None, "unit": "C"}, Route(name="n", value="v", time=""), {"t.unit": "C"}),
        ({"p": {"n": "t"}, "v": 1, "w": 2}, Route(name="p.n", value="v", time=""), {"t": 1, "t.w": 2}),
    ],
)
def test_kinds_of_names_and_values(message: object, route: Route, expected: dict[str, Any]) -> None:
    """Members by their names, pairs, numbers for names, values that are objects or null."""
    (one,) = readings(message, route)
    assert metrics(one) == expected


@pytest.mark.parametrize(
    ("topic", "message", "expected"),
    [
        ("s/a1/temp", [{"n": "x", "v": 1}, {"n": "value", "v": 2}], {"temp.x": 1, "temp": 2}),
        ("s/a1/temp", [{"n": "x", "v": 1}], {"temp.x": 1}),
    ],
)
def test_a_topic_that_names_metrics_beside_elements_that_do(
    topic: str, message: object, expected: dict[str, Any]
) -> None:
    """What the topic calls it stands in front, so that neither name is lost."""
    route = Route(topic="s/{device_id}/{metric}", name="n", value="v", time="")
    merged: dict[str, Any] = {}
    for each in readings(message, route, topic):
        merged |= metrics(each)
    assert merged == expected


def test_a_topic_that_names_the_metric_of_elements() -> None:
    """Each element is under the topic's name, scalars are the metric itself."""
    route = Route(topic="s/{device_id}/{metric}", each="data", time="")
    message = {"data": [5, {"value": 6, "unit": "C"}, {"x": 7}]}
    found = [metrics(each) for each in readings(message, route, "s/a1/temp")]
    assert found == [{"temp": 5}, {"temp": 6, "temp.unit": "C"}, {"temp.x": 7}]


def test_metrics_of_one_path() -> None:
    """Only what stands there is metrics; the rest is counted, but for what is looked for."""
    message = {"ts": TS, "a": {"t": 1, "ts": 5}, "b": {"u": 2}, "n": 3}
    found, drops = decode(message, Route(metrics="nothing | a"))
    assert metrics(found[0]) == {"t": 1, "ts": 5}
    assert drops == {("b.u", "left_out"): 1, ("n", "left_out"): 1}


@pytest.mark.parametrize(
    ("path", "message", "expected", "left"),
    [
        ("a[0]", {"a": [{"t": 1}, {"t": 2}]}, {"t": 1}, {"a.1.t"}),
        ("a[-1]", {"a": [{"t": 1}, {"t": 2}], "n": 1}, {"t": 2}, {"a.0.t", "n"}),
        ("a.{x: t}", {"a": {"t": 1, "u": 2}}, {"x": 1}, {"(beside metrics)"}),
        ("merge(a, @)", {"a": {"t": 1}, "n": 2}, {"t": 1, "a.t": 1, "n": 2}, set()),
        ("merge(@, {n: `3`})", {"n": 2, "t": 1}, {"t": 1, "n": 3}, {"(beside metrics)"}),
        ('"a.b"', {"a.b": {"t": 1}, "c": 1}, {"t": 1}, {"c"}),
        ("a | b", {"a": 5}, {"a": 5}, set()),
        ("a | b", {"b": [5, 6]}, {"0": 5, "1": 6}, set()),
    ],
)
def test_metrics_of_an_expression(path: str, message: object, expected: object, left: set[str]) -> None:
    """What it takes as it stands is told from the rest; of what it makes only that there may be a rest."""
    found, drops = decode(message, Route(metrics=path, time=""))
    assert metrics(found[0]) == expected
    assert {name for name, _ in drops} == left


def test_a_path_within_the_metrics() -> None:
    """What is looked for there is no metric, and the message is none without the object."""
    route = Route(metrics="a | b", time="a.ts", key="a.id")
    (one,) = readings({"a": {"ts": TS, "id": "k", "t": 1}}, route)
    assert said(one) == ("a1", None, "k", AT, {"t": 1}, None)
    assert rejected({"c": 1}, route).reason == "no_metrics"


def test_names_in_the_object_of_metrics() -> None:
    """A metric may be called as a time is; what its own path finds in the object is no metric."""
    plain = {"ts": TS, "metrics": {"ts": 5, "t": 1}}
    (one,) = readings(plain, Route(rename={"t": "u"}))
    assert (said(one)[3], metrics(one)) == (AT, {"ts": 5, "u": 1})
    (two,) = readings({"metrics": {"ts": TS, "t": 1}}, Route(rename={"t": "u"}, time="metrics.ts"))
    assert (said(two)[3], metrics(two)) == (AT, {"u": 1})


def test_what_is_named_but_does_not_count() -> None:
    """Of alternatives in an element the others are metrics; of those around it they are counted."""
    (one,) = readings({"id": "k", "message_id": "m", "x": 1}, Route(rename={"x": "y"}))
    assert metrics(one) == {"message_id": "m", "y": 1}
    drops = decode({"id": "k", "message_id": "m", "data": [{"id": "e", "t": 1}]}, Route(each="data"))[1]
    assert drops == {("id", "left_out"): 1, ("message_id", "left_out"): 1}


def test_tags() -> None:
    """Scalars are tags by their last names, objects by the names of their members; none is a metric."""
    message = {
        "dev": {"name": "n1"},
        "labels": {"a": True, "b": {"c": 1.5}},
        "fw": None,
        "t": 1,
        "list": ["x"],
    }
    (one,) = readings(message, Route(tags=("dev.name", "labels", "fw", "list"), time=""))
    assert said(one)[4:] == ({"t": 1}, {"name": "n1", "a": "true", "b.c": "1.5", "list.0": "x"})


def test_tags_with_one_last_name() -> None:
    """Where two paths end alike the tags have the whole paths for names."""
    (one,) = readings({"a": {"n": "x"}, "b": {"n": "y"}, "t": 1}, Route(tags=("a.n", "b.n"), time=""))
    assert said(one)[5] == {"a.n": "x", "b.n": "y"}
    for message in ({"info": {"name": "x"}, "t": 1}, {"title": "x", "t": 1}):  # as the first of two
        (one,) = readings(message, Route(tags=("info.name | title",), time=""))
        assert said(one)[5] == {"name": "x"}


def test_a_tag_that_is_the_device_too() -> None:
    """What means something else can be a tag as well, around an element too."""
    message = {"dev": "d1", "data": [{"t": 1}, {"t": 2}]}
    for one in readings(message, Route(topic="up", each="data", device="dev", tags=("dev",), time=""), "up"):
        assert (said(one)[0], said(one)[5]) == ("d1", {"dev": "d1"})


def test_tags_of_the_topic_count_more() -> None:
    """What the payload says under the name of one is left out, and counted where it is something else."""
    route = Route(topic="{room}/{device_id}", tags=("room",), time="")
    found, drops = decode({"room": "x", "t": 1}, route, "hall/a1")
    assert isinstance(found[0], Reading)
    assert (found[0].event.tags, drops) == ({"room": "hall"}, {("room", "left_out"): 1})
    assert decode({"room": "hall", "t": 1}, route, "hall/a1")[1] == {}


@pytest.mark.parametrize(
    "labels",
    [
        {"claimed_ts": "2020"},
        {"x": "y" * 257},
        {"x" * 129: "y"},
        {"": "y"},
        {"x": "a\x00b"},
        {"a\nb": "x"},
        {str(i): "x" for i in range(257)},
        {"a": {"b": 1}, "a.b": 2},
    ],
)
def test_tags_that_cannot_be(labels: dict[str, object]) -> None:
    """The message is refused, or goes without such a tag, and that is counted."""
    message = {"labels": labels, "t": 1}
    assert rejected(message, Route(tags=("labels",), time="")).reason in {"invalid_tag", "duplicate_key"}
    found, drops = decode(message, Route(tags=("labels",), time="", on_bad_field="drop"))
    assert metrics(found[0]) == {"t": 1}
    assert sum(drops.values()) == 1


def test_a_time_that_is_not_relied_on() -> None:
    """The claimed one is a tag beside those of the payload."""
    message = {"data": [{"ts": 12, "t": 1, "fw": "1.2"}, {"ts": TS, "t": 2}]}
    one, two = readings(message, Route(each="data", tags=("fw",), clock="prefer"))
    assert said(one)[3:] == (None, {"t": 1}, {"fw": "1.2", "claimed_ts": "12"})
    assert said(two)[3:] == (AT, {"t": 2}, None)
    received = readings({"ts": TS, "data": [{"t": 1}, {"t": 2}]}, Route(each="data", clock="received"))
    assert [said(each)[3:] for each in received] == [
        (None, {"t": 1}, {"claimed_ts": str(TS)}),
        (None, {"t": 2}, {"claimed_ts": str(TS)}),
    ]


def test_one_bad_element_beside_good_ones() -> None:
    """It is a letter with its own bytes, which after a mend are one reading; the others are stored."""
    message = {
        "id": "m",
        "gw": "g",
        "data": [{"ts": TS, "t": 1}, {"ts": "never", "t": 2}, {"ts": TS, "t": 3}],
    }
    found, drops = decode(message, Route(each="data"))
    one, bad, three = found
    assert (metrics(one), metrics(three)) == ({"t": 1}, {"t": 3})
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.error[:11]) == ("invalid_time", "element 1: ")
    assert json.loads(bad.payload) == {"data": [{"ts": "never", "t": 2}], "id": "m:1"}
    assert drops == {("gw", "left_out"): 1}
    (mended,) = decode(bad.payload, Route(each="data", clock="prefer"))[0]
    assert isinstance(mended, Reading)
    assert (mended.event.key, metrics(mended)) == ("m:1", {"t": 2})


def test_one_bad_reading_that_is_all() -> None:
    """A message that is one reading is refused as it came."""
    payload = b'{"gw": "g",  "data": [{"ts": "never"}]}'
    letter = rejected(payload, Route(each="data"))
    assert (letter.reason, letter.payload) == ("invalid_time", payload)
    assert not letter.error.startswith("element")
    assert decode(payload, Route(each="data"))[1] == {}


def test_one_bad_reading_of_what_cannot_be_cut() -> None:
    """Then all of the message is refused, with all of its bytes, and nothing is counted as left out."""
    message = {"x": 1, "data": [{"ts": TS, "t": 1}, {"ts": "never", "t": 2}]}
    found, drops = decode(message, Route(each="data[?t]"))
    assert [type(each) for each in found] == [Rejection]
    assert (found[0].payload if isinstance(found[0], Rejection) else b"") == json.dumps(message).encode()
    assert drops == {}


@pytest.mark.parametrize("key", [{}, {"id": "m"}])
def test_many_bad_elements(key: dict[str, str]) -> None:
    """What follows the first is one letter, and after a mend its bytes are the same readings, keys too."""
    bad = [{"ts": "never", "t": at} for at in range(30)]
    message = {**key, "x": 1, "data": [{"ts": TS, "t": -1}, *bad]}
    found, _ = decode(message, Route(each="data"))
    letters = [each for each in found if isinstance(each, Rejection)]
    assert (len(letters), len(found)) == (MAX_LETTERS + 1, MAX_LETTERS + 2)
    assert letters[-1].reason == MANY
    assert len(letters[-1].payload) <= len(json.dumps(message))
    mended, replayed = Route(each="data", clock="prefer"), []
    for letter in letters:
        replayed += decode(letter.payload, mended)[0]
    assert all(isinstance(each, Reading) for each in replayed)
    at_once = {(r.identity, str(metrics(r))) for r in decode(message, mended)[0] if isinstance(r, Reading)}
    if key:  # the last letter is all of the message, and those that are stored have the keys they had
        assert {(r.identity, str(metrics(r))) for r in replayed if isinstance(r, Reading)} == at_once
    else:
        assert sorted(metrics(each)["t"] for each in replayed) == list(range(30))


def test_bad_fields_that_are_dropped() -> None:
    """They are counted by name and reason, each once, and not of what is refused."""
    inside = b'{"ts": 1763888400, "t": NaN, "u": 1}, {"ts": "never", "t": Infinity}, {"ts": NaN, "t": 2}'
    message = b'{"data": [' + inside + b"]}"
    found, drops = decode(message, Route(each="data", on_bad_field="drop", clock="device", key=""))
    assert metrics(found[0]) == {"u": 1}
    assert [each.reason for each in found[1:] if isinstance(each, Rejection)] == [
        "invalid_time",
        "invalid_time",
    ]
    assert drops == {("t", "malformed_json"): 1}
    letter = found[2]
    assert isinstance(letter, Rejection)
    assert letter.payload == b'{"data":[{"ts":NaN,"t":2}]}'


def test_a_value_that_is_no_number() -> None:
    """Of names and values too it is refused or dropped by its reason, and its neighbours are read."""
    message = b'[{"n": "t", "v": NaN, "q": 1}, {"n": "u", "v": 1e400}, {"n": "w", "v": 1}]'
    (bad, also, good), _ = decode(message, Route(name="n", value="v", time=""))
    assert isinstance(bad, Rejection)
    assert isinstance(also, Rejection)
    assert (bad.reason, also.reason) == ("malformed_json", "number_out_of_range")
    assert metrics(good) == {"w": 1}
    found, drops = decode(message, Route(name="n", value="v", time="", on_bad_field="drop"))
    assert [metrics(each) for each in found] == [{"t.q": 1, "w": 1}]
    assert drops == {("t", "malformed_json"): 1, ("u", "number_out_of_range"): 1}


@pytest.mark.parametrize(
    ("message", "route", "reason"),
    [
        ([], Route(each="data"), "empty_message"),
        ({}, Route(each="data"), "empty_message"),
        ({"data": []}, Route(each="data"), "empty_message"),
        ({"data": [None]}, Route(each="data"), "empty_message"),
        ([], Route(rename={"a": "b"}), "empty_message"),
        (None, Route(rename={"a": "b"}), "wrong_root"),
        (5, Route(rename={"a": "b"}), "wrong_root"),
        ("x", Route(rename={"a": "b"}), "wrong_root"),
        ([5], Route(rename={"a": "b"}), "wrong_root"),
        ([[5]], Route(rename={"a": "b"}), "wrong_root"),
        ({"a": 1, "b": 2}, Route(rename={"a": "b"}), "duplicate_key"),
        ({"n": "", "v": 1}, Route(name="n", value="v"), "invalid_metric"),
        ({"v": 1}, Route(name="n", value="v"), "invalid_metric"),
        ({"n": ["t"], "v": 1}, Route(name="n", value="v"), "invalid_metric"),
        ({"n": "x" * 129, "v": 1}, Route(name="n", value="v"), "invalid_metric"),
        ({"n": "x\ny", "v": 1}, Route(name="n", value="v"), "invalid_metric"),
        ({"n": "t", "v": {"q": 1}, "q": 2}, Route(name="n", value="v"), "duplicate_key"),
        ({"id": {"x": 1}, "a": 1}, Route(rename={"a": "b"}), "invalid_key"),
        ({"device_id": "other", "a": 1}, Route(rename={"a": "b"}), "device_mismatch"),
    ],
)
def test_what_is_no_reading(message: object, route: Route, reason: str) -> None:
    """It is refused, with the reason that any message of the kind has."""
    letter = rejected(message, route)
    assert letter.reason == reason
    assert letter.payload == json.dumps(message).encode()


def test_a_name_that_is_dropped() -> None:
    """An element whose name cannot be a metric's goes without, all that it says is counted."""
    found, drops = decode(
        [{"n": "x\ny", "v": 1, "q": 2}, {"n": "t", "v": 3}], Route(name="n", value="v", on_bad_field="drop")
    )
    assert [metrics(each) for each in found if metrics(each)] == [{"t": 3}]
    assert drops == {("x\ny", "invalid_metric"): 1, ("q", "left_out"): 1}


def test_numbers_in_texts() -> None:
    """They are numbers where the route says so; units are cut off, or kept where it says that."""
    message = {"a": "21,5", "b": "21,5 °C", "c": "x", "d": {"e": "7"}}
    (one,), drops = decode(message, Route(numbers="from_text", time=""))
    assert metrics(one) == {"a": 21.5, "b": 21.5, "c": "x", "d.e": 7}
    assert drops == {("b.unit", "unit"): 1}
    (two,) = readings(message, Route(numbers="from_text_with_unit", time=""))
    assert metrics(two) == {"a": 21.5, "b": 21.5, "b.unit": "°C", "c": "x", "d.e": 7}


def test_names_that_are_changed_and_left_out() -> None:
    """Names are those of the flattened metrics; what is left out is counted."""
    message = {"ENERGY": {"Power": 12, "Total": 3}, "Wifi": {"AP": 1}, "t": 1}
    found, drops = decode(message, Route(rename={"ENERGY.*": "*"}, ignore=("Wifi.*",), time=""))
    assert metrics(found[0]) == {"Power": 12, "Total": 3, "t": 1}
    assert drops == {("Wifi.AP", "ignored"): 1}


@pytest.mark.parametrize(
    ("words", "said_"),
    [
        ({"name": "n"}, "route[0].value: "),
        ({"value": "v"}, "route[0].name: "),
        ({"name": "n", "value": "v", "metrics": "m"}, "route[0].metrics: "),
        ({"device": "$1"}, "route[0].device: "),
        ({"each": "a.*", "key": "$2"}, "route[0].key: "),
        ({"each": "a[?b]", "device": "$1"}, "route[0].device: "),
        ({"tags": ("claimed_ts",)}, "route[0].tags: "),
        ({"tags": ("a", "a")}, "route[0].tags: "),
        ({"tags": ("foo(a)",)}, "route[0].tags: "),
        ({"time": "to_time(a)"}, "route[0].time: "),
        ({"each": "a["}, "route[0].each: "),
        ({"metrics": "a | "}, "route[0].metrics: "),
        ({"rename": {"a": "*"}}, "route[0].rename: "),
    ],
)
def test_routes_that_mean_nothing(words: dict[str, Any], said_: str) -> None:
    """What could never do what it says is refused at start, with its setting."""
    with pytest.raises(ConfigurationError) as error:
        Decoder(compile_routes([Route(**words)]), Limits())
    assert str(error.value).startswith(said_)


@pytest.mark.parametrize(
    ("count", "message", "route"),
    [
        (10_000, lambda i: {"data": [{"t": i}] * i, "id": "m"}, Route(each="data")),
        (5_000, lambda i: [{"n": f"m{n}", "v": n} for n in range(i)], Route(name="n", value="v", time="")),
        (5_000, lambda i: {"data": [{}] * i}, Route(each="data")),
        (5_000, lambda i: [{"n": "t", "v": 1}] * i, Route(name="n", value="v", time="")),
        (5_000, lambda i: {"ts": TS, "data": [{"n": "t", "ts": n, "v": n} for n in range(i)]},
         Route(each="data", name="n", value="v")),
        (5_000, lambda i: {"d": {str(n): [n] for n in range(i)}},
         Route(topic="devices/+/telemetry", each="d.*", device="$1", time="")),
        (5_000, lambda i: {"x": list(range(i)), "data": [{"t": 1}]}, Route(each="data", time="")),
        (5_000, lambda i: {str(n): n for n in range(i)}, Route(tags=("x",), time="")),
    ],
)  # fmt: skip
def test_a_great_many_elements(count: int, message: Callable[[int], object], route: Route) -> None:
    """However many there are, what is kept of them is not much more than the message."""
    decoder = Decoder(compile_routes([route]), Limits(max_payload_bytes=10_000_000))
    payload = json.dumps(message(count)).encode()
    found = decoder.decode(Delivered(TOPIC, payload), Received.of(NOW))
    assert found
    assert sum(len(each.raw if isinstance(each, Reading) else each.payload) for each in found) < 20 * len(
        payload
    )


@pytest.mark.parametrize(("each", "reason"), [("data", "too_many_readings"), ("data[?t]", "too_many_values")])
def test_a_great_deal_around_a_great_many(each: str, reason: str) -> None:
    """What would fill the memory, being said with each reading, is refused as a whole."""
    message = {"ts": "x" * 100_000, "data": [{"t": i} for i in range(5_000)]}
    letter = rejected(message, Route(each=each, clock="prefer"))
    assert letter.reason == reason
    assert letter.payload == json.dumps(message).encode()


# Every scalar of these messages is another, so that each can be looked for.
NAMES = ["id", "ts", "region", "device_id", "readings", "metrics", "n", "v", "a", "a.b", "tag"]
shapes = st.recursive(
    st.sampled_from(["text", "number", "time", "null", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=4)
    ),
    max_leaves=14,
)
elements = st.dictionaries(st.sampled_from(NAMES), shapes, min_size=1, max_size=4)
messages = (
    st.dictionaries(st.sampled_from(NAMES), shapes, min_size=1, max_size=5)
    | st.lists(elements, min_size=1, max_size=4)
    | st.builds(lambda around, inner: {**around, "readings": inner}, elements, st.lists(elements, max_size=4))
)
ROUTES = [
    Route(
        topic="t/{room}",
        **{"device": "device_id | $never", "clock": "prefer", "on_bad_field": "drop"} | words,
    )
    for words in (
        {"each": "readings"},
        {"each": "readings", "key": "id", "tags": ("tag", "a.b")},
        {"each": "readings", "name": "n", "value": "v", "key": ""},
        {"each": "*", "name": "$1", "value": "value", "device": "device_id | region", "region": ""},
        {"each": "readings[?n]", "device": "device_id || 'd'"},
        {"each": "readings[].{n: n, v: v}", "device": "'d'"},
        {"each": "readings.*", "device": "$1"},
        {"each": "readings | a", "rename": {"*": "x*"}},
        {"name": "n", "value": "v"},
        {"metrics": "metrics | a", "tags": ("tag",)},
        {"metrics": "metrics[0] || a", "device": "'d'"},
        {"rename": {"a.*": "*"}, "ignore": ("v",), "tags": ("region",)},
        {"each": "readings", "on_bad_field": "reject", "clock": "device"},
        {"each": "readings", "clock": "received", "identity": "key+time"},
    )
]

DECODERS = [Decoder(compile_routes([route]), Limits()) for route in ROUTES]


def made(shape: Any, numbers: list[int]) -> Any:  # noqa: ANN401  # a message is any value
    """A message of a shape, each of its scalars another."""
    if isinstance(shape, dict):
        return {name: made(member, numbers) for name, member in shape.items()}
    if isinstance(shape, list):
        return [made(member, numbers) for member in shape]
    numbers[0] += 1
    kinds = {"text": f"v{numbers[0]}v", "number": 70_000 + numbers[0], "time": TS + numbers[0]}
    return kinds.get(shape, {"null": None, "true": True}[shape] if shape in {"null", "true"} else None)


def scalars(value: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401  # likewise
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        return [each for name, member in members for each in scalars(member, f"{path}.{name}")]
    return [] if value is None or value is True else [(path[1:], value)]


def is_said(value: object, found: list[Reading | Rejection]) -> bool:
    at = f"{datetime.fromtimestamp(value, UTC):%Y-%m-%dT%H:%M:%S}" if type(value) is int else "never"
    for each in found:
        if isinstance(each, Rejection):
            if str(value).encode() in each.payload:
                return True
        elif str(value) in f"{said(each)}{each.event.key}" or at in each.event.ts:
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(messages, st.sampled_from(range(len(ROUTES))))
def test_nothing_vanishes(shape: object, at: int) -> None:
    """Every scalar is in a reading, in a letter, or counted under its name as what is left out."""
    message = made(shape, [0])
    found, drops = decode(message, ROUTES[at], "t/hall", DECODERS[at])
    names = {name for name, _ in drops}
    assert found
    for path, value in scalars(message):
        counted = any(f".{path}".endswith(f".{name}") or f"{name}." in f"{path}." for name in names)
        assert counted or any("(" in name for name in names) or is_said(value, found), (
            path,
            value,
            found,
            drops,
        )


@settings(max_examples=60, deadline=None)
@given(messages, st.sampled_from(range(len(ROUTES))))
@example([{"id": "text"}, *[{"id": ["text"] * 3}] * 2, {"id": ["text"] * 3, "ts": ["text"] * 3}], 3)
@example(
    [{"id": "text"}, {"id": ["text"] * 2}, {"id": ["text"] * 3}, {"id": ["text"] * 3, "ts": ["text"] * 3}], 3
)
def test_pieces_are_decoded_to_themselves(shape: object, at: int) -> None:
    """The bytes of a reading are that reading alone, or where they are all of the message, among others."""
    message = made(shape, [0])
    payload = json.dumps(message).encode()
    found, _ = decode(message, ROUTES[at], "t/hall", DECODERS[at])
    for each in found:
        piece = each.raw if isinstance(each, Reading) else each.payload
        again, _ = decode(piece, ROUTES[at], "t/hall", DECODERS[at])
        if isinstance(each, Reading):
            assert said(each) in [said(one) for one in again if isinstance(one, Reading)]
            assert len(again) == (len(found) if each.raw == payload else 1)
        elif each.reason == MANY:  # its elements, each refused by itself as far as there are letters
            many = int(each.error.split()[0])
            assert len(again) == min(many, MAX_LETTERS + 1)
            assert all(isinstance(one, Rejection) for one in again)
        elif each.payload != payload:
            (one,) = again
            assert isinstance(one, Rejection)
            assert one.reason == each.reason


def test_the_same_in_binary() -> None:
    """What is cut of MessagePack and CBOR is decoded again, too."""
    message = {"id": "m", "ts": TS, "data": [{"t": 1}, {"t": 2.5}]}
    for form, payload in (("msgpack", msgspec.msgpack.encode(message)), ("cbor", cbor2.dumps(message))):
        found = readings(payload, Route(format=form, each="data"))  # type: ignore[arg-type]
        assert [said(each)[2:5] for each in found] == [("m:0", AT, {"t": 1}), ("m:1", AT, {"t": 2.5})]


def test_an_element_that_cannot_be_read_keeps_its_key() -> None:
    """A letter of one that says something twice has its number in its key, as its neighbours have."""
    bad = {"a": {"b": 1}, "a.b": 2}
    found, _ = decode({"id": "m", "data": [{"t": 1}, bad, bad, {"id": "own", **bad}]}, Route(each="data"))
    letters = [json.loads(each.payload) for each in found if isinstance(each, Rejection)]
    assert letters == [
        {"id": "m:1", "data": [bad]},
        {"id": "m:2", "data": [bad]},
        {"id": "m", "data": [{"id": "own", **bad}]},
    ]
