"""Other orders of the list than what needs attention first. Pure."""

from __future__ import annotations

from math import isfinite
from typing import Final, NamedTuple

_METRIC: Final = "metric:"
_BY: Final = ("device", "region", "seen")


class Order(NamedTuple):
    """What the list is sorted by.

    Attributes:
        by: `device`, `region`, `seen` or `metric`.
        metric: which; empty for another `by`.
    """

    by: str
    metric: str
    descending: bool

    @classmethod
    def parse(cls, asked: str) -> Order:
        """Read `device`, `region`, `seen` or `metric:<name>`, with `-` in front for the greatest first.

        Raises:
            ValueError: it is none of these.
        """
        column = asked.removeprefix("-")
        by, metric = ("metric", column.removeprefix(_METRIC)) if column.startswith(_METRIC) else (column, "")
        if by not in _BY and not metric:
            raise ValueError("expected device, region, seen or metric:<name>, with - in front to turn it")
        return cls(by, metric, column != asked)


def number_in(value: str | float) -> float | None:
    """A value as a number; None for one that is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None
