r"""InfluxDB's line protocol, each line a message.

Sources: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/, and the grammar in
https://github.com/influxdata/line-protocol, which says more of escapes.

`weather,location=us-midwest temperature=82 1465839830100400200` is `{"measurement": "weather", "tags":
{"location": "us-midwest"}, "fields": {"temperature": 82.0}, "time": 1465839830100400200}`: the time in
nanoseconds, null where a line has none. A number without `i` or `u` is a double. In names and tags a
backslash takes the meaning from a comma, a space or an equals sign, and is itself otherwise; in strings it
does so for a quote and a backslash. A string may go on in the next line. What InfluxDB lets pass and would
keep by half, a tag or field of one name twice, is refused.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import NoNumber
from gateway.decode.formats.form import Format
from gateway.decode.formats.lines import TooMuch, read_lines
from gateway.decode.limits import MAX_ODD, MAX_READINGS, check_count, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.settings import Route

_MALFORMED: Final = "malformed_influx"
_RANGE: Final = "number_out_of_range"

# All of these go over a line once: nothing in them can be matched in two ways, or is given back.
_CONTROL: Final = r"\x00-\x1f\x7f"
_ESCAPE: Final = rf"\\++[^\\{_CONTROL}]"
_NAME: Final = rf"(?=[^ ,=])[^ ,=\\{_CONTROL}]*+(?:{_ESCAPE}[^ ,=\\{_CONTROL}]*+)*+"
_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+'  # all but its end
_AFTER: Final = r"(?:,| ++|\Z)"
_MEASUREMENT: Final = re.compile(rf"((?=[^ ,])[^ ,\\{_CONTROL}]*+(?:{_ESCAPE}[^ ,\\{_CONTROL}]*+)*+){_AFTER}")
_TAG: Final = re.compile(rf"({_NAME})=((?=[^ ,=])[^ ,=\\\n]*+(?:\\++[^\\\n][^ ,=\\\n]*+)*+){_AFTER}")
_FIELD: Final = re.compile(
    rf"({_NAME})="
    r"(?:(?P<float>-?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
    r"|(?P<int>-?[0-9]++)i|(?P<uint>[0-9]++)u"
    rf'|(?P<string>{_STRING})"'
    rf"|(?P<word>[A-Za-z+-]++)){_AFTER}",
    re.DOTALL,
)
# Of most lines it takes no more than this: no escapes, no strings, numbers that are finite for sure.
_WORD: Final = r'[^ ,="\\\x00-\x1f\x7f\ud800-\udfff]++'
_NUMBER: Final = r"-?+[0-9]{1,18}+(?:i|(?:\.[0-9]{1,18}+)?+(?:[eE][+-]?+[0-9]{1,2}+)?+)"
_USUAL: Final = re.compile(
    rf"((?!\#){_WORD})((?:,{_WORD}={_WORD})*+) ++({_WORD}={_NUMBER}(?:,{_WORD}={_NUMBER})*+)"
    r"(?: ++(-?+[0-9]{1,19}+))?+ *+\r?+\n?+"
)
_OPEN: Final = re.compile(rf"{_NAME}={_STRING}\Z", re.DOTALL)
_FIELDS_OPEN: Final = re.compile(
    rf'[^ \\]*+(?:\\.[^ \\]*+)*+ ++(?:{_NAME}=(?:{_STRING}"|[^", ]*+),)*+{_OPEN.pattern}', re.DOTALL
)
_REOPENED: Final = re.compile(rf',(?:{_NAME}=(?:{_STRING}"|[^", ]*+),)*+{_OPEN.pattern}', re.DOTALL)
_CLOSED: Final = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TIME: Final = re.compile(r"-?[0-9]{1,19}")
_NAME_ESCAPE: Final = re.compile(r"\\([,= ])")
_MEASUREMENT_ESCAPE: Final = re.compile(r"\\([, ])")
_STRING_ESCAPE: Final = re.compile(r'\\(["\\])')
_NO_TEXT: Final = re.compile(r"[\ud800-\udfff]")  # what a byte that is no UTF-8 was kept as

_WORDS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
_NOT_FINITE: Final = frozenset({"nan", "inf", "infinity"})
_INT64: Final = 2**63
_UINT64: Final = 2**64
_LONG: Final = 20  # digits of the longest of them

_NANOSECONDS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_BY_SIZE: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))  # as of every device time


def make(route: Route, _where: str) -> Format:
    """The format of a route."""
    unit = _NANOSECONDS.get(route.influx.precision)

    def parse(payload: bytes) -> Any:  # noqa: ANN401  # a format's value is any value
        text, slow = _text(payload), 0

        def read(line: str) -> dict[str, Any]:
            nonlocal slow
            if (found := _usual(line, unit)) is not None:
                return found
            slow += 1
            if slow > MAX_ODD:
                raise TooMuch(too_many_values(MAX_ODD, "lines that are more than names and numbers"))
            return read_slowly(line, unit)

        return _usual(text, unit) or read_lines(_lines(text), read, len(payload))

    return Format(parse, elements, join, lines=True)


def elements(payload: bytes) -> list[bytes]:
    """The lines that hold something."""
    return [line.encode("utf-8", "surrogateescape") for _, line in _lines(_text(payload))]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """A payload of lines."""
    return b"\n".join(elements_)


def read_line(line: str, unit: int | None) -> dict[str, Any]:
    """The value of a line.

    Args:
        line: without spaces around it.
        unit: nanoseconds of what its time counts; None when the size of the number tells.

    Raises:
        Reject: it is none.
    """
    return _usual(line, unit) or read_slowly(line, unit)


def _usual(line: str, unit: int | None) -> dict[str, Any] | None:
    """The value of a line without escapes and strings; None of any other."""
    found = _USUAL.fullmatch(line)
    if found is None:
        return None
    measurement, tagged, said, stated = found.groups()
    tags: dict[str, str] = {}
    fields: dict[str, Any] = {}
    for part in tagged.split(",")[1:]:
        name, _, tags[name] = part.partition("=")
    for part in said.split(","):
        name, _, text = part.partition("=")
        fields[name] = int(text[:-1]) if text[-1] == "i" else float(text)
    if len(tags) != tagged.count(",") or len(fields) != said.count(",") + 1:
        return None  # one of them comes twice
    time = None
    if stated is not None:
        time = int(stated)
        if not -_INT64 <= time < _INT64:
            return None
        time = _nanoseconds(time, unit)
    return {"measurement": measurement, "tags": tags, "fields": fields, "time": time}


def read_slowly(line: str, unit: int | None) -> dict[str, Any]:
    """The same of any line."""
    if not line.isascii() and _NO_TEXT.search(line):
        raise Reject("not_utf8", "the line is not UTF-8")
    escapes = "\\" in line
    found = _MEASUREMENT.match(line)
    if found is None:
        raise _malformed(line, 0, "a measurement")
    measurement, at = found[1], found.end()
    tags: dict[str, str] = {}
    while line[at - 1] == ",":
        found = _TAG.match(line, at)
        if found is None:
            raise _malformed(line, at, "a tag, as name=value")
        name, value = found[1], found[2]
        if escapes:
            name, value = _plain(name), _plain(value)
        if name in tags:
            raise Reject("duplicate_key", f"tag {name[:40]!r} stands there twice")
        tags[name] = value
        at = found.end()
    fields, at = _fields(line, at, escapes=escapes)
    time = _time(line, at, unit) if at < len(line) else None
    if escapes:
        measurement = _MEASUREMENT_ESCAPE.sub(r"\1", measurement)
    return {"measurement": measurement, "tags": tags, "fields": fields, "time": time}


def _fields(line: str, at: int, *, escapes: bool) -> tuple[dict[str, Any], int]:
    """The fields that begin there, and where what follows them begins."""
    fields: dict[str, Any] = {}
    while True:
        found = _FIELD.match(line, at)
        if found is None:
            raise _no_field(line, at)
        name = _plain(found[1]) if escapes else found[1]
        if name in fields:
            raise Reject("duplicate_key", f"field {name[:40]!r} stands there twice")
        kind = found.lastgroup or ""
        text = found[kind]
        if kind == "float":
            number = float(text)
            fields[name] = NoNumber(_RANGE, text) if math.isinf(number) else number
        else:
            fields[name] = _READ[kind](text)
        at = found.end()
        if line[at - 1] != ",":  # in a string it would not be the last
            return fields, at


def _int(text: str) -> int | NoNumber:
    number = _short(text)
    return NoNumber(_RANGE, f"{text}i") if number is None or not -_INT64 <= number < _INT64 else number


def _uint(text: str) -> int | NoNumber:
    number = _short(text)
    return NoNumber(_RANGE, f"{text}u") if number is None or number >= _UINT64 else number


def _short(text: str) -> int | None:
    """An integer; None when it is longer than any, leading zeros aside."""
    if len(text) > _LONG:
        digits = text.lstrip("-0") or "0"
        return None if len(digits) > _LONG else int(f"-{digits}" if text[0] == "-" else digits)
    return int(text)


def _string(text: str) -> str:
    return _STRING_ESCAPE.sub(r"\1", text[1:]) if "\\" in text else text[1:]


def _word(text: str) -> bool | NoNumber:
    value = _WORDS.get(text)
    if value is not None:
        return value
    if text.lstrip("+-").lower() in _NOT_FINITE:
        return NoNumber(_MALFORMED, text)
    raise Reject(_MALFORMED, f"{text[:40]!r} is no value of a field; a string needs quotation marks")


_READ: Final[dict[str, Callable[[str], Any]]] = {
    "int": _int,
    "uint": _uint,
    "string": _string,
    "word": _word,
}


def _plain(name: str) -> str:
    return _NAME_ESCAPE.sub(r"\1", name)


def _time(line: str, at: int, unit: int | None) -> int:
    text = line[at:]
    if not _TIME.fullmatch(text):
        raise _malformed(line, at, "a time, which is an integer, or the end")
    number = int(text)
    if not -_INT64 <= number < _INT64:
        raise Reject(_RANGE, f"time {text} has more than 64 bits")
    return _nanoseconds(number, unit)


def _nanoseconds(number: int, unit: int | None) -> int:
    if unit is not None:
        return number * unit
    for limit, each in _BY_SIZE:
        if -limit < number < limit:
            return number * each
    return number


def _no_field(line: str, at: int) -> Reject:
    if _OPEN.match(line, at):
        return _malformed(line, at, "a field whose string has a quotation mark at its end")
    return _malformed(line, at, 'a field, as name=1.5, name=2i, name=true or name="text"')


def _malformed(line: str, at: int, expected: str) -> Reject:
    there = repr(line[at : at + 40]) if at < len(line) else "the end"
    return Reject(_MALFORMED, f"at character {at + 1} there is {there}, expected {expected}")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers; one with a line end in a string is one line."""
    lines = text.split("\n")
    at = tried = 0
    while at < len(lines):
        line = lines[at].lstrip(" ").rstrip(" \r")
        at += 1
        if not line or line[0] == "#":
            continue
        number = at
        if '"' in line and at < len(lines) and _FIELDS_OPEN.match(line):
            tried += 1
            check_count(tried, MAX_READINGS, "strings that go on in the next line")
            line, at = _continued(line, lines, at)
        yield number, line


def _continued(line: str, lines: list[str], at: int) -> tuple[str, int]:
    """A line and those in which its string goes on, and where the next begins; the line if they make none."""
    end = at
    while end < len(lines):
        closed = _CLOSED.match(lines[end])
        end += 1
        if closed and not _REOPENED.match(lines[end - 1], closed.end()):
            break
    text = "\n".join(lines[at - 1 : end]).lstrip(" ").rstrip(" \r")
    try:
        read_line(text, 1)
    except Reject:
        return line, at
    return text, end


def _text(payload: bytes) -> str:
    """The text of a payload; a byte that is no UTF-8 stays what it is, to be refused with its line."""
    return payload.decode("utf-8", "surrogateescape")
