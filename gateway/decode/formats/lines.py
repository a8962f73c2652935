"""Payloads of lines, each a message: one that cannot be read is no reason to lose its neighbours.

A payload of one line is what that line is; of several it is a list, in which a `Refused` stands for a line
that could not be read. A line that is a list itself, as a row of values can be, stays one message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.decode.fields import Refused
from gateway.decode.limits import MAX_LETTERS, MAX_LINES, check_count, lines_allowed
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Line = TypeVar("Line")

_TOLD: Final = MAX_LETTERS + 1  # what would be said of later ones is in no letter


class TooMuch(Exception):  # noqa: N818  # of no line, but of all of them
    """Lines have so much in them that all are refused.

    Attributes:
        reject: as what.
    """

    def __init__(self, reject: Reject) -> None:
        super().__init__(reject.detail)
        self.reject = reject


def read_lines(lines: Iterable[tuple[int, Line]], read: Callable[[Line], Any], size: int) -> Any:  # noqa: ANN401  # a format's value is any value
    """The value of a payload.

    Args:
        lines: those that hold something, each with its number from 1.
        read: the value of one; raises `Reject`.
        size: of the payload, in bytes.

    Raises:
        Reject: there is no line, or the only one cannot be read, or there are too many; what `TooMuch` says.
    """
    values: list[Any] = []
    alike: dict[str, Refused] = {}  # one for all that nobody sees, so that rubbish costs no memory
    refused = 0
    for number, line in lines:
        try:
            values.append(read(line))
        except TooMuch as much:
            raise much.reject from None
        except Reject as reject:
            refused += 1
            one = alike.get(reject.reason) if refused > _TOLD else None
            if one is None:
                one = alike[reject.reason] = Refused(reject.reason, f"line {number}: {reject.detail}")
            values.append(one)
        if len(values) > MAX_LINES:
            check_count(len(values), lines_allowed(size), "lines")
    if not values:
        raise Reject("empty_message", "there is no line with anything in it")
    if len(values) > 1 or type(values[0]) is list:
        return values
    if isinstance(values[0], Refused):
        raise values[0].reject()
    return values[0]
