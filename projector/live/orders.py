"""Other orders of the list than what needs attention first. Pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def arranged(ids: Sequence[str], values: Mapping[str, str | float | None], *, descending: bool) -> list[str]:
    """Devices by a value: numbers, then texts; those without one are last either way.

    Args:
        ids: the devices.
        values: device → its value; equal ones stand by id.
        descending: the greatest first.
    """
    known = sorted(id_ for id_ in ids if values.get(id_) is not None)
    known.sort(key=lambda id_: _place(values[id_]), reverse=descending)
    return [*known, *sorted(id_ for id_ in ids if values.get(id_) is None)]


def _place(value: str | float | None) -> tuple[bool, float, str]:
    try:
        number = float(value or 0)
    except ValueError:
        return True, 0.0, str(value)
    return (False, number, "") if isfinite(number) else (True, 0.0, str(value))
