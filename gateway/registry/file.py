"""The registry as CSV (RFC 4180), UTF-8, for spreadsheets and back. Pure.

What a spreadsheet would take for a formula gets an apostrophe in front, which reading takes off again: also
behind a semicolon, as some of them cut there. So what was written is read as it was, whatever devices and
people are called, and runs on nobody's desk.

A column that is not there leaves what it would say as it is, as an empty `state` does; any other empty cell
says that there is none.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.registry.entry import (
    Wish,
    checked_id,
    checked_name,
    encoded,
    every_text,
    parse_every,
    parse_labels,
    parse_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.registry.entry import Entry

COLUMNS: Final = ("device_id", "name", "state", "expected_every", "labels")

MOST_BYTES: Final = 256 * 1024 * 1024
_MOST_FAULTS: Final = 1000

_FORMULA: Final = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_PLAIN: Final = re.compile(rf"(^|;)(\s*)('*{_FORMULA})")
_ESCAPED: Final = re.compile(rf"(^|;)(\s*)'('*{_FORMULA})")


class Fault(NamedTuple):
    """What is wrong with a row; the first row is the one with the names."""

    row: int
    error: str


def row_of(entry: Entry) -> str:
    """A device as a line of a file."""
    device_id, name, state, labels, expected_s = entry
    cells = (device_id, name or "", state, every_text(expected_s), encoded(labels) if labels else "")
    return line([_PLAIN.sub(r"\1\2'\3", cell) for cell in cells])


def read(content: bytes) -> tuple[list[Wish], list[Fault]]:
    """What a file wants, and what is wrong with it; with any of the latter nothing of it is to be done."""
    if len(content) > MOST_BYTES:
        return [], [Fault(1, f"the file has more than {MOST_BYTES:,} bytes")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        return [], [Fault(row, "not UTF-8; save it as CSV UTF-8")]
    head = text.partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in head), ",")  # as some spreadsheets write it
    rows = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1)
    wishes: dict[str, tuple[int, Wish]] = {}
    faults: list[Fault] = []
    row = 0
    try:
        row, names = next(rows, (1, []))
        columns = [name.strip() for name in names]
        if fault := _fault_of(columns):
            return [], [Fault(1, fault)]
        for row, cells in rows:
            try:
                if any(cells):
                    wish = _wish(columns, cells)
                    first, _ = wishes.setdefault(wish.device_id, (row, wish))
                    _refuse_twice(wish, first, row)
            except ValueError as error:
                faults.append(Fault(row, str(error)))
                if len(faults) == _MOST_FAULTS:
                    break
    except csv.Error as error:
        faults.append(Fault(row + 1, str(error)))
    return [wish for _, wish in wishes.values()], faults


def _refuse_twice(wish: Wish, first: int, row: int) -> None:
    if first != row:
        raise ValueError(f"device {wish.device_id!r} is in row {first} too")


def _fault_of(columns: list[str]) -> str | None:
    if "device_id" not in columns:
        return f"no column device_id; the first row names the columns: {', '.join(COLUMNS)}"
    if unknown := [name for name in columns if name not in COLUMNS]:
        return f"unknown column {unknown[0][:40]!r}; there are {', '.join(COLUMNS)}"
    if len(set(columns)) < len(columns):
        return "a column is there twice"
    return None


def _wish(columns: list[str], cells: list[str]) -> Wish:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells, expected {len(columns)}")
    said = {name: _ESCAPED.sub(r"\1\2\3", cell) for name, cell in zip(columns, cells, strict=True)}
    state = said.get("state", "").strip()
    return Wish(
        checked_id(said["device_id"]),
        checked_name(said["name"]) if "name" in said else None,
        parse_state(state) if state else None,
        parse_labels(said["labels"]) if "labels" in said else None,
        expected_s=parse_every(said["expected_every"].strip()) if "expected_every" in said else None,
    )


def line(cells: Iterable[str]) -> str:
    """Cells as a line of a file."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
