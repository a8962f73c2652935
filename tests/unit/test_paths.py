"""Paths of a route: what they find in a message, where, and what is said of one that is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.fields import NoNumber
from gateway.decode.paths import alternatives, compile_find, compile_path, is_plain, star_of, steps_of
from runtime.errors import ConfigurationError

MESSAGE: dict[str, Any] = {
    "id": "a1",
    "none": None,
    "zero": 0,
    "no": False,
    "empty": "",
    "meta": {"id": 7, "gw.mac": "aa:bb", "deep": {"x": 1.5}},
    "a.b": {"c": 3},
    "data": [10, {"x": 11}, [12, 13]],
    "em:0": {"power": 230},
    "@timestamp": "2026-11-23T09:00:00Z",
    "$meta": 1,
    "a b": 2,
    "é": 4,
    "people": [
        {"name": "Ann", "age": 31, "tags": ["x", "y"]},
        {"name": "Bob", "age": 17, "tags": []},
        {"name": "Cid", "age": 64},
    ],
    "ops": {"one": {"n": 1}, "two": {"n": 2}, "three": {"m": 3}},
}


@pytest.mark.parametrize(
    ("path", "found", "place"),
    [
        ("id", "a1", ("id",)),
        ("zero", 0, ("zero",)),
        ("no", False, ("no",)),
        ("empty", "", ("empty",)),
        ("meta.id", 7, ("meta", "id")),
        ("meta.deep.x", 1.5, ("meta", "deep", "x")),
        ("meta.gw.mac", "aa:bb", ("meta", "gw.mac")),
        ("a.b.c", 3, ("a.b", "c")),
        ("a.b", {"c": 3}, ("a.b",)),
        ("data.0", 10, ("data", 0)),
        ("data.1.x", 11, ("data", 1, "x")),
        ("data.2.1", 13, ("data", 2, 1)),
        ("em:0.power", 230, ("em:0", "power")),
        ("@timestamp", "2026-11-23T09:00:00Z", ("@timestamp",)),
        ("$meta", 1, ("$meta",)),
        ("a b", 2, ("a b",)),
        ("é", 4, ("é",)),
    ],
)
def test_names_with_dots_lead_to_one_place(path: str, found: object, place: object) -> None:
    """A plain path finds what stands there, names with dots and indices among its steps."""
    assert is_plain(path)
    assert compile_find(path, "x")(MESSAGE) == (found, place)
    assert compile_path(path, "x")(MESSAGE) == found


@pytest.mark.parametrize(
    "path",
    [
        "none",
        "nothing",
        "meta.none",
        "id.x",
        "data.3",
        "data.x",
        "data.²",
        "data.-1",
        "data.99999999",
        "zero.0",
    ],
)
def test_what_is_not_there_is_none(path: str) -> None:
    """What is null is not there, and neither is what is inside a scalar or beyond an array."""
    assert compile_find(path, "x")(MESSAGE) is None
    assert compile_path(path, "x")(MESSAGE) is None


def test_a_null_hides_nothing_of_the_same_path() -> None:
    """Of two ways to read a path the one counts that leads to something."""
    assert compile_find("a.b", "x")({"a.b": None, "a": {"b": 5}}) == (5, ("a", "b"))
    assert compile_find("a.b", "x")({"a": {"b": None}, "a.b": 6}) == (6, ("a.b",))


@pytest.mark.parametrize("value", [None, 5, "id", True, [], [["id"]], {"x": 1}])
def test_other_values_hold_no_names(value: object) -> None:
    """What is no object and no array has nothing at a path."""
    assert compile_find("id", "x")(value) is None
    assert compile_find("id.x", "x")(value) is None


def test_a_name_of_digits_is_one_too() -> None:
    """An index is the number of an array's element, and the name of an object's member."""
    assert compile_find("0", "x")([4]) == (4, (0,))
    assert compile_find("0.1", "x")({"0": {"1": 9}}) == (9, ("0", "1"))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data[0]", 10),
        ("data[-1][0]", 12),
        ("data[1].x", 11),
        ("data[7]", None),
        ('"a.b".c', 3),
        ('"em:0".power', 230),
        ('"a b"', 2),
        ("people[*].name", ["Ann", "Bob", "Cid"]),
        ("people[].tags[]", ["x", "y"]),
        ("people[1:].name", ["Bob", "Cid"]),
        ("people[::-1].name | [0]", "Cid"),
        ("people[?age > `30`].name", ["Ann", "Cid"]),
        ("people[?name == 'Bob'].age | [0]", 17),
        ("people[?age > `30` && name != 'Ann'] | [0].name", "Cid"),
        ("people[?!tags].name", ["Bob", "Cid"]),
        ("ops.*.n", [1, 2]),
        ("ops.{a: one.n, b: two.n}", {"a": 1, "b": 2}),
        ("meta.[id, deep.x]", [7, 1.5]),
        ("nothing || id", "a1"),
        ("none || empty || id", "a1"),
        ("id && zero", 0),
        ("@.id", "a1"),
        ("@ | id", "a1"),
        ("'fixed'", "fixed"),
        ("`5`", 5),
        ("length(people)", 3),
        ("max_by(people, &age).name", "Cid"),
        ("sort_by(people, &age)[0].name", "Bob"),
        ("join('-', ['x', id])", "x-a1"),
        ("to_number('21.5')", 21.5),
        ("keys(ops) | sort(@) | [0]", "one"),
        ("sum(people[].age)", 112),
        ("merge(meta.deep, {y: `2`})", {"x": 1.5, "y": 2}),
        ("not_null(nothing, none, zero)", 0),
        ("type(@)", "object"),
        ("to_number('nan')", None),
        ("to_number('1e999')", None),
    ],
)
def test_expressions_are_jmespath(path: str, found: object) -> None:
    """Anything else is an expression, with the meaning that its specification gives it."""
    assert not is_plain(path)
    assert compile_path(path, "x")(MESSAGE) == found


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ('"em:0".power', ("em:0", "power")),
        ("data[0]", ("data", 0)),
        ('a[12]."b c"[0].d', ("a", 12, "b c", 0, "d")),
        ("a[-1]", None),
        ("a[*]", None),
        ("a.*", None),
        ("[0]", None),
        ('"a\\"b"', None),
        ("a || b", None),
        ("@", None),
    ],
)
def test_an_expression_of_names_has_a_place(path: str, steps: object) -> None:
    """Names and indices alone lead to a place; what any other finds may have been made."""
    assert steps_of(path) == steps


def test_where_an_expression_found_it() -> None:
    """A place is told of names and indices only."""
    assert compile_find('"em:0".power', "x")(MESSAGE) == (230, ("em:0", "power"))
    assert compile_find("data[1].x", "x")(MESSAGE) == (11, ("data", 1, "x"))
    assert compile_find("data[-1]", "x")(MESSAGE) == ([12, 13], None)


@pytest.mark.parametrize("path", ["data[9].x", '"em:0".x', "id[0]", "data[0].x", "none[0]"])
def test_no_place_no_value(path: str) -> None:
    """Names and indices that lead nowhere find nothing."""
    assert compile_find(path, "x")(MESSAGE) is None


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a | b.c|d", ("a", "b.c", "d")),
        ("$1 | id", ("$1", "id")),
        ("a || b", ("a || b",)),
        ("a[0] | b", ("a[0] | b",)),
    ],
)
def test_alternatives(path: str, parts: tuple[str, ...]) -> None:
    """A bar between plain paths parts them; an expression stays whole."""
    assert alternatives(path) == parts


@pytest.mark.parametrize(
    ("path", "star"), [("$1", 0), ("$9", 8), ("$0", None), ("$10", None), ("$", None), ("a", None)]
)
def test_stars(path: str, star: int | None) -> None:
    """`$1` to `$9` are what a `*` stood for."""
    assert star_of(path) == star


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a..b", "a name is missing in 'a..b'"),
        (".a", "a name is missing"),
        ("a.", "a name is missing"),
        ("a[", "is no JMESPath expression"),
        ("a[?b", "is no JMESPath expression"),
        ("'a", "is no JMESPath expression"),
        ("(" * 900, "is no JMESPath expression"),
        ("foo(@)", "has no function foo()"),
        ("a[?foo(@)]", "has no function foo()"),
        ("[a, {x: lenght(b)}]", "has no function lenght()"),
        ("length()", "length() takes 1 arguments, not 0"),
        ("join(a)", "join() takes 2 arguments, not 1"),
        ("merge()", "merge() takes 1 arguments or more, not 0"),
        ("abs(a, b)", "abs() takes 1 arguments, not 2"),
    ],
)
def test_what_means_nothing_is_said_at_start(path: str, said: str) -> None:
    """A path that could never find anything is refused with its setting and why."""
    with pytest.raises(ConfigurationError) as error:
        compile_path(path, "route[2].time")
    assert str(error.value).startswith("route[2].time: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "abs(id)",
        "sum(people)",
        "max_by(people, &tags)",
        "sort_by(people, &tags)",
        "ceil(odd)",
        "length(odd)",
        "join(',', [odd])",
        "avg(odd)",
    ],
)
def test_a_function_that_fails_finds_nothing(path: str) -> None:
    """What a function does not take, a number that is none among it, is as if it were not there."""
    assert compile_path(path, "x")(MESSAGE | {"odd": NoNumber("malformed_json", "NaN")}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc.0"), inner, max_size=4),
    max_leaves=12,
)
PATHS = [
    "a",
    "a.b",
    "a.b.c",
    "a.0",
    "a[0].b",
    '"."',
    "a[*].b",
    "a.*",
    "a[?b]",
    "sum(a)",
    "sort(a)",
    "a || b",
    "@",
]


@settings(max_examples=150, deadline=None)
@given(json_values, st.sampled_from(PATHS))
def test_any_message_is_looked_through(value: object, path: str) -> None:
    """No message makes a path fail, and a place that is told leads to what was found."""
    hit = compile_find(path, "x")(value)
    if hit and hit[1] is not None:
        at: Any = value
        for step in hit[1]:
            at = at[step]
        assert at is hit[0]


def test_a_path_with_many_dots_is_no_burden() -> None:
    """Every name may have dots, and still each place is looked at once."""
    path = ".".join(["a"] * 60)
    assert compile_path(path, "x")({"a": {"a": {"a": {"a.a": {}}}}, "a.a": {"a.a.a": {"a": {}}}}) is None
