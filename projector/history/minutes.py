"""Events in, what they add to each minute out: per device and per region. Pure.

Values follow the rules of the live views (`projector/views/change.py`): numbers are doubles, true is 1 and
false is 0, a string is in no statistic, and a sum stays finite. All of it commutes, so events may be added
in any order, late ones too; each lands in the minute of its own time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from math import inf
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from contract.order import microseconds
from projector.views.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from contract.events import Event, Scalar

PIECE_CELLS: Final = 5_000  # so many leave at once: encoding them holds up everything else for 20 ms
# What else is held, in as many statistics of metrics: a device's place, and names that come together.
ROW_SIZE: Final = 1
PLACE_SIZE: Final = 3

MINUTE: Final = len("2026-11-23T09:00")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Names: TypeAlias = "tuple[str, ...]"
_Place: TypeAlias = "tuple[str, str | None, _Names]"  # minute, region, names of metrics
_Row: TypeAlias = "tuple[str, str, int, str | None, int | None, int, float, float, float]"  # of `Columns`


class Columns(NamedTuple):
    """What is added to history, a list a column.

    Attributes:
        ids: device ids, or regions, `""` for none.
        minutes: since 1970.
        regions: that the newest message of the minute named that named any; None when none did, and for
            regions. Of equal times the greater name.
        named_at: when that was, microseconds since 1970.
    """

    ids: list[str]
    metrics: list[str]
    minutes: list[int]
    regions: list[str | None]
    named_at: list[int | None]
    counts: list[int]
    sums: list[float]
    lows: list[float]
    highs: list[float]


class _Rows:
    """The devices of a place: what is known of all of them, one after the other, and where each's begins.

    That is the newest time, how many messages, and of each metric the sum, the least and the greatest.
    """

    __slots__ = ("at", "cells")

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.cells: list[Any] = []


class _Sum:
    """What rows amount to; `named` is when a region was named, and which."""

    __slots__ = ("count", "high", "low", "named", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.low, self.high = inf, -inf
        self.named: tuple[int, str] | None = None

    def add(self, count: int, numbers: Iterable[float], named: tuple[int, str] | None = None) -> None:
        total, low, high = numbers
        self.count += count
        self.total = finite(self.total + finite(total))
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self.named = max(filter(None, (self.named, named)), default=None)

    def row(self, id_: str, metric: str, minute: int) -> _Row:
        at, region = self.named or (None, None)
        return id_, metric, minute, region, at, self.count, self.total, self.low + 0.0, self.high + 0.0


class Minutes:
    """What some events add to history.

    All devices that send the same metrics from the same region have their numbers in one list: one of its own
    for each would be a third more, and a minute of a hundred thousand devices is to find room.

    Attributes:
        size: how much is held, in statistics of a metric: about 100 bytes each.
    """

    def __init__(self) -> None:
        self.size = 0
        self._places: dict[_Place, _Rows] = {}

    def add(self, events: Iterable[Event]) -> None:  # noqa: C901  # calls would take as long as all of it
        """Add events, in any order. Every event comes here, so this does the least that it can."""
        places = self._places
        for event in events:
            metrics = event.metrics
            if str in map(type, metrics.values()):
                metrics = _numbers(metrics)
            if not metrics:
                continue  # without a number nothing is kept: `size` is all there is to bound
            ts = event.ts
            place = ts[:MINUTE], event.region, tuple(metrics)
            rows = places.get(place)
            if rows is None:
                rows = places[place] = _Rows()
                self.size += PLACE_SIZE
            cells = rows.cells
            at = rows.at.get(event.device_id)
            if at is None:
                rows.at[intern(event.device_id)] = len(cells)
                cells += (ts, 1)
                for value in metrics.values():
                    cells += (value + 0.0, value, value)  # type: ignore[operator]  # a string is none of them
                self.size += ROW_SIZE + len(metrics)
                continue
            if ts > cells[at]:  # noqa: PLR1730  # a call of max() is a fifth of this function
                cells[at] = ts
            cells[at + 1] += 1
            at += 2
            for value in metrics.values():
                cells[at] += value
                if value < cells[at + 1]:
                    cells[at + 1] = value
                elif value > cells[at + 2]:
                    cells[at + 2] = value
                at += 3

    def absorb(self, other: Minutes) -> None:
        """Add what another holds, which is of no use any more."""
        self.size += other.size
        for place, rows in other._places.items():  # of our own kind
            known = self._places.setdefault(place, rows)
            if known is rows:
                continue
            self.size -= PLACE_SIZE
            width = _width(place)
            for device_id, at in rows.at.items():
                its = rows.cells[at : at + width]
                if (mine := known.at.get(device_id)) is None:
                    known.at[device_id] = len(known.cells)
                    known.cells += its
                else:
                    _add_row(known.cells, mine, its)
                    self.size -= ROW_SIZE + len(place[2])

    def of_device(self, device_id: str, since: str, until: str) -> list[tuple[str, _Names, list[Any]]]:
        """What a device measured from one minute to before another, as it is now.

        Returns:
            Minute, metrics and numbers (as in `_Rows`), maybe several of a minute, as it changed regions.
        """
        return [
            (place[0], place[2], rows.cells[at : at + _width(place)])
            for place, rows in self._places.items()
            if (at := rows.at.get(device_id)) is not None and since <= place[0] < until
        ]

    def devices(self) -> Iterator[Columns]:
        """What is added to devices, in pieces."""
        minutes: dict[str, list[tuple[_Place, _Rows]]] = {}
        for place, rows in self._places.items():
            minutes.setdefault(place[0], []).append((place, rows))
        for minute, places in minutes.items():
            seen: set[str] = set()
            several: set[str] = set()  # few: most devices have one place in a minute, and nothing to sum up
            for _, rows in places:
                several.update(seen.intersection(rows.at))
                seen.update(rows.at)
            sums: dict[tuple[str, str], _Sum] = {}
            for place, rows in places:
                yield from _pieces(place, rows, [id_ for id_ in rows.at if id_ not in several])
                for id_ in several.intersection(rows.at):
                    at = rows.at[id_]
                    named = (microseconds(rows.cells[at]), place[1]) if place[1] else None
                    for i, name in enumerate(place[2]):
                        numbers = rows.cells[at + 2 + 3 * i : at + 5 + 3 * i]
                        sums.setdefault((id_, name), _Sum()).add(rows.cells[at + 1], numbers, named)
            yield from _columns(each.row(*key, _minute(minute)) for key, each in sums.items())

    def regions(self) -> Iterator[Columns]:
        """What is added to regions, in pieces."""
        sums: dict[tuple[str, str, str], _Sum] = {}
        for place, rows in self._places.items():
            minute, region, names = place
            cells, width = rows.cells, _width(place)
            for i, name in enumerate(names):
                known = sums.setdefault((region or "", name, minute), _Sum())
                low, high = cells[3 + 3 * i :: width], cells[4 + 3 * i :: width]
                for count, total in zip(cells[1::width], cells[2 + 3 * i :: width], strict=True):
                    known.count += count
                    known.total = finite(known.total + finite(total))
                known.low, known.high = min(known.low, *low), max(known.high, *high)
        yield from _columns(  # as whoever asks does so in a thread
            each.row(region, name, _minute(minute)) for (region, name, minute), each in sums.items()
        )


def _width(place: _Place) -> int:
    return 2 + 3 * len(place[2])


def _numbers(metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: value for name, value in metrics.items() if not isinstance(value, str)}


def _add_row(cells: list[Any], at: int, other: list[Any]) -> None:
    cells[at] = max(cells[at], other[0])
    cells[at + 1] += other[1]
    for i in range(2, len(other), 3):
        cells[at + i] = finite(cells[at + i]) + finite(other[i])  # of opposite overflows there is no sum
        cells[at + i + 1] = min(cells[at + i + 1], other[i + 1])
        cells[at + i + 2] = max(cells[at + i + 2], other[i + 2])


def _minute(text: str) -> int:
    return (datetime.fromisoformat(f"{text}Z") - _EPOCH) // timedelta(minutes=1)


def _pieces(place: _Place, rows: _Rows, ids: Iterable[str]) -> Iterator[Columns]:
    """Devices of a place, in their order: so neighbours in an index are written one after the other."""
    (text, region, names), cells = place, rows.cells
    minute = _minute(text)
    ids = sorted(ids)
    step = max(1, PIECE_CELLS // len(names))
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        places = [rows.at[id_] for id_ in some]
        named = [microseconds(cells[at]) if region else None for at in places]
        n = len(names)
        yield Columns(
            some * n,
            [name for name in names for _ in some],
            [minute] * (len(some) * n),
            [region or None] * (len(some) * n),
            named * n,
            [cells[at + 1] for at in places] * n,
            [finite(cells[at + 2 + 3 * i]) for i in range(n) for at in places],
            [cells[at + 3 + 3 * i] + 0.0 for i in range(n) for at in places],
            [cells[at + 4 + 3 * i] + 0.0 for i in range(n) for at in places],
        )


def _columns(rows: Iterable[_Row]) -> Iterator[Columns]:
    left = iter(rows)
    while piece := list(islice(left, PIECE_CELLS)):
        yield Columns(*map(list, zip(*piece, strict=True)))
