"""`from_json` in a path: the value of a text that is JSON itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decode.paths import compile_path
from runtime.errors import ConfigurationError

look = compile_path("from_json(text)", "route[0].metrics")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"t": 21.5, "a": [1, null]}', {"t": 21.5, "a": [1, None]}),
        ("21.5", 21.5),
        ('"a"', "a"),
        ("null", None),
        ("", None),
        ("21,5", None),
        ('{"t": 1, "t": 2}', None),
        ('{"a": {"t": 1, "t": 1}}', None),
        ("NaN", None),
        ("1e400", None),
        ('"\\ud800"', None),
        ("[" * 100_000, None),
        ("1" * 10_000, None),
    ],
)
def test_the_value_of_a_text(text: str, value: object) -> None:
    """JSON is read strictly; what is none, or says a name twice, is nothing."""
    assert look({"text": text}) == value


@pytest.mark.parametrize("message", [{}, {"text": None}, {"text": 5}, {"text": ["[]"]}, []])
def test_what_is_no_text(message: object) -> None:
    """What is not there, or is no text, is nothing."""
    assert look(message) is None


def test_what_it_makes_of_a_message() -> None:
    """A text that is JSON can take the place of an object, and stays what it is where it is none."""
    expression = "merge(@, from_json(o) && {object: from_json(o), o: `null`} || `{}`)"
    merge = compile_path(expression, "route[0].metrics")
    assert merge({"n": 1, "o": '{"t": 2}'}) == {"n": 1, "object": {"t": 2}, "o": None}
    assert merge({"n": 1, "o": "{"}) == {"n": 1, "o": "{"}
    assert merge({"n": 1, "object": {"t": 3}}) == {"n": 1, "object": {"t": 3}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("split(text, '.')", ["Line1", "Press2", "Temp"]),
        ("split(text, '.')[-1]", "Temp"),
        ("join('.', split(text, '.')[:-1])", "Line1.Press2"),
        ("split(text, '/')", ["Line1.Press2.Temp"]),
        ("split(none, '.')", None),
        ("split(one, '')", ["a", "b"]),
        ("zip(names, values)", [["t", 1], ["h", None]]),
        ("zip(names, longer)", None),
        ("zip(names, none)", None),
        ("from_items(zip(names, values))", {"t": 1, "h": None}),
        ("from_items(zip(twice, values))", None),
        ("from_items(values)", None),
        ("from_items(none)", None),
    ],
)
def test_functions_of_the_community(expression: str, value: object) -> None:
    """Texts are split, lists are put together to objects, and nothing is lost on the way."""
    message = {
        "text": "Line1.Press2.Temp",
        "one": "ab",
        "names": ["t", "h"],
        "twice": ["t", "t"],
        "values": [1, None],
        "longer": [1, 2, 3],
    }
    assert compile_path(expression, "route[0].metrics")(message) == value


@pytest.mark.parametrize("path", ["from_json()", "from_json(a, b)", "to_json(a)", "split(a)", "zip(a)"])
def test_what_is_no_call(path: str) -> None:
    """It takes one argument, and there is no other function than the library's."""
    with pytest.raises(ConfigurationError, match=r"route\[0\]\.key"):
        compile_path(path, "route[0].key")


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Whatever text comes, there is a value or there is none."""
    look({"text": text})
