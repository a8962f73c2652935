"""`each`: which elements are readings, what is around them, and a message with some of them only."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import pytest

from gateway.decode.known import Room
from gateway.decode.mapping.each import OUTSIDE, Each, graft, names_in, without
from runtime.errors import ConfigurationError

GATEWAY: dict[str, Any] = {
    "gw": "g1",
    "readings": [{"t": 1}, {"t": 2}, None, {"t": 3}],
    "one": {"t": 9},
    "rooms": {"north": {"floor": 1, "values": [{"t": 4}, {"t": 5}]}, "south": {"values": [{"t": 6}]}},
    "nested": [{"list": [{"t": 7}]}, {"list": [{"t": 8}]}],
    "none": None,
    "a.b": [{"t": 10}],
}


def found(path: str, message: object = None) -> list[tuple[Any, tuple[str, ...], Any]]:
    elements = Each(path, "x", Room(0)).find(GATEWAY if message is None else message)
    return [(each.value, each.stars, each.place) for each in elements]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("readings", [({"t": 1}, (), ("readings", 0)), ({"t": 2}, (), ("readings", 1)),
                      ({"t": 3}, (), ("readings", 3))]),
        ("one", [({"t": 9}, (), ("one",))]),
        ("gw", [("g1", (), ("gw",))]),
        ("none", []),
        ("nothing", []),
        ("gw.x", []),
        ("nothing | one", [({"t": 9}, (), ("one",))]),
        ("one | readings", [({"t": 9}, (), ("one",))]),
        ("nothing | @", [(GATEWAY, (), ())]),
        ("one | @", [({"t": 9}, (), ("one",))]),
        ("nothing | one | @", [({"t": 9}, (), ("one",))]),
        (
            "rooms.*.values",
            [
                ({"t": 4}, ("north",), ("rooms", "north", "values", 0)),
                ({"t": 5}, ("north",), ("rooms", "north", "values", 1)),
                ({"t": 6}, ("south",), ("rooms", "south", "values", 0)),
            ],
        ),
        ("nested.1.list", [({"t": 8}, (), ("nested", 1, "list", 0))]),
        ("nested.7.list", []),
        (
            "nested.*.list",
            [({"t": 7}, ("0",), ("nested", 0, "list", 0)), ({"t": 8}, ("1",), ("nested", 1, "list", 0))],
        ),
        (
            "nested[].list[]",
            [({"t": 7}, (), ("nested", 0, "list", 0)), ({"t": 8}, (), ("nested", 1, "list", 0))],
        ),
        ("nested[*].list", [({"t": 7}, (), ("nested", 0, "list", 0)),
                            ({"t": 8}, (), ("nested", 1, "list", 0))]),
        ('"a.b"', [({"t": 10}, (), ("a.b", 0))]),
        ("readings[?t > `1`]", [({"t": 2}, (), None), ({"t": 3}, (), None)]),
        ("gw | [@]", [("g1", (), None)]),
    ],
)  # fmt: skip
def test_elements(path: str, values: list[Any]) -> None:
    """The elements of a path, in the order in which they stand, with what each * stood for, and places."""
    assert found(path) == values


def test_without_a_path() -> None:
    """A message is one reading, and an array at the root is its elements."""
    assert found("", {"t": 1}) == [({"t": 1}, (), ())]
    assert found("", [{"t": 1}, 5]) == [({"t": 1}, (), (0,)), (5, (), (1,))]


def test_members_of_the_root() -> None:
    """A * alone stands for each member, whatever it is; an array there is its elements."""
    message = {"d1": [{"t": 1}], "d2": {"t": 2}, "d3": 5}
    assert found("*", message) == [
        ({"t": 1}, ("d1",), ("d1", 0)),
        ({"t": 2}, ("d2",), ("d2",)),
        (5, ("d3",), ("d3",)),
    ]


def test_messages_in_an_array() -> None:
    """Each element of an array at the root is a message of its own."""
    elements = Each("r", "x", Room(0)).find([{"r": [1, 2]}, {"n": 0}, {"r": [3]}])
    assert [(each.value, each.place, each.message) for each in elements] == [
        (1, (0, "r", 0), 0),
        (2, (0, "r", 1), 0),
        (3, (2, "r", 0), 2),
    ]


def test_what_is_around_an_element() -> None:
    """The objects that it is in, from the innermost, but for one of which it is a member by a *."""
    (first, *_) = Each("rooms.*.values", "x", Room(0)).find(GATEWAY)
    assert [place for _, place in first.around] == [("rooms", "north"), ()]
    assert first.around[0][0] is GATEWAY["rooms"]["north"]


@pytest.mark.parametrize(
    ("path", "pick", "only"),
    [
        ("readings", [1], {"readings": [{"t": 2}]}),
        ("readings", [0, 2], {"readings": [{"t": 1}, {"t": 3}]}),
        ("one", [0], {"one": {"t": 9}}),
        ("rooms.*.values", [2], {"rooms": {"south": {"values": [{"t": 6}]}}}),
        ("nested.1.list", [0], {"nested": [None, {"list": [{"t": 8}]}]}),
        ("nested.*.list", [1], {"nested": [{"list": [{"t": 8}]}]}),
    ],
)
def test_a_message_with_some_elements(path: str, pick: list[int], only: object) -> None:
    """Nothing else is left of it, and the same elements are found in it."""
    each = Each(path, "x", Room(0))
    elements = each.find(GATEWAY)
    cut = each.only(GATEWAY, [elements[at].place or () for at in pick], around=False, counted=False)
    assert cut == only
    assert [one.value for one in each.find(cut)] == [elements[at].value for at in pick]


def test_a_message_with_some_elements_and_the_rest() -> None:
    """What is around them stays where that is asked for."""
    each = Each("rooms.*.values", "x", Room(0))
    cut = each.only(GATEWAY, [("rooms", "north", "values", 1)], around=True, counted=False)
    assert cut == GATEWAY | {"rooms": {"north": {"floor": 1, "values": [{"t": 5}]}}}


def test_what_a_star_counts_keeps_its_number() -> None:
    """Where `$1` is the number of an array's element, the elements before leave their places empty."""
    each = Each("nested.*.list", "x", Room(0))
    cut = each.only(GATEWAY, [("nested", 1, "list", 0)], around=False, counted=True)
    assert cut == {"nested": [None, {"list": [{"t": 8}]}]}
    assert [one.stars for one in each.find(cut)] == [("1",)]


@pytest.mark.parametrize(
    ("path", "used", "left"),
    [
        ("readings", [("gw",)],
         ["one.t", "rooms.north.floor", "rooms.north.values.0.t", "rooms.north.values.1.t",
          "rooms.south.values.0.t", "nested.0.list.0.t", "nested.1.list.0.t", "a.b.0.t"]),
        ("rooms.*.values", [("gw",), ("one",), ("readings",), ("nested",), ("a.b",)], ["rooms.north.floor"]),
        ("nested.1.list", [("gw",), ("one",), ("readings",), ("rooms",), ("a.b",)], ["nested.0.list.0.t"]),
    ],
)  # fmt: skip
def test_what_is_left(path: str, used: list[Any], left: list[str]) -> None:
    """Every scalar that is in no element and not used, by its path."""
    each = Each(path, "x", Room(0))
    assert each.left(GATEWAY, each.find(GATEWAY), used) == left


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("readings[?t > `1`]", ["n", "readings.0.t"]),
        ("@ | readings", ["n"]),
        ("[@]", []),
        ("readings[].{t: t}", [OUTSIDE]),
        ("[n]", [OUTSIDE]),
    ],
)
def test_what_an_expression_left(path: str, left: list[str]) -> None:
    """What it took as it stands is told from the rest; of what it made only that there may be a rest."""
    message = {"n": 5, "readings": [{"t": 1}, {"t": 2}]}
    each = Each(path, "x", Room(0))
    assert each.left(message, each.find(message), []) == left


@pytest.mark.parametrize("path", ["a..b", ".a", "a[", "foo(@)", "*.", "a | | b"])
def test_what_means_nothing(path: str) -> None:
    """Such a path is refused at start, with its setting."""
    with pytest.raises(ConfigurationError, match=r"route\[0\]\.each: "):
        Each(path, "route[0].each", Room(0))


def test_names_in() -> None:
    """The paths of scalars, null being none; a place that is too deep counts as one."""
    assert list(names_in({"a": {"b": [1, None]}, "c": False, "d": {}}, Room(0))) == ["a.b.0", "c"]
    deep: Any = 1
    for _ in range(100):
        deep = {"x": deep}
    assert len(list(names_in(deep, Room(0)))) == 1


def test_without() -> None:
    """A copy without what stands at a place; indices of others stay, and the value itself is not touched."""
    value = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    assert without(value, ("a", "b")) == {"a": {"c": 2}, "l": [1, 2]}
    assert without(value, ("l", 0)) == {"a": {"b": 1, "c": 2}, "l": [None, 2]}
    assert without(value, ("x", "b")) is value
    assert value == {"a": {"b": 1, "c": 2}, "l": [1, 2]}


def test_graft() -> None:
    """A place of one value is put at the same place of another, arrays as a whole."""
    value = {"a": {"b": 1, "c": 2}, "l": [{"m": 1}, 2]}
    into: dict[str, Any] = {"r": [1]}
    assert graft(into, value, ("a", "b"))
    assert graft(into, value, ("l", 0, "m"))
    assert graft(into, value, ("a", "c"), "new")
    assert into == {"r": [1], "a": {"b": 1, "c": "new"}, "l": [{"m": 1}, 2]}
    assert value == {"a": {"b": 1, "c": 2}, "l": [{"m": 1}, 2]}
    assert not graft(into, {"r": [1, 2]}, ("r", 0))


def test_long_names_of_many_levels_cost_little() -> None:
    """Names of what is left out are cut, and after the first hundred all are the same."""
    message = {"v": [{"a": 1}], "A" * 100_000: {str(at): at for at in range(15_000)}}
    each = Each("v", "x", Room(0))
    elements = each.find(message)
    tracemalloc.start()
    left = each.left(message, elements, ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert Counter(left) == {"A" * 128: 100, "other": 14_900}
    assert peak < 2_000_000
    assert Counter(names_in(message, Room(0))) == {"v.0.a": 1, "A" * 128: 99, "other": 14_901}
