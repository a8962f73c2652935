"""What is known of a shape says of each message what comes of it when it is read as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Limits
from gateway.decode.known import Room
from gateway.decode.limits import MAX_WORK
from gateway.decode.mapping import Shaper
from gateway.decode.mapping.learned import nothing_known
from gateway.decode.plan import plan_of
from runtime.settings import Route
from tests.unit.test_mapping_listed import ELEMENT, MESSAGE, NAMES, ROUTES, USUAL, VALUE

if TYPE_CHECKING:
    from gateway.decode.mapping.learned import Known

OBJECTS = (
    Route(time="t | time", key="id", region="u", states={"a": 1}),
    Route(time="tags.t", key="", tags=("tags", "n"), rename={"fields.*": "*"}, ignore=("*.x", "value")),
    Route(metrics="fields", device="", tags=("bn",), numbers="from_text", on_bad_field="drop"),
    Route(each="metrics", key="id | t", time="timestamp", rename={"a": "b"}, on_bad_field="drop"),
)
NESTED = st.dictionaries(NAMES, st.one_of(VALUE, ELEMENT, st.lists(ELEMENT, max_size=2)), max_size=4)


def shaper_of(route: Route, *, learned: bool = True) -> Shaper:
    shaper = Shaper(route, plan_of(route, "route[0]"), Limits(), "route[0]")
    if not learned:
        shaper._elements.learned = None
        shaper.known = nothing_known
    return shaper


def said(shaper: Shaper, message: Any, metric: str | None) -> object:  # noqa: ANN401  # a message is any value
    try:
        known: Known | None = shaper.known(message, metric)
        if known is not None:
            mapped, tagged, alike, left_out = known
            left_out = [*(alike.fields if alike else ()), *left_out]
            return [_said(mapped, tagged.tags if tagged else {}, left_out)]
        parts, beside = shaper.parts(message, metric)
    except Exception as error:  # noqa: BLE001  # whatever it is, both should say it
        return repr(error)
    if len(parts) == 1 and parts[0].mapped is not None and shaper._listed is not None:
        return [_said(parts[0].mapped, parts[0].tags, [*parts[0].left_out, *beside])]
    return [
        _said(part.mapped, part.tags, part.left_out)
        if part.mapped is not None
        else (part.reject and (part.reject.reason, part.reject.detail))
        for part in parts
    ] + sorted(beside)


def _said(mapped: Any, tags: dict[str, str], left_out: Any) -> object:  # noqa: ANN401  # likewise
    *names, metrics, _ = mapped
    kinds = [type(each) for each in (*names, *metrics.values())]
    return names, list(metrics.items()), kinds, tags, sorted(left_out)


@settings(max_examples=100)
@given(
    st.sampled_from((*ROUTES, *OBJECTS)),
    st.lists(st.one_of(MESSAGE, NESTED, USUAL), min_size=1, max_size=3),
    st.sampled_from([None, None, "temp"]),
)
def test_both_ways_come_to_the_same(route: Route, messages: list[Any], metric: str | None) -> None:
    """Whatever messages hold, and however often they come, they are read as if nothing were known of them."""
    shaper, other = shaper_of(route), shaper_of(route, learned=False)
    for message in (*messages, *messages, *messages):
        assert said(shaper, message, metric) == said(other, message, metric)


SPARKPLUG, KEYED, SENML, INFLUX, STATES = ROUTES
METRIC = {"name": "Temp", "timestamp": 5, "datatype": 10, "value": 21.5}
METRICS = [METRIC, METRIC | {"name": "b"}]
LINE = {"measurement": "m", "tags": {"room": "hall"}, "fields": {"a": 1}, "time": 5}
ALIKE = [
    (OBJECTS[0], {"t": 5, "id": "k", "a": {"b": 1.5}}, {"t": 7, "id": "l", "a": {"b": 2}}),
    (OBJECTS[1], {"tags": {"t": "5", "x": "y"}, "a": 1}, {"tags": {"t": "6", "x": "z"}, "a": 2}),
    (SPARKPLUG, {"seq": 1, "metrics": METRICS}, {"seq": 2, "metrics": METRICS}),
    (SENML, [{"bn": "d:", "n": "a", "v": 1, "t": 5.0}], [{"bn": "e:", "n": "a", "v": 2, "t": 6.0}]),
    (INFLUX, LINE, LINE | {"tags": {"room": "attic"}, "fields": {"a": 2}, "time": 6}),
]


@pytest.mark.parametrize(("route", "first", "next_"), ALIKE)
def test_what_comes_often_is_known(route: Route, first: Any, next_: Any) -> None:  # noqa: ANN401  # likewise
    """The third message of a shape is read by what is known of the first two, whatever its values are."""
    shaper = shaper_of(route)
    assert shaper.known(first, None) is None
    assert shaper.known(first, None) is not None
    known = shaper.known(next_, None)
    assert known is not None
    assert said(shaper, next_, None) == said(shaper_of(route, learned=False), next_, None)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (SPARKPLUG, {"metrics": [METRIC, METRIC | {"name": "b", "timestamp": 6}]}),
        (SPARKPLUG, {"metrics": [METRIC, METRIC | {"name": "b", "timestamp": 5.0}]}),
        (SENML, [{"bn": "d:", "n": "a", "v": 1}, {"bn": "e:", "n": "b", "v": 1}]),
        (OBJECTS[0], {"t": 5, "a": {"b": "\x00"}, **{f"f{n}": n for n in range(400)}}),
        (Route(presence="state"), {"state": "online", "a": 1}),
        (Route(metrics="values || @"), {"values": {"a": 1}}),
    ],
)
def test_what_its_values_decide_is_not(route: Route, message: Any) -> None:  # noqa: ANN401  # likewise
    """Of several readings, of a word or of an expression nothing is known by the shape."""
    shaper = shaper_of(route)
    assert [shaper.known(message, None) for _ in range(3)] == [None, None, None]


def test_what_is_known_is_bounded() -> None:
    """A sender who makes up names fills no memory with them."""
    room = Room(8_000_000)
    shaper = Shaper(OBJECTS[0], plan_of(OBJECTS[0], "route[0]"), Limits(), "route[0]", room)
    learned = shaper._elements.learned
    assert learned is not None
    for n in range(2000):
        message = {f"{n:0100d}.{k}": k for k in range(20)}
        room.left = MAX_WORK
        for _ in range(2):
            shaper.known(message, None)
    assert room._bytes <= 8_000_000
    assert 100 < len(learned._plans._values) < 1000
