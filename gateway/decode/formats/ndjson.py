"""Lines of JSON (https://jsonlines.org, https://github.com/ndjson/ndjson-spec), each a message.

A line ends with LF or CRLF, and blank ones are left out. Objects that follow each other in one line, as of a
sender that forgets to end its lines, are messages too.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.formats import strict_json
from gateway.decode.formats.form import Format
from gateway.decode.formats.lines import TooMuch, read_lines
from gateway.decode.limits import MAX_ODD, check_count, lines_allowed, too_many_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runtime.settings import Route

_BLANK: Final = b" \t\r"
_BETWEEN: Final = (" ", "\t", "\r")
_SEVERAL: Final = re.compile(rb"\}[ \t\r]*+\{")
_scan = json.JSONDecoder().raw_decode


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, strict_json.write, lines=True)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
    """The value of a line, or those of several.

    Raises:
        Reject: there is no line, or the only one is not JSON.
    """
    slow = 0

    def read(line: bytes) -> Any:  # noqa: ANN401  # likewise
        nonlocal slow
        try:
            return strict_json.parse_sound(line)
        except msgspec.DecodeError as error:
            slow += 1
            if slow > MAX_ODD:
                raise TooMuch(
                    too_many_values(MAX_ODD, "lines that are no JSON, or have odd numbers,")
                ) from None
            return strict_json.parse_odd(line, error)

    return read_lines(_lines(payload), read, len(payload))


def elements(payload: bytes) -> list[bytes]:
    """The lines that hold something."""
    return [line for _, line in _lines(payload)]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """A payload of lines."""
    return b"\n".join(elements_)


def _lines(payload: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(payload.split(b"\n"), 1):
        stripped = line.strip(_BLANK)
        if _SEVERAL.search(stripped):
            for each in _apart(stripped):
                yield number, each
        elif stripped:
            yield number, stripped


def _apart(line: bytes) -> list[bytes]:
    """The objects that a line holds, one after the other; the line itself when it holds anything else."""
    found: list[bytes] = []
    at, most = 0, lines_allowed(len(line))
    try:
        text = line.decode()
        while text.startswith("{", at):
            check_count(len(found), most, "objects")
            end = _scan(text, at)[1]
            found.append(text[at:end].encode())
            while text[end : end + 1] in _BETWEEN:
                end += 1
            at = end
    except (ValueError, RecursionError):
        return [line]
    return found if at == len(text) else [line]
