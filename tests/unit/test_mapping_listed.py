"""Plain lists of metrics, read by their shape, come to what they come to when each is read by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Limits
from gateway.decode.fields import NoNumber
from gateway.decode.limits import MAX_WORK
from gateway.decode.mapping import Shaper
from gateway.decode.plan import plan_of
from gateway.decode.steps import finish
from runtime.errors import Reject
from runtime.settings import Route

if TYPE_CHECKING:
    from gateway.decode.mapping import Part
    from gateway.decode.mapping.listed import Listed

SPARKPLUG = Route(
    each="metrics", name="name", value="value", time="timestamp", key="", ignore=("*.datatype",)
)
KEYED = Route(each="metrics", name="name", value="value", time="timestamp | ts", key="id", tags=("tags",))
SENML = Route(
    name="n | name",
    value="v | vb | vs",
    time="t",
    key="",
    tags=("bn",),
    rename={"*.u": "*.unit"},
    ignore=("*.bver",),
)
INFLUX = Route(name="measurement", value="fields", time="time", key="", tags=("tags",), device="", region="")
STATES = Route(
    each="metrics",
    name="name",
    value="value",
    states={"ON": 1},
    numbers="from_text_with_unit",
    on_bad_field="drop",
)
ROUTES = (SPARKPLUG, KEYED, SENML, INFLUX, STATES)


def shaper_of(route: Route, *, listed: bool = True) -> Shaper:
    shaper = Shaper(route, plan_of(route, "route[0]"), Limits(), "route[0]")
    if not listed:
        shaper._listed = None  # the same without what is tested here
    return shaper


def listed_of(route: Route) -> Listed:
    listed = shaper_of(route)._listed  # whether it takes a message, or leaves it
    assert listed is not None
    return listed


def said(parts: list[Part], left_out: list[tuple[str, str]]) -> object:
    """All that is said of readings, with the order of what has none left out."""
    return [
        (
            part.mapped and [*part.mapped[:4], *map(type, part.mapped[:4]), list(part.mapped[4].items())],
            part.tags,
            part.number,
            part.places if len(parts) > 1 else (),  # one is not cut out
            part.around,
            part.reject and (part.reject.reason, part.reject.detail),
            sorted(part.left_out),
        )
        for part in parts
    ], sorted(left_out)


def outcome(shaper: Shaper, message: Any) -> object:  # noqa: ANN401  # a message is any value
    try:
        return said(*shaper.parts(message, None))
    except Exception as error:  # noqa: BLE001  # whatever it is, both should say it
        return repr(error)


NAMES = st.one_of(
    st.sampled_from(["name", "value", "timestamp", "ts", "id", "tags", "datatype", "region", "device_id"]),
    st.sampled_from(["n", "v", "vb", "t", "bn", "u", "bver", "measurement", "fields", "time"]),
    st.sampled_from(["x", "", "name.x"]),
)
SCALAR = st.one_of(
    st.sampled_from(
        ["", "a", "b", "a.x", "ON", "21,5 °C", "\x00", "x" * 300, 1, 1.0, True, False, None, 2.5]
    ),
    st.builds(lambda: NoNumber("number_out_of_range", "1e400")),
)
OBJECT = st.dictionaries(st.sampled_from(["a", "b", "a.x", "unit", ""]), SCALAR, max_size=3)
VALUE = st.one_of(SCALAR, SCALAR, SCALAR, OBJECT, st.lists(SCALAR, max_size=2))
USUAL = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "a.x"]),
        "n": st.sampled_from(["a", "b", "a.x"]),
        "measurement": st.sampled_from(["a", "b"]),
        "value": SCALAR,
        "v": SCALAR,
        "fields": OBJECT,
        "timestamp": st.sampled_from([1, 2, 1.0, "1"]),
        "t": st.sampled_from([1, 2, 1.0, "1"]),
        "tags": st.dictionaries(st.sampled_from(["r", "s"]), st.sampled_from(["1", "2"]), max_size=2),
        "bn": st.sampled_from(["x:", "y:"]),
        "u": st.just("V"),
        "datatype": st.just(9),
        "id": st.sampled_from(["k", 7]),
    },
)
ELEMENT = st.one_of(USUAL, USUAL, USUAL, st.dictionaries(NAMES, VALUE, max_size=5), SCALAR)
ELEMENTS = st.lists(ELEMENT, max_size=5)
MESSAGE = st.one_of(
    ELEMENTS,
    ELEMENT,
    st.builds(
        lambda around, found: {**around, "metrics": found},
        st.dictionaries(NAMES, VALUE, max_size=3),
        ELEMENTS,
    ),
    st.builds(lambda found: {"timestamp": 5, "seq": 1, "metrics": found}, st.lists(USUAL, max_size=5)),
)


@settings(max_examples=100)
@given(st.sampled_from(ROUTES), st.lists(MESSAGE, min_size=1, max_size=3))
def test_both_ways_come_to_the_same(route: Route, messages: list[Any]) -> None:
    """Whatever a message holds, it is read as it would be without what is remembered of shapes."""
    shaper, other = shaper_of(route), shaper_of(route, listed=False)
    for message in messages:
        assert outcome(shaper, message) == outcome(other, message)


METRIC = {"name": "Temp", "timestamp": 5, "datatype": 10, "value": 21.5}
ONE = [
    (SPARKPLUG, {"timestamp": 5, "seq": 1, "metrics": [METRIC]}),
    (KEYED, {"id": "k", "metrics": [METRIC, {"name": "b", "value": 1, "tags": {"line": "4"}}]}),
    (SENML, [{"name": "d:a", "bn": "d:", "n": "a", "v": 1, "t": 5.0}, {"n": "b", "vb": True, "u": "V"}]),
    (INFLUX, [{"measurement": "m", "tags": {"room": "hall"}, "fields": {"a": 1, "b": "x"}, "time": None}]),
    (STATES, {"metrics": [{"name": "a", "value": "ON"}, {"name": "b", "value": "21,5 °C"}]}),
]


@pytest.mark.parametrize(("route", "message"), ONE)
def test_usual_messages_are_plain(route: Route, message: Any) -> None:  # noqa: ANN401  # a message is any value
    """What senders of such lists send is read by its shape, and to the same as by element."""
    found = finish(listed_of(route).in_steps(message, 0))
    assert found is not None
    assert said(*found) == said(*shaper_of(route, listed=False).parts(message, None))


@pytest.mark.parametrize(
    "element",
    [
        METRIC | {"name": None},
        METRIC | {"name": 5},
        METRIC | {"value": [1]},
        METRIC | {"value": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
        METRIC | {"value": NoNumber("malformed_json", "nan")},
        METRIC | {"datatype": {"x": 1}},
        METRIC | {"timestamp": [1]},
        METRIC | {"x" * 3000: 1},
        {"value": 1},
        7,
    ],
)
def test_an_element_with_rules_of_its_own(element: Any) -> None:  # noqa: ANN401  # a message is any value
    """It is read as by itself, and is of one reading with the plain ones around it, where it can be read."""
    message = {"metrics": [METRIC, element, METRIC | {"name": "b"}], "seq": 1, "beside": {"x": 1}}
    found = finish(listed_of(SPARKPLUG).in_steps(message, 0))
    assert found is not None
    assert said(*found) == said(*shaper_of(SPARKPLUG, listed=False).parts(message, None))


@pytest.mark.parametrize(
    "message", [{"metrics": []}, {"metrics": [METRIC, None]}, {"metrics": METRIC}, [{"metrics": [METRIC]}]]
)
def test_what_is_no_such_list_is_left(message: Any) -> None:  # noqa: ANN401  # a message is any value
    """A message that has its elements elsewhere, or none, is read element by element."""
    assert finish(listed_of(SPARKPLUG).in_steps(message, 0)) is None


@pytest.mark.parametrize("value", [NoNumber("malformed_json", "nan"), [{"a": 1}], None])
def test_one_of_a_great_many_costs_none_of_the_others(value: object) -> None:
    """A list as long as its size explains is read, whatever one of its five thousand elements is."""
    elements: list[Any] = [{"n": f"m{n % 100}", "v": n, "t": n // 100} for n in range(5_000)]
    elements[2500]["v"] = value
    parts, _ = shaper_of(SENML).parts(elements, None, 260_000)
    readings = [part.mapped[4] for part in parts if part.mapped]
    assert len(readings) == 50
    assert sum(map(len, readings)) in {4_999, 5_000}


def test_a_great_many_with_rules_of_their_own_are_refused() -> None:
    """They cost more each, so that there may be fewer of them."""
    elements = [{"n": "m", "v": [n], "t": n} for n in range(4_001)]
    with pytest.raises(Reject, match="so much is in this message"):
        shaper_of(SENML).parts(elements, None, 200_000)


def test_a_reading_of_too_many_elements_says_how_many() -> None:
    """Who has to allow more metrics is told about how many it takes."""
    elements = [{"n": f"m{n}", "v": n, "t": 5} for n in range(400)]
    (part,), _ = shaper_of(SENML).parts(elements, None, 0)
    assert part.reject is not None
    assert part.reject.detail.startswith(
        "one reading of 400 elements has more metrics than gateway.max_metrics allows, 256; on_bad_field"
    )


@pytest.mark.parametrize(
    "route",
    [
        Route(each="metrics.list", name="name", value="value"),
        Route(each="*", name="name", value="value"),
        Route(each="metrics", name="meta.name", value="value"),
        Route(each="metrics", name="name", value="value", device="join('-', [a, b])"),
        Route(each="metrics", name="name", value="value", tags=("name",)),
        Route(each="metrics", name="metrics", value="value"),
        Route(each="metrics"),
    ],
)
def test_routes_that_are_not_plain(route: Route) -> None:
    """Of a route with a path that is more than a name, or one name for two things, none is read by shape."""
    assert shaper_of(route)._listed is None  # likewise


def test_what_is_remembered_is_bounded() -> None:
    """A sender who makes up names, fields and tags fills no memory with them."""
    listed = listed_of(KEYED)
    for n in range(3000):
        name = f"{n:0100d}"
        listed._room.left = MAX_WORK
        message = {"metrics": [{"name": name, "value": 1, name: 2, "tags": {name: name}}]}
        assert finish(listed.in_steps(message, 0))
    assert listed._shapes._room._bytes <= 8_000_000  # likewise
    assert len(listed._shapes.known) < 3000  # likewise
