"""What a route says of its metrics by name and by value: rename, ignore, numbers, states."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.fields import Unfit
from gateway.decode.mapping.words import Words, read_number
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route


def apply(metrics: dict[str, Any], *, drop: bool = False, **words: Any) -> tuple[dict[str, Any], Any]:  # noqa: ANN401  # words of a route
    unfit = Unfit(drop=drop)
    return Words(Route(**words), "route[0]").apply(metrics, unfit), unfit.fields


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("21.5", 21.5),
        ("21,5", 21.5),
        (" 21.5 ", 21.5),
        ("-3", -3),
        ("+3", 3),
        ("\u22123", -3),
        ("\u22120,5", -0.5),
        (".5", 0.5),
        (",5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1,5E-2", 0.015),
        ("0", 0),
        ("0.5", 0.5),
        ("0,0e0", 0.0),
        ("12.5e3", 12500.0),
        ("9007199254740993", 9007199254740993),
        ("9223372036854775807", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
    ],
)
def test_texts_that_are_numbers(text: str, number: float) -> None:
    """A text of digits is their integer, one with a point or comma the double nearest to it."""
    for with_unit in (False, True):
        found = read_number(text, with_unit=with_unit)
        assert (found, type(found)) == (number, type(number))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", ".", ",", "+-3", "--3", "e5", "1e", "nan", "inf", "-Infinity", "ON", "A5", "/5", "5 5",
        "1.2.3", "1,234.5", "1.234,5", "1,2,3", "12:30", "2026-11-23", "0x1F", "0xAB", "1_000",
        "\u0661\u0662", "\u00b2", "1e999", "1e301", "9223372036854775808", "894912345678901234567",
        "123456789e12", "12e45", "00e1", "007", "0012345", "021.5", "-01", "00", "00,5",
        "9" * 400, "9" * 100_000, "5\n5",
    ],
)  # fmt: skip
def test_texts_that_are_none(text: str) -> None:
    """What is no number, or more than a metric can hold, stays the text that it is."""
    assert read_number(text, with_unit=False) == text
    if text != "1e":
        assert read_number(text, with_unit=True) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("21,5 °C", 21.5),
        ("21.5°C", 21.5),
        ("230 V", 230),
        ("5%", 5),
        ("5 %", 5),
        ("1.2\u00a0kWh", 1.2),
        ("3 m/s", 3),
        ("40 m3", 40),
        ("12 €", 12),
        ("-67dBm", -67),
        ("1 µg/m3", 1),
        ("1e3 Pa", 1000.0),
        ("3 C", 3),
        ("21.5C", 21.5),
        ("5V", 5),
    ],
)
def test_units(text: str, number: float) -> None:
    """A unit after a number is cut off where the route says so, and only there."""
    assert read_number(text, with_unit=True) == number
    assert read_number(text, with_unit=False) == text


@pytest.mark.parametrize(
    "text",
    [
        "10h30", "5 days ago", "3x4", "12 34 V", "V 12", "5 °C °C", "1 " + "a" * 17, "5m4",
        "3C", "-12AB", "0F", "007 V", "12e3 V",
    ],
)  # fmt: skip
def test_what_is_no_unit(text: str) -> None:
    """Digits or spaces in what follows make it no unit."""
    assert read_number(text, with_unit=True) == text


@pytest.mark.parametrize(
    ("message", "ignore", "metrics"),
    [
        ({"p": "1.2 kW", "q": "900 W"}, (), {"p": 1.2, "p.unit": "kW", "q": 900, "q.unit": "W"}),
        ({"p": "1.2", "q": "ON"}, (), {"p": 1.2, "q": "ON"}),
        ({"p": "1.2 kW", "p.unit": "kW"}, (), {"p": 1.2, "p.unit": "kW"}),
        ({"p": "1.2 kW", "p.unit": "W"}, (), {"p": "1.2 kW", "p.unit": "W"}),
        ({"p": "1.2 kW"}, ("*.unit",), {"p": 1.2}),
        ({"p" * 123: "1 V"}, (), {"p" * 123: 1, f"{'p' * 123}.unit": "V"}),
        ({"p" * 124: "1 V"}, (), {"p" * 124: "1 V"}),
    ],
)
def test_a_unit_is_a_metric_beside_the_number(message: Any, ignore: Any, metrics: Any) -> None:  # noqa: ANN401  # of a table
    """A unit is kept; where it has no place the text stays as it is; it may be ignored as any metric."""
    found, left_out = apply(dict(message), numbers="from_text_with_unit", ignore=ignore)
    assert found == metrics
    assert left_out == ([("p.unit", "ignored")] if ignore else [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21,5 °C", 21.5),
        ("21.5°C", 21.5),
        ("40 %", 40),
        ("230V", 230),
        ("-0,5 kW", -0.5),
        ("12.5 kWh", 12.5),
        ("1013,25 hPa", 1013.25),
        ("3 m³", 3),
        ("7 m3/h", 7),
        ("1,5 m/s", 1.5),
        ("-67dBm", -67),
        ("8 \u00b5g/m\u00b3", 8),
        ("8 \u03bcg/m\u00b3", 8),
        ("4 k\u2126", 4),
        ("21,5 \u00baC", 21.5),
        ("55 %RH", 55),
        ("230 VAC", 230),
        ("9 uS/cm", 9),
        ("12 apples", "12 apples"),
        ("12 Watt", "12 Watt"),
        ("10h30", "10h30"),
        ("3C", "3C"),
        ("7a", "7a"),
        ("3rd", "3rd"),
        ("5x", "5x"),
        ("12 %  ", 12),
    ],
)
def test_known_units_are_cut_off(text: str, value: str | float) -> None:
    """By `from_text` a text of a number and a known unit is the number; the unit is counted."""
    cut = [("a.unit", "unit")] if value != text else []
    assert apply({"a": text}, numbers="from_text") == ({"a": value}, cut)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12) | st.text("0123456789+-\u2212.,eE %Vx", max_size=12))
def test_any_text_is_read(text: str) -> None:
    """No text makes it fail, and what comes out is the text or a number."""
    for with_unit in (False, True):
        found = read_number(text, with_unit=with_unit)
        assert found == text or type(found) in {int, float}


@pytest.mark.parametrize(
    ("rename", "name", "new"),
    [
        ({"a": "b"}, "a", "b"),
        ({"a": "b"}, "aa", "aa"),
        ({"ENERGY.*": "*"}, "ENERGY.Power", "Power"),
        ({"ENERGY.*": "*"}, "ENERGY.", ""),
        ({"*.value": "*"}, "a.b.value", "a.b"),
        ({"*.value": "x"}, "a.value", "x"),
        ({"em:*.*": "*_*"}, "em:0.a.b", "0_a.b"),
        ({"*.*.*": "*-*-*"}, "a.b.c.d", "a-b-c.d"),
        ({"a*": "x*", "ab": "y"}, "ab", "y"),
        ({"a*": "x*", "*": "y*"}, "ab", "xb"),
        ({"a.*": "*"}, "axb", "axb"),
        ({"(*": "*"}, "(b", "b"),
        ({"*a*b": "*+*"}, "xaab", "x+a"),
        ({"*": "m.*"}, "line\nbreak", "m.line\nbreak"),
    ],
)
def test_renaming(rename: dict[str, str], name: str, new: str) -> None:
    """A name of its own counts first, then the first pattern; each * is what it stood for, the first few."""
    assert apply({name: 1}, rename=rename)[0] == {new: 1}
    assert apply({name: 1, "other": 2}, rename=rename | {"other": "o"})[0] == {new: 1, "o": 2}


@pytest.mark.parametrize("rename", [{"a": ""}, {"a": "*"}, {"a*": "*.*"}])
def test_a_name_that_would_be_none(rename: dict[str, str]) -> None:
    """A new name that is empty, or has a * too many, is refused at start."""
    with pytest.raises(ConfigurationError, match=r"route\[0\]\.rename"):
        apply({}, rename=rename)


def test_two_that_come_to_one_name() -> None:
    """Neither of two fields is overwritten: the message is refused, or goes without the later."""
    with pytest.raises(Reject) as refused:
        apply({"a": 1, "b": 2}, rename={"a": "b"})
    assert refused.value.reason == "duplicate_key"
    assert apply({"a": 1, "b": 2}, drop=True, rename={"a": "b"}) == ({"b": 1}, [("b", "duplicate_key")])


def test_two_that_change_their_names() -> None:
    """Names may be changed for each other."""
    assert apply({"a": 1, "b": 2}, rename={"a": "b", "b": "a"})[0] == {"b": 1, "a": 2}


def test_ignored_names() -> None:
    """What is ignored is counted by the name it came by, whatever it would be called."""
    kept, fields = apply({"Wifi.AP": 1, "Wifi.x.y": 2, "t": 3}, ignore=("Wifi.*",), rename={"Wifi.AP": "ap"})
    assert kept == {"t": 3}
    assert fields == [("Wifi.AP", "ignored"), ("Wifi.x.y", "ignored")]


def test_states() -> None:
    """A text that is a state is its number; another, and a boolean, stay."""
    states = {"ON": 1, "OFF": 0, "21": 5}
    metrics = {"a": "ON", "b": "OFF", "c": "on", "d": True, "e": "21", "f": "22"}
    read = {"a": 1, "b": 0, "c": "on", "d": True, "e": 5, "f": 22}
    assert apply(metrics, states=states, numbers="from_text")[0] == read


def test_values_as_they_were_sent() -> None:
    """Without a word on numbers texts are texts."""
    assert apply({"a": "21.5"}, rename={"a": "b"})[0] == {"b": "21.5"}


def test_hostile_names_cost_little() -> None:
    """However many stars and however long a name, it is looked at once."""
    words: dict[str, Any] = {"rename": {"*a*a*a*a*a*a*b": "*"}, "ignore": ("*.*.*.*.*.*.*x",)}
    begun = time.process_time()
    apply({"a" * 127 + str(i): 1 for i in range(100)} | {"." * 120 + str(i): 1 for i in range(100)}, **words)
    assert time.process_time() - begun < 5  # seconds; it takes some 0.01


def test_what_is_remembered_of_names_is_bounded() -> None:
    """New names for ever do not fill the memory."""
    words = Words(Route(rename={"a*": "b*"}), "route[0]")
    for i in range(10_000):
        assert words.apply({f"a{i}": 1}, Unfit(drop=False)) == {f"b{i}": 1}
    words.apply({"a" * 10_000: 1}, Unfit(drop=False))
    assert len(words._known) <= 4096  # its bound
    assert max(map(len, words._known)) <= 256  # likewise
