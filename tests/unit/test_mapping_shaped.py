"""Which routes shape their messages, and what one reading of a message is cut to."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from gateway.decode import Limits
from gateway.decode.mapping import Shaper, needs_shaping
from gateway.decode.plan import plan_of
from runtime.settings import Route


def shaper_of(route: Route) -> Shaper:
    return Shaper(route, plan_of(route, "route[0]"), Limits(), "route[0]")


def pieces(message: object, route: Route) -> list[Any]:
    """What a message is cut to, reading by reading."""
    shaper = shaper_of(route)
    parts, _ = shaper.parts(message, None)
    return [shaper.cut(message, part, several=len(parts) > 1) for part in parts]


@pytest.mark.parametrize(
    ("words", "shaped"),
    [
        ({}, False),
        ({"key": "", "time": "meta.ts | ts", "metrics": "values"}, False),
        ({"time": "em:0.ts"}, False),
        ({"time": "@timestamp"}, False),
        ({"ignore": True}, False),
        ({"each": "data"}, True),
        ({"name": "n", "value": "v"}, True),
        ({"tags": ("fw",)}, True),
        ({"rename": {"a": "b"}}, True),
        ({"ignore": ("a",)}, True),
        ({"states": {"ON": 1}}, True),
        ({"numbers": "from_text"}, True),
        ({"metrics": "a | b"}, True),
        ({"time": "a[0].ts"}, True),
        ({"device": "$1"}, True),
    ],
)
def test_routes_that_shape(words: dict[str, Any], shaped: bool) -> None:  # noqa: FBT001  # a table's column
    """A route that says names only goes the short way."""
    assert needs_shaping(Route(**words)) is shaped


AROUND = {
    "id": "k",
    "gw": {"name": "g", "fw": "1"},
    "list": [{"x": 5}],
    "note": "n",
    "data": [{"t": 1}, {"t": 2}],
}


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ({"key": ""}, {"data": [{"t": 1}]}),
        ({}, {"id": "k:0", "data": [{"t": 1}]}),
        ({"key": "", "device": "gw.name"}, {"gw": {"name": "g"}, "data": [{"t": 1}]}),
        (
            {"key": "", "device": "gw.name", "tags": ("gw",)},
            {"gw": {"name": "g", "fw": "1"}, "data": [{"t": 1}]},
        ),
        ({"key": "", "tags": ("list.0.x",)}, {"list": [{"x": 5}], "data": [{"t": 1}]}),
        ({"key": "", "device": "gw.[name][0]"}, AROUND | {"data": [{"t": 1}]}),
        ({"device": "gw.[name][0]"}, AROUND | {"id": "k:0", "data": [{"t": 1}]}),
        ({"key": "data.0.t"}, None),
        ({"key": "join('', [id])"}, None),
    ],
)
def test_a_piece_has_what_its_reading_needs(words: dict[str, Any], first: object) -> None:
    """Of what is around, that which was looked for; all of it for an expression; its own key among it."""
    assert pieces(AROUND, Route(each="data", **words))[0] == first


def test_a_piece_of_several_elements() -> None:
    """A reading of several elements is cut to all of them."""
    message = {"ts": 1, "data": [{"n": "a", "v": 1}, {"n": "a", "v": 2}, {"n": "b", "v": 3}]}
    assert pieces(message, Route(each="data", name="n", value="v", key="")) == [
        {"ts": 1, "data": [{"n": "a", "v": 1}]},
        {"ts": 1, "data": [{"n": "a", "v": 2}, {"n": "b", "v": 3}]},
    ]


def test_the_message_itself_is_not_touched() -> None:
    """Reading a message changes nothing of it, so that it can be cut, and read again."""
    message = {"id": "k", "m": {"a": {"b": 1}}, "data": [{"id": "x", "p": {"q": 1, "r": 2}}, [1, 2], 5, None]}
    before = repr(message)
    route = Route(each="data", device="p.q", tags=("m.a",), rename={"r": "s"}, states={"x": 1})
    shaper = shaper_of(route)
    assert repr(shaper.parts(message, None)) == repr(shaper.parts(message, None))
    assert repr(message) == before


def test_pieces_together() -> None:
    """Readings in one piece are the message with these elements; not where their keys would change."""
    shaper = shaper_of(Route(each="data"))
    message = {"x": 1, "data": [{"t": 1}, {"t": 2}, {"t": 3}]}
    parts, _ = shaper.parts(message, None)
    assert shaper.together(message, [parts[2], parts[0]]) == {"x": 1, "data": [{"t": 1}, {"t": 3}]}
    parts, _ = shaper.parts(message | {"id": "k"}, None)
    assert shaper.together(message | {"id": "k"}, parts) is None


def test_long_names_of_tags_cost_little() -> None:
    """An object of tags in one of a long name is dropped tag by tag, without a text of all of it for each."""
    message = {"t": {"A" * 100_000: {str(at): at for at in range(5_000)}}, "m": 1}
    tracemalloc.start()
    [part], _ = shaper_of(Route(tags=("t",), on_bad_field="drop")).parts(message, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (part.tags, len(part.left_out), {reason for _, reason in part.left_out}) == (
        {},
        5_000,
        {"invalid_tag"},
    )
    assert peak < 8_000_000


ITEMS = {"ts": 1, "head": {"ts": 2}, "items": [{"t": 1, "v": 1}, {"t": 2, "v": 2}]}
STARS = {"a": {"ts": 1, "s1": {"v": 1}, "s2": {"v": 2}}}


@pytest.mark.parametrize(
    ("message", "words", "cut"),
    [
        (ITEMS, {"each": "items", "time": "max(items[].t)"}, False),
        (ITEMS, {"each": "items[]", "time": "items[-1].t"}, False),
        (ITEMS, {"each": "items", "tags": ("length(items)",)}, False),
        (ITEMS, {"each": "items", "tags": ("length(keys(@))",)}, False),
        (ITEMS, {"each": "items", "tags": ("max(*[].ts)",)}, False),
        (ITEMS, {"each": "items", "tags": ("items",)}, False),
        (ITEMS, {"each": "items", "tags": ("items.0.t",)}, False),
        (ITEMS, {"each": "items", "tags": ("items[0].t",)}, False),
        (ITEMS, {"each": "nothing | items", "tags": ("items",)}, False),
        (ITEMS, {"each": "items", "tags": ("items[0:1].t",)}, False),
        (ITEMS, {"each": "items", "tags": ("head.[ts][0:1]",)}, True),
        (ITEMS, {"each": "items", "region": "head.name || head.ts == `3` && `[1]` || 'x'"}, True),
        (STARS, {"each": "a.*", "time": "a.ts"}, False),
        (STARS, {"each": "a.*", "time": "ts"}, True),
        (ITEMS, {"each": "items", "time": "head.ts"}, True),
        (ITEMS, {"each": "items", "time": "to_number(head.ts)"}, True),
        (ITEMS, {"each": "items", "time": "max(head.*)"}, True),
        (ITEMS, {"each": "items", "device": "join('', [to_string(head | keys(@)), 'x'])"}, True),
    ],
)
def test_what_is_looked_for_in_what_is_cut(message: object, words: dict[str, Any], cut: bool) -> None:  # noqa: FBT001  # a table's column
    """Where a piece could say something else than its message, the message is not cut."""
    route = Route(key="", **words)
    assert [piece is not None for piece in pieces(message, route)] == [cut] * len(pieces(message, route))
    shaper = shaper_of(route)
    for part, piece in zip(shaper.parts(message, None)[0], pieces(message, route), strict=True):
        assert bool(part.places) is cut
        if piece is not None:
            [again], _ = shaper.parts(piece, None)
            assert (again.mapped, again.tags) == (part.mapped, part.tags)
