r"""Lines of values with a delimiter between them (CSV, RFC 4180), each line a message.

The names of the columns are the route's, or stand in the first line of each payload. A line that repeats
them is a header as well. Values have no types: see `texts`; white space around one counts for nothing, and an
empty one is no value, quoted or not. A quoted value may hold delimiters, line ends, and quotes that are
written twice; a quote inside a value that does not begin with one is a character like any. A column without
a name holds nothing: the end of lines that end with a delimiter.

Where the route does not say the delimiter, a header says it for its payload, and without one each line for
itself: it is the one that gives as many values as there are columns. When several do, a tab counts before a
semicolon, a bar and a comma: `21,5;40` is two values with a decimal comma.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.formats.form import Format
from gateway.decode.formats.lines import TooMuch, read_lines
from gateway.decode.formats.texts import read_text
from gateway.decode.limits import (
    MAX_ELEMENTS,
    MAX_LINES,
    MAX_VALUES,
    check_count,
    lines_allowed,
    too_many_values,
)
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.settings import Route

_DELIMITERS: Final = ("\t", ";", "|", ",")
_QUOTE: Final = '"'
_BOM: Final = "\ufeff"
_MALFORMED: Final = "malformed_csv"
_NO_TEXT: Final = re.compile(r"[\ud800-\udfff]")  # what a byte that is no UTF-8 was kept as
_LINE: Final = re.compile(r"[^\r\n]*+(?:\r\n?|\n)|[^\r\n]++")
_FOR_EXCEL: Final = re.compile(r"sep=[^\r\n][\r\n]*", re.IGNORECASE)  # a line that tells it the delimiter
_QUOTED: Final = r'"(?:[^"]|"")*+"'
_HEADERS: Final = 64  # that are remembered
_MOST_BYTES: Final = 16_000_000  # of all copies of a header
_MAX_NAME: Final = 512  # characters
_WAY: Final = "csv.columns on its route names them where there is no header"


def make(route: Route, where: str) -> Format:
    """The format of a route.

    Raises:
        ConfigurationError: its columns or its delimiter mean nothing.
    """
    names, header, delimiter = route.csv.columns, route.csv.header, route.csv.delimiter
    if "" in names or any(name != name.strip() for name in names):
        raise ConfigurationError(f"{where}.csv.columns: a name is empty, or has white space around it")
    if twice := _twice(names):
        raise ConfigurationError(f"{where}.csv.columns: {twice!r} is named twice")
    if header is False and not names:
        raise ConfigurationError(f"{where}.csv.columns: are needed where header is false")
    if delimiter in {_QUOTE, "\r", "\n", " "}:
        raise ConfigurationError(
            f"{where}.csv.delimiter: {delimiter!r} is none; a comma, a semicolon, a tab or a bar is"
        )
    lines = _Lines(names, header=header, delimiter=delimiter, comment=route.csv.comment)
    return Format(lines.parse, lines.elements, lines.join, lines=True)


class _Head(NamedTuple):
    """What a payload says of its lines.

    Attributes:
        names: of the columns.
        delimiter: between values; empty when each line is asked.
        raw: the header, without its line end; None when elements need none.
        lines: those after it, with their numbers.
    """

    names: tuple[str, ...]
    delimiter: str
    raw: str | None
    lines: Iterator[tuple[int, str]]


class _Lines:
    """Reads the payloads of one route.

    Args:
        names: of the columns; empty when a header names them.
        header: whether the first line is one; None when it is found out.
        delimiter: between values; empty when it is found out.
        comment: how a line begins that is none; empty when all are.
    """

    def __init__(self, names: tuple[str, ...], *, header: bool | None, delimiter: str, comment: str) -> None:
        self._names = names
        self._header = header
        self._delimiter = delimiter
        self._comment = comment
        self._known: dict[str, tuple[tuple[str, ...], str]] = {}  # headers: a device sends the same each time

    def parse(self, payload: bytes) -> Any:  # noqa: ANN401  # a format's value is any value
        """The values of a line by the names of its columns, or those of several lines.

        Raises:
            Reject: the header is none, there is no line, or the only one cannot be read.
        """
        text = _text(payload)
        names, delimiter, _, lines = self._head(text)
        suspicious = not text.isascii()
        left = max(MAX_VALUES, len(names))

        def read(line: str) -> dict[str, Any]:
            nonlocal left
            left -= len(names)
            if left < 0:
                raise TooMuch(too_many_values(MAX_VALUES, "values of lines"))
            if suspicious and _NO_TEXT.search(line):
                raise Reject("not_utf8", "the line is not UTF-8: send that, and no Latin-1")
            return _values(names, _cells_of(line, delimiter, len(names)))

        return read_lines(lines, read, len(payload))

    def elements(self, payload: bytes) -> list[bytes]:
        """The lines, each after the header if there is one.

        Raises:
            Reject: reason `too_many_readings`: that would be too much.
        """
        _, _, raw, lines = self._head(_text(payload))
        if raw is None:
            return [_bytes(line) for _, line in lines]
        found, header = [line for _, line in lines], _bytes(f"{raw}\n")
        if len(found) * len(header) > _MOST_BYTES:
            raise Reject(
                "too_many_readings",
                f"{len(found)} lines, each with a header of {len(header)} bytes, are more than "
                f"{_MOST_BYTES} bytes; send fewer in one message, or no header: {_WAY}",
            )
        return [header + _bytes(line) for line in found]

    def join(self, elements_: Sequence[bytes | memoryview]) -> bytes:
        """The lines after one header."""
        found = [bytes(each) for each in elements_]
        raw = self._head(_text(found[0])).raw
        begin = 0 if raw is None else len(_bytes(raw)) + 1
        return b"\n".join([found[0], *(each[begin:] for each in found[1:])])

    def _head(self, text: str) -> _Head:
        """Take the header off."""
        lines = self._records(text)
        raw = None
        names, delimiter = self._names, self._delimiter
        if not names or self._header:
            number, raw = next(lines, (0, ""))
            known = self._known.get(raw)
            if known is None:
                known = self._named(raw, number)
                if len(self._known) >= _HEADERS:
                    self._known.clear()
                self._known[raw] = known
            names, delimiter = known
        if self._header is not False:
            lines = (each for each in lines if not _is_header(each[1], names, delimiter))
        return _Head(names, delimiter, raw, lines)

    def _named(self, raw: str, number: int) -> tuple[tuple[str, ...], str]:
        """The names and the delimiter that a header says."""
        if _NO_TEXT.search(raw):
            raise Reject("not_utf8", f"line {number}, the header, is not UTF-8")
        delimiter = self._delimiter or _most(raw)
        cells = tuple(cell.strip() for cell in _cells(raw, delimiter or _DELIMITERS[0]))
        return self._checked(self._names, cells, number), delimiter

    def _checked(self, names: tuple[str, ...], cells: tuple[str, ...], number: int) -> tuple[str, ...]:
        """The names of the columns, by a header."""
        if len(cells) > MAX_ELEMENTS:
            raise too_many_values(MAX_ELEMENTS, "columns")
        for cell in cells:
            if len(cell) > _MAX_NAME:
                raise Reject(
                    _MALFORMED,
                    f"line {number}: {cell[:40]!r}… has {len(cell)} characters, the name of a column "
                    f"{_MAX_NAME} at most; {_WAY}",
                )
        if names:
            if len(cells) != len(names) and not _ends_open(cells, len(names)):
                raise Reject(
                    _MALFORMED,
                    f"line {number}: the header has {_so_many(len(cells), 'column')}, its route {len(names)}",
                )
            return names
        if not any(cells):
            raise Reject("empty_message", "there is no line with anything in it")
        if twice := _twice([cell for cell in cells if cell]):
            raise Reject("duplicate_key", f"line {number}: the header names {twice[:40]!r} twice; {_WAY}")
        for cell in cells:
            if self._header is None and type(read_text(cell, _MALFORMED)) is not str:
                raise Reject(
                    _MALFORMED,
                    f"line {number}: {cell[:40]!r} is a value, and no name of a column; {_WAY}, and "
                    f"csv.header = true says that this is one",
                )
        return cells

    def _records(self, text: str) -> Iterator[tuple[int, str]]:
        """The lines that hold something; one with a line end in quotes is one line."""
        lines: list[str] = _LINE.findall(text)
        at, comment = 0, self._comment
        count = 0 if self._names and not self._header else -2  # a header in quotes
        while at < len(lines):
            line, number = lines[at], at + 1
            at += 1
            bare = line.lstrip(_BOM)
            if not bare or bare.isspace() or (comment and bare.startswith(comment)):
                continue
            if number == 1 and _FOR_EXCEL.fullmatch(bare):
                continue
            count += 1 if _QUOTE not in line else 2  # it takes twice as long
            if count > MAX_LINES:
                check_count(count, lines_allowed(len(text)), "lines")
            if _QUOTE in line:
                end = _end(lines, at, self._delimiter or "".join(_DELIMITERS))
                line, at = "".join(lines[at - 1 : end]), end
            yield number, line.rstrip("\r\n")


def _end(lines: list[str], at: int, delimiters: str) -> int:
    """Where a record ends that begins with the line before `at`; there, when its quotes are never closed."""
    finished = _finished(delimiters)
    if finished(lines[at - 1]):
        return at
    end, odd = at, lines[at - 1].count(_QUOTE) % 2
    while odd and end < len(lines):
        odd ^= lines[end].count(_QUOTE) % 2
        end += 1
    return end if finished("".join(lines[at - 1 : end])) else at


@cache
def _finished(delimiters: str) -> Callable[[str], object]:
    """What says whether all the quotes of a record are closed."""
    one = f"[{re.escape(delimiters)}]"
    other = f"[^{re.escape(delimiters)}\r\n]"
    return re.compile(
        rf' *+(?:{_QUOTED} *+|(?!"){other}*+)(?:{one} *+(?:{_QUOTED} *+|(?!"){other}*+))*+[\r\n]*'
    ).fullmatch


@cache
def _cell(delimiter: str) -> Callable[[str, int], re.Match[str] | None]:
    """What finds the next value of a line and what ends it."""
    one = re.escape(delimiter)
    return re.compile(
        rf' *+(?:"(?P<quoted>(?:[^"]|"")*+)" *+|(?P<bare>(?!")[^{one}]*+))(?P<end>{one}|\Z)'
    ).match


def _cells(line: str, delimiter: str) -> list[str]:
    """The values of a line.

    Raises:
        Reject: a quote is not closed, or something follows it.
    """
    line = line.lstrip(_BOM)
    if _QUOTE not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    cells: list[str] = []
    next_, at = _cell(delimiter), 0
    while found := next_(line, at):
        quoted, bare, end = found.groups()
        cells.append(bare.strip() if quoted is None else quoted.replace('""', _QUOTE))
        if not end:
            return cells
        at = found.end()
    raise Reject(
        _MALFORMED,
        f"value {len(cells) + 1} begins with a quote that is not closed, or not followed by {delimiter!r}",
    )


def _cells_of(line: str, delimiter: str, count: int) -> list[str]:
    """The values of a line that should have so many, by the delimiter that gives them if none is said.

    Raises:
        Reject: of the most frequent one, when none gives them.
    """
    if delimiter:
        return _cells(line, delimiter)
    for each in _DELIMITERS:
        if line.count(each) >= count - 1:
            try:
                cells = _cells(line, each)
            except Reject:
                continue
            if len(cells) == count or _ends_open(cells, count):
                return cells
    return _cells(line, _most(line) or _DELIMITERS[0])


def _most(line: str) -> str:
    """The delimiter that a line has most of, outside of quotes; empty when it has none."""
    bare = re.sub(_QUOTED, "", line)
    most = max(_DELIMITERS, key=bare.count)
    return most if most in bare else ""


def _ends_open(cells: Sequence[str], count: int) -> bool:
    """Whether a line is as long as it should be but for the delimiter at its end."""
    return len(cells) == count + 1 and not cells[-1]


def _values(names: Sequence[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(names) and not _ends_open(cells, len(names)):
        raise Reject(_MALFORMED, f"{_so_many(len(cells), 'value')} for {_so_many(len(names), 'column')}")
    found: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=False):
        if name:
            found[name] = read_text(cell, _MALFORMED) if cell else None
        elif cell:
            raise Reject(_MALFORMED, f"{cell[:40]!r} stands in a column that has no name; {_WAY}")
    return found


def _so_many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _is_header(line: str, names: Sequence[str], delimiter: str) -> bool:
    if names[0] not in line or names[-1] not in line:
        return False
    try:
        cells = _cells_of(line, delimiter, len(names))
    except Reject:
        return False
    return [cell.strip() for cell in cells] == list(names)


def _twice(names: Sequence[str]) -> str:
    """The first name that is there before; empty when there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _text(payload: bytes) -> str:
    """The text of a payload; a byte that is no UTF-8 stays what it is, to be refused with its line."""
    return payload.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
