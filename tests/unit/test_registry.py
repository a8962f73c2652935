"""What can be said of a device, and the file it is written to and read from."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.registry.entry import Entry, Wish, check_labels, checked_name, every_text, parse_every
from gateway.registry.file import COLUMNS, line, read, row_of
from gateway.registry.render import cells
from gateway.registry.table import Listed

FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
NO_COLUMN = "no column device_id; the first row names the columns: " + ", ".join(COLUMNS)
UNPRINTED = "has a control character or another that is not printed"
TEXT = st.text(
    st.one_of(
        st.sampled_from("=+-@;'\", \uff1d\N{ZERO WIDTH JOINER}"),
        st.characters(categories=["L", "N", "P", "S"]),
    ),
    min_size=1,
    max_size=20,
)
NAMES = TEXT.map(str.strip).filter(bool)
IDS = TEXT.filter(lambda text: not set("+#/\N{ZERO WIDTH JOINER}") & set(text))
LABELS = st.dictionaries(st.from_regex(r"\A[a-z_][a-z0-9_.-]{0,5}\Z"), NAMES, max_size=3)
ENTRIES = st.builds(
    Entry,
    IDS,
    st.none() | NAMES,
    st.sampled_from(["active", "blocked", "unknown"]),
    LABELS,
    st.none() | st.integers(1, 3650 * 86_400),
)


@settings(max_examples=100)
@given(st.lists(ENTRIES, unique_by=lambda entry: entry.device_id, max_size=5))
def test_what_is_written_is_read_as_it_was(entries: list[Entry]) -> None:
    """Whatever devices and people are called; and no cell is one that a spreadsheet takes for a formula."""
    content = line(COLUMNS) + "".join(map(row_of, entries))
    wishes, faults = read(content.encode())
    assert faults == []
    assert [wish.on(None) for wish in wishes] == entries
    assert [wish.on(entry) for wish, entry in zip(wishes, entries, strict=True)] == entries
    for cells_ in csv.reader(io.StringIO(content, newline=""), strict=True):
        for part in (part.lstrip(" ") for cell in cells_ for part in cell.split(";")):
            assert not part.startswith(FORMULA)


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("", [(1, NO_COLUMN)]),
        ("name\nPump\n", [(1, NO_COLUMN)]),
        ("device_id,nmae\n", [(1, "unknown column 'nmae'; there are " + ", ".join(COLUMNS))]),
        ("device_id,name,name\n", [(1, "a column is there twice")]),
        ("device_id\na\n\n,\nb,c\n", [(4, "2 cells, expected 1"), (5, "2 cells, expected 1")][1:]),
        ("device_id\na\nb\na\n", [(4, "device 'a' is in row 2 too")]),
        ("device_id,state\na,on\n", [(2, "state 'on': expected one of active, blocked, unknown")]),
        ("device_id,name\na,x\x1b[31m\n", [(2, f"name 'x\\x1b[31m' {UNPRINTED}")]),
        ("device_id,name\na,\u202egnp.exe\n", [(2, f"name '\\u202egnp.exe' {UNPRINTED}")]),
        (f"device_id,name\na,{'n' * 101}\n", [(2, f"name {'n' * 40!r}… has 101 characters, at most 100")]),
        ('device_id,name\na,"b"c\n', [(2, "',' expected after '\"'")]),
        (
            "device_id,expected_every\na,500ms\n",
            [(2, 'expected_every 500ms: expected whole seconds, from "1s" to "3650d"')],
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_row(content: str, faults: list[tuple[int, str]]) -> None:
    """The first row is the one with the names, as in the spreadsheet in which somebody looks for it."""
    found = read(content.encode())[1]
    assert [tuple(fault) for fault in found] == faults


def test_labels_that_are_no_texts_are_shown_as_they_should_be() -> None:
    """The row, what stands there, and an example."""
    (fault,) = read(b'device_id,labels\na,"{""x"":1}"\n')[1]
    assert fault.row == 2
    assert fault.error.startswith("""labels '{"x":1}': expected such as {"site": "north"}: """)


def test_a_file_as_spreadsheets_save_it() -> None:
    """With a mark of its order of bytes, semicolons or tabs, spaces around, rows that are empty."""
    content = "\ufeffdevice_id; name ;expected_every\r\na1; Pump ;15m\r\n;;\r\n"
    assert read(content.encode()) == ([Wish("a1", "Pump", expected_s=900)], [])
    assert read(content.replace(";", "\t").encode()) == ([Wish("a1", "Pump", expected_s=900)], [])
    assert read("device_id\nä\n".encode("latin-1"))[1][0].row == 2


@pytest.mark.parametrize(
    ("wish", "before", "after"),
    [
        (Wish("a"), None, Entry("a")),
        (Wish("a"), Entry("a", "n", "unknown", {"x": "1"}, 5), Entry("a", "n", "active", {"x": "1"}, 5)),
        (Wish("a"), Entry("a", state="blocked"), Entry("a", state="blocked")),
        (Wish("a", state="active"), Entry("a", state="blocked"), Entry("a")),
        (Wish("a", name="", expected_s=0), Entry("a", "n", expected_s=5), Entry("a")),
        (Wish("a", labels={}), Entry("a", labels={"x": "1"}), Entry("a")),
        (
            Wish("a", more={"y": "2"}, fewer=frozenset("x")),
            Entry("a", labels={"x": "1", "z": "3"}),
            Entry("a", labels={"y": "2", "z": "3"}),
        ),
    ],
)
def test_what_a_wish_makes_of_a_device(wish: Wish, before: Entry | None, after: Entry) -> None:
    """What it does not say stays; whoever is named becomes active, unless it is blocked."""
    assert wish.on(before) == after


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:b": "x"},
        {"a=b": "x"},
        {"a": ""},
        {"a": "x" * 201},
        {"a": "\x1b[2J"},
        {"n" * 65: "x"},
        {f"n{i}": "x" for i in range(21)},
        {f"n{i}": "x" * 200 for i in range(10)},
    ],
)
def test_labels_that_cannot_be(labels: dict[str, str]) -> None:
    """Their names fit into a filter, their values onto a screen, and all of them into a bound."""
    with pytest.raises(ValueError, match="label"):
        check_labels(labels)


def test_labels_have_an_end_together() -> None:
    """Also those that are added one by one."""
    before = Entry("a", labels={f"n{i}": "x" for i in range(20)})
    with pytest.raises(ValueError, match="21 labels, at most 20"):
        Wish("a", more={"one": "more"}).on(before)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (90, "90s"), (900, "15m"), (5400, "90m"), (86_400, "1d")]
)
def test_how_often_as_text(seconds: int, text: str) -> None:
    """In the largest unit of which it is a whole number; and back."""
    assert every_text(seconds) == text
    assert parse_every(text) == seconds


def test_names_keep_what_scripts_need() -> None:
    """Joiners that are not printed are of Persian, of Indian scripts, and of emoji."""
    assert (
        checked_name(" \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} ")
        == "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}"
    )


def test_nothing_that_strangers_wrote_reaches_a_terminal() -> None:
    """Also where somebody put it into the table by hand."""
    device = Listed("\u202ea", "\x1b]0;x\x07", "unknown", {"x": "\x1b[31m"}, None, "\x9bm", None, None, 3)
    shown = cells(device)
    assert all(cell.isprintable() for cell in shown)
    assert shown[:6] == ("\\u202ea", "\\x1b]0;x\\x07", "unknown", "-", "never", "3")
