"""Events in, what they add to each minute out: per device and per region. Pure.

Values follow the rules of the live views (`projector/views/change.py`): numbers are doubles, true is 1 and
false is 0, a string is in no statistic, and a sum stays finite. All of it commutes, so events may be added
in any order, late ones too; each lands in the minute of its own time.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from projector.views.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from contract.events import Event, Scalar

PIECE_CELLS: Final = 5_000  # so many leave at once: encoding them holds up everything else for 20 ms
# What else is held, in as many statistics of metrics: a device's list, and names that come together.
ROW_SIZE: Final = 1
PLACE_SIZE: Final = 3

MINUTE: Final = len("2026-11-23T09:00")

_Place: TypeAlias = "tuple[str, str | None, tuple[str, ...]]"  # minute, region, names of metrics
_Devices: TypeAlias = "dict[str, list[Any]]"
"""By device: the newest time, how many messages, and of each metric the sum, the least and the greatest."""
_Row: TypeAlias = "tuple[str, str, str, str, int, float, float, float]"  # of `Columns`


class Columns(NamedTuple):
    """What is added to history, a list a column.

    Attributes:
        ids: device ids, or regions, `""` for none.
        minutes: such as `2026-11-23T09:00Z`.
        named: the newest time at which a message of the minute named a region, followed by that region; `""`
            when none did, and for regions.
    """

    ids: list[str]
    metrics: list[str]
    minutes: list[str]
    named: list[str]
    counts: list[int]
    sums: list[float]
    lows: list[float]
    highs: list[float]


class _Sum:
    """What rows amount to; `named` as in `Columns`."""

    __slots__ = ("count", "high", "low", "named", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.low, self.high = inf, -inf
        self.named = ""

    def add(self, count: int, total: float, low: float, high: float, named: str) -> None:
        self.count += count
        self.total = finite(self.total + finite(total))
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self.named = max(self.named, named)


class Minutes:
    """What some events add to history.

    A device has one list for all metrics that come together: objects of their own for each would be four
    times the memory, and a minute of a hundred thousand devices is to find room.

    Attributes:
        size: how much is held, in statistics of a metric: about 150 bytes each.
    """

    def __init__(self) -> None:
        self.size = 0
        self._places: dict[_Place, _Devices] = {}

    def add(self, events: Iterable[Event]) -> None:  # noqa: C901  # calls would take as long as all of it
        """Add events, in any order. Every event comes here, so this does the least that it can.

        Raises:
            OverflowError: a number is no double. What is held is of no use then.
        """
        places = self._places
        for event in events:
            metrics = event.metrics
            if str in map(type, metrics.values()):
                metrics = _numbers(metrics)
            if not metrics:
                continue  # without a number nothing is kept: `size` is all there is to bound
            ts = event.ts
            place = ts[:MINUTE], event.region, tuple(metrics)
            devices = places.get(place)
            if devices is None:
                devices = places[place] = {}
                self.size += PLACE_SIZE
            row = devices.get(event.device_id)
            if row is None:
                row = [ts, 1]
                for value in metrics.values():
                    row += (value + 0.0, value, value)  # type: ignore[operator]  # a string is none of them
                devices[intern(event.device_id)] = row
                self.size += ROW_SIZE + len(metrics)
                continue
            if ts > row[0]:  # noqa: PLR1730  # a call of max() is a fifth of this function
                row[0] = ts
            row[1] += 1
            i = 2
            for value in metrics.values():
                row[i] += value
                if value < row[i + 1]:
                    row[i + 1] = value
                elif value > row[i + 2]:
                    row[i + 2] = value
                i += 3

    def absorb(self, other: Minutes) -> None:
        """Add what another holds, which is of no use any more."""
        self.size += other.size
        for place, devices in other._places.items():  # of our own kind
            known = self._places.setdefault(place, devices)
            if known is devices:
                continue
            self.size -= PLACE_SIZE
            for device_id, row in devices.items():
                if (mine := known.get(device_id)) is None:
                    known[device_id] = row
                else:
                    _add_row(mine, row)
                    self.size -= ROW_SIZE + len(place[2])

    def of_device(
        self, device_id: str, since: str, until: str
    ) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        """What a device measured from one minute to before another, as it is now.

        Returns:
            Minute, metrics and row (as in `_Devices`), maybe several of a minute, as it changed regions.
        """
        its = [(place, devices[device_id]) for place, devices in self._places.items() if device_id in devices]
        return [(minute, names, row[:]) for (minute, _, names), row in its if since <= minute < until]

    def devices(self) -> Iterator[Columns]:
        """What is added to devices, in pieces."""
        return _pieces(self._devices())

    def regions(self) -> Iterator[Columns]:
        """What is added to regions, in pieces."""
        sums: dict[tuple[str, str, str], _Sum] = {}
        for (minute, region, names), devices in self._places.items():
            for i, name in enumerate(names):
                known = sums.setdefault((region or "", name, minute), _Sum())
                for row in devices.values():
                    total, low, high = row[2 + 3 * i : 5 + 3 * i]
                    known.add(row[1], total, low, high, "")
        yield from _pieces(_summed(sums))  # as whoever asks does so in a thread

    def _devices(self) -> Iterator[_Row]:
        minutes: dict[str, list[tuple[str | None, tuple[str, ...], _Devices]]] = {}
        for (minute, region, names), devices in self._places.items():
            minutes.setdefault(minute, []).append((region, names, devices))
        for minute, places in minutes.items():
            seen: set[str] = set()
            several: set[str] = set()  # few: most devices have one place in a minute, and nothing to sum up
            for _, _, devices in places:
                several.update(seen.intersection(devices))
                seen.update(devices)
            sums: dict[tuple[str, str, str], _Sum] = {}
            for region, names, devices in places:
                for device_id, row in devices.items():
                    named, count = (row[0] + region if region else ""), row[1]
                    for i, name in enumerate(names):
                        total, low, high = row[2 + 3 * i : 5 + 3 * i]
                        if device_id in several:
                            known = sums.setdefault((device_id, name, minute), _Sum())
                            known.add(count, total, low, high, named)
                        else:
                            yield _row((device_id, name, minute), named, count, total, low, high)
            yield from _summed(sums)


def _numbers(metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: value for name, value in metrics.items() if not isinstance(value, str)}


def _add_row(mine: list[Any], other: list[Any]) -> None:
    mine[0] = max(mine[0], other[0])
    mine[1] += other[1]
    for i in range(2, len(mine), 3):
        mine[i] = finite(mine[i]) + finite(other[i])  # of opposite overflows there is no sum
        mine[i + 1] = min(mine[i + 1], other[i + 1])
        mine[i + 2] = max(mine[i + 2], other[i + 2])


def _summed(sums: dict[tuple[str, str, str], _Sum]) -> Iterator[_Row]:
    for key, each in sums.items():
        yield _row(key, each.named, each.count, each.total, each.low, each.high)


def _row(key: tuple[str, str, str], named: str, count: int, *numbers: float) -> _Row:
    (id_, metric, minute), (total, low, high) = key, numbers
    return id_, metric, f"{minute}Z", named, count, finite(total), low + 0.0, high + 0.0


def _pieces(rows: Iterator[_Row]) -> Iterator[Columns]:
    while piece := list(islice(rows, PIECE_CELLS)):
        yield Columns(*map(list, zip(*piece, strict=True)))
