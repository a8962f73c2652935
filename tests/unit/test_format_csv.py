"""Lines of values: headers, delimiters, quotes, and what a bad line costs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.fields import NoNumber, Refused
from gateway.decode.formats import format_of
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route
from runtime.settings.route import Csv
from tests.support.write_side import decode

if TYPE_CHECKING:
    from gateway.decode.formats import Format

AB = ("a", "b")


def form(**words: Any) -> Format:  # noqa: ANN401  # those of [route.csv]
    """The format of a route with such a table."""
    return format_of(Route(format="csv", csv=Csv(**words)), "route[0]")


def plain(value: object) -> object:
    """A value with what is refused of it as a tuple, so that it can be compared."""
    if isinstance(value, Refused):
        return (value.reason, value.detail)
    if isinstance(value, NoNumber):
        return (value.reason, value.text)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def test_headers_that_would_be_copied_too_often_are_refused() -> None:
    """A dead letter has the header before each line, so a long one leaves room for few of them."""
    long = ",".join(f"{i:0400}" for i in range(40))
    few, many = "\n".join([long, *["1"] * 900]), "\n".join([long, *["1"] * 1100])
    assert len(form().elements(few.encode())) == 900
    with pytest.raises(Reject) as caught:
        form().elements(many.encode())
    assert caught.value.reason == "too_many_readings"
    assert "1100 lines" in caught.value.detail


def test_a_header_is_none_of_the_lines() -> None:
    """As many lines may come after it as without it."""
    assert len(form().parse(b"a,b\n" + b"1,2\n" * 4_000)) == 4_000
    with pytest.raises(Reject):
        form().parse(b"a,b\n" + b"1,2\n" * 4_001)


@pytest.mark.parametrize("words", [{}, {"columns": ("a", "b"), "header": True}])
def test_names_of_columns_are_no_texts(words: dict[str, Any]) -> None:
    """A header with an endless name is none."""
    assert form(**words).parse(f"a,{'b' * 512}\n1,2".encode()) is not None
    with pytest.raises(Reject) as caught:
        form(**words).parse(f"a,{'b' * 513}\n1,2".encode())
    assert caught.value.reason == "malformed_csv"
    assert "line 1: " in caught.value.detail


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("a,b\n1,2", {"a": 1, "b": 2}),
        ("a,b\r\n1,2\r\n3,4\r\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ("a,b\r1,2\r3,4", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ("\ufeffa,b\n1,2", {"a": 1, "b": 2}),
        ("\n a , b \n\n 1 ,\t2 \n \n", {"a": 1, "b": 2}),
        ("a;b\n21,5;40", {"a": "21,5", "b": 40}),
        ("sep=;\r\na;b\r\n21,5;40", {"a": "21,5", "b": 40}),  # as a table program wants it
        ("\ufeffSEP=,\na,b\n1,2", {"a": 1, "b": 2}),
        ("a\tb\n1,5\t2", {"a": "1,5", "b": 2}),
        ("a|b\n1|2", {"a": 1, "b": 2}),
        ("temperature (x,y);b\n1;2", {"temperature (x,y)": 1, "b": 2}),
        ('"a,1","b;2;3"\n1,2', {"a,1": 1, "b;2;3": 2}),
        ("a\n21.5", {"a": 21.5}),
        ("a\n21,5", {"a": "21,5"}),
        ("a,b\n,2", {"a": None, "b": 2}),
        ('a,b\n"",2', {"a": None, "b": 2}),
        ("a,b,\n1,2,", {"a": 1, "b": 2}),
        ("a,b\n1,2,", {"a": 1, "b": 2}),
        ("a,b\n1,2\na,b\n3,4", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ("a,b\n-1.5e-3,true", {"a": -0.0015, "b": True}),
        ("a,b\n007,12e45", {"a": "007", "b": "12e45"}),
        ("a,b\nnan,2", {"a": ("malformed_csv", "nan"), "b": 2}),
        ("a,b\n1e999,2", {"a": "1e999", "b": 2}),
        ("a,b\n1.0e999,2", {"a": ("number_out_of_range", "1.0e999"), "b": 2}),
        ("a,b\n18446744073709551616,2", {"a": 18446744073709551616, "b": 2}),
        ("a,b\n2026-11-23T09:00:00Z,°C", {"a": "2026-11-23T09:00:00Z", "b": "°C"}),
    ],
)
def test_a_header(payload: str, value: object) -> None:
    """The first line names the columns and tells the delimiter; numbers are such, empty values are none."""
    assert plain(form().parse(payload.encode())) == value


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("aaa,bbb,ccc", ("aaa", "bbb", "ccc")),
        ('"aaa","bbb","ccc"', ("aaa", "bbb", "ccc")),
        ('"aaa","b \nbb","ccc"', ("aaa", "b \nbb", "ccc")),
        ('"aaa","b\r\nbb","ccc"', ("aaa", "b\r\nbb", "ccc")),
        ('"aaa","b""bb","ccc"', ("aaa", 'b"bb', "ccc")),
        ('"aaa", "b,bb" ,ccc', ("aaa", "b,bb", "ccc")),
        ('""" """,x"y",5" pipe', ('" "', 'x"y"', '5" pipe')),
        ('" a ","21.5",', (" a ", 21.5, None)),
    ],
)
def test_quotes(line: str, cells: tuple[object, ...]) -> None:
    """The examples of RFC 4180 §2, and what writers of CSV make of it."""
    names = ("x", "y", "z")
    assert form(columns=names).parse(line.encode()) == dict(zip(names, cells, strict=True))


@pytest.mark.parametrize(
    ("words", "payload", "value"),
    [
        ({"columns": AB}, "1,2", {"a": 1, "b": 2}),
        ({"columns": AB}, "1;2\n3;4", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ({"columns": AB}, "21,5;40", {"a": "21,5", "b": 40}),
        ({"columns": AB}, "21,5;40,2", {"a": "21,5", "b": "40,2"}),
        ({"columns": ("a",)}, "21,5", {"a": "21,5"}),
        ({"columns": AB}, "a,b\n1,2", {"a": 1, "b": 2}),
        ({"columns": AB, "header": True}, "T [C];H [%]\n1;2", {"a": 1, "b": 2}),
        ({"columns": AB, "header": False}, "a,b\n1,2", [{"a": "a", "b": "b"}, {"a": 1, "b": 2}]),
        ({"columns": AB, "delimiter": ","}, "1,2;3", {"a": 1, "b": "2;3"}),
        ({"columns": AB, "delimiter": ":"}, "1:2", {"a": 1, "b": 2}),
        ({"columns": AB, "delimiter": "]"}, '1]"2]"', {"a": 1, "b": "2]"}),
        ({"columns": AB, "delimiter": "^"}, "1^2", {"a": 1, "b": 2}),
        ({"delimiter": "-", "header": True}, "a-1\n3-4", {"a": 3, "1": 4}),
        ({"comment": "#"}, "# by a logger\na,b\n#1,2\n3,4", {"a": 3, "b": 4}),
        ({"header": True}, "time,1,2\nx,3,4", {"time": "x", "1": 3, "2": 4}),
    ],
)
def test_words(words: dict[str, Any], payload: str, value: object) -> None:
    """A route names columns and delimiter, and says whether there is a header and how comments begin."""
    assert form(**words).parse(payload.encode()) == value


@pytest.mark.parametrize(
    ("payload", "reason", "said"),
    [
        ("\n \n", "empty_message", ""),
        ("a,b\n", "empty_message", "no line"),
        ("a,a\n1,2", "duplicate_key", "line 1: the header names 'a' twice"),
        ("21.5,40\n1,2", "malformed_csv", "line 1: '21.5' is a value, and no name of a column; csv.columns"),
        ("a,b\n1,2,3", "malformed_csv", "line 2: 3 values for 2 columns"),
        ("a,b\n1", "malformed_csv", "line 2: 1 value for 2 columns"),
        ('a,b\n"1,2', "malformed_csv", "line 2: value 1 begins with a quote that is not closed"),
        (
            'a,b\n1,"2"x',
            "malformed_csv",
            "line 2: value 2 begins with a quote that is not closed, or not followed",
        ),
        ('"a,b\n1,2', "malformed_csv", "value 1 begins with a quote"),
        ("a,,b\n1,5,2", "malformed_csv", "line 2: '5' stands in a column that has no name"),
    ],
)
def test_refused(payload: str, reason: str, said: str) -> None:
    """What cannot be read is refused, with its line."""
    with pytest.raises(Reject) as refused:
        form().parse(payload.encode())
    assert refused.value.reason == reason
    assert said in refused.value.detail


def test_bytes_that_are_no_text() -> None:
    """A line that is not UTF-8 is refused by itself; a header that is not leaves nothing to read by."""
    found = plain(form(columns=AB).parse(b"1,2\n\xb0C,2\n3,4"))
    assert found == [
        {"a": 1, "b": 2},
        ("not_utf8", "line 2: the line is not UTF-8: send that, and no Latin-1"),
        {"a": 3, "b": 4},
    ]
    with pytest.raises(Reject, match="line 1, the header, is not UTF-8"):
        form().parse(b"\xb0C,b\n1,2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"columns": ("a", "a")}, "'a' is named twice"),
        ({"columns": ("a", "")}, "a name is empty"),
        ({"header": False}, "csv.columns: are needed"),
        ({"delimiter": '"'}, "csv.delimiter: '\"' is none"),
    ],
)
def test_words_that_mean_nothing(words: dict[str, Any], said: str) -> None:
    """They are refused at start."""
    with pytest.raises(ConfigurationError, match=r"route\[0\]\.csv\.") as refused:
        form(**words)
    assert said in str(refused.value)


def test_a_bad_line_costs_its_neighbours_nothing() -> None:
    """A line of another length, or with a quote that is never closed, is a letter: its header and itself."""
    payload = b'id,ts,t\r\n1,1763888400,21.5\r\n2,1763888401\r\n3,1763888402,"22\r\n4,1763888403,23\r\n'
    readings, letters = decode(payload, route=Route(format="csv"))
    assert [reading.event.key for reading in readings] == ["1", "4"]
    assert [json.loads(bytes(reading.event.metrics)) for reading in readings] == [{"t": 21.5}, {"t": 23}]
    assert [reading.raw for reading in readings] == [
        b"id,ts,t\n1,1763888400,21.5",
        b"id,ts,t\n4,1763888403,23",
    ]
    assert [(letter.reason, letter.payload) for letter in letters] == [
        ("malformed_csv", b"id,ts,t\n2,1763888401"),
        ("malformed_csv", b'id,ts,t\n3,1763888402,"22'),
    ]


def test_many_bad_lines_share_a_header() -> None:
    """The letter of the eleventh and all later ones has the header once."""
    payload = b"id,t\n0,1\n" + b"".join(b"%d\n" % n for n in range(1, 14))
    _, letters = decode(payload, route=Route(format="csv"))
    assert letters[-1].payload == b"id,t\n11\n12\n13"


@pytest.mark.parametrize(
    "piece",
    [b'"\n', b'"x\n""\n', b'","\n', b'x"y,"a\n"\n', b'"a\n""\n""\n', b"1,\n", b",", b'"', b'1,""""\n'],
)
def test_quotes_cost_what_the_payload_does(piece: bytes) -> None:
    """Quotes that open and close in the wrong places are gone over once or twice, not again for each line."""
    payload = piece * (15_000 // len(piece))
    began = time.process_time()
    with contextlib.suppress(Reject):
        form(columns=AB).parse(payload)
    with contextlib.suppress(Reject):
        form().parse(b"a,b\n" + payload)
    assert time.process_time() - began < 10


CELLS = st.text(alphabet='ab1.5,;" \n\r\t|é', max_size=6)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=5)
)


@settings(max_examples=50, deadline=None)
@given(TABLES, st.sampled_from("\t;|,"), st.sampled_from(["\n", "\r\n"]))
def test_what_a_library_writes(rows: list[list[str]], delimiter: str, ends: str) -> None:
    """Texts that Python's own module wrote with quotes come back, but for numbers and empty ones."""
    text = io.StringIO(newline="")
    names = [f"c{n}" for n in range(len(rows[0]))]
    csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=csv.QUOTE_ALL).writerows(
        [names, *rows]
    )
    by = form(delimiter=delimiter)
    found = by.parse(text.getvalue().encode())
    found = found if isinstance(found, list) else [found]
    assert len(found) == len(rows)
    for values, row in zip(found, rows, strict=True):
        for value, cell in zip(values.values(), row, strict=True):
            assert value == (cell or None) or str(float(value)) == str(float(cell))


WORDS = st.sampled_from(
    [
        {},
        {"columns": AB},
        {"columns": AB, "header": True},
        {"columns": AB, "header": False},
        {"columns": AB, "delimiter": ";"},
        {"comment": "#"},
        {"header": True},
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    WORDS,
    st.one_of(
        st.binary(max_size=40),
        st.text(alphabet='ab1,;"\n\r# \t\ufeffé', max_size=40).map(str.encode),
        st.text(alphabet='ab1,;"\n\r# \t\ufeffé', max_size=40).map(lambda text: f"a,b\n{text}".encode()),
    ),
)
def test_whatever_comes(words: dict[str, Any], payload: bytes) -> None:
    """Any bytes are read or refused; each element is a payload of its line, and joined they are the same."""
    by = form(**words)
    with contextlib.suppress(Reject):
        value = by.parse(payload)
        if isinstance(value, list):
            cut = by.elements(payload)
            for each, raw in zip(value, cut, strict=True):
                if isinstance(each, Refused):
                    with pytest.raises(Reject) as refused:
                        by.parse(bytes(raw))
                    assert refused.value.reason == each.reason
                else:
                    assert plain(by.parse(bytes(raw))) == plain(each)
            again = by.parse(by.join(cut))
            assert [type(each) for each in again] == [type(each) for each in value]
