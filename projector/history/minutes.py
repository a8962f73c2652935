"""Events in, what they add to each minute out: per device and per region. Pure.

Values follow the rules of the live views (`projector/views/change.py`): numbers are doubles, true is 1 and
false is 0, a string is in no statistic, and a sum stays finite. All of it commutes, so events may be added
in any order, late ones too; each lands in the minute of its own time.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.views.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contract.events import Event

PIECE_CELLS: Final = 5_000  # so many leave at once: encoding them holds up everything else for 20 ms

_MINUTE: Final = len("2026-11-23T09:00")


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


class _Cell:
    """Statistics of one metric in one minute; `newest` is the time of the newest message behind them."""

    __slots__ = ("count", "high", "low", "newest", "total")

    def __init__(self, value: float, newest: str) -> None:
        self.count = 1
        self.total = value + 0.0
        self.low = self.high = value
        self.newest = newest

    def add(self, other: _Cell) -> None:
        self.count += other.count
        self.total = finite(self.total) + finite(other.total)  # of opposite overflows there is no sum
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self.newest = max(self.newest, other.newest)


class _Sum:
    """What cells amount to."""

    __slots__ = ("count", "high", "low", "named", "total")

    def __init__(self, cell: _Cell, named: str) -> None:
        self.count = cell.count
        self.total = finite(cell.total)
        self.low = cell.low
        self.high = cell.high
        self.named = named

    def add(self, cell: _Cell, named: str) -> None:
        self.count += cell.count
        self.total = finite(self.total + finite(cell.total))
        self.low = min(self.low, cell.low)
        self.high = max(self.high, cell.high)
        self.named = max(self.named, named)


class Minutes:
    """What some events add to history.

    Attributes:
        cells: how many statistics are held.
    """

    def __init__(self) -> None:
        self.cells = 0
        self._groups: dict[
            tuple[str, str | None, str], dict[str, _Cell]
        ] = {}  # device, region, minute → metric

    def add(self, events: Iterable[Event]) -> None:
        """Add events, in any order. Every event comes here, so this does the least that it can."""
        groups = self._groups
        for event in events:
            ts = event.ts
            key = event.device_id, event.region, ts[:_MINUTE]
            known = groups.get(key)
            cells: dict[str, _Cell] = {} if known is None else known
            for name, value in event.metrics.items():
                if isinstance(value, str):
                    continue
                cell = cells.get(name)
                if cell is None:
                    cells[name] = _Cell(value, ts)
                    self.cells += 1
                    continue
                cell.count += 1
                cell.total += value
                if value < cell.low:
                    cell.low = value
                elif value > cell.high:
                    cell.high = value
                if ts > cell.newest:  # noqa: PLR1730  # a call of max() is a fifth of this function
                    cell.newest = ts
            if known is None and cells:  # without a number nothing is kept: `cells` is all there is to bound
                groups[key] = cells

    def absorb(self, other: Minutes) -> None:
        """Add what another holds, which is of no use any more."""
        groups = self._groups
        self.cells += other.cells
        for key, cells in other._groups.items():  # of our own kind
            known = groups.setdefault(key, cells)
            if known is not cells:
                for name, cell in cells.items():
                    if name in known:
                        known[name].add(cell)
                        self.cells -= 1
                    else:
                        known[name] = cell

    def of_device(self, device_id: str) -> Iterator[tuple[str, str, int, float, float, float]]:
        """A device's metric, minute, count, sum and extremes, maybe several times, as it changed regions."""
        for (id_, _, minute), cells in self._groups.items():
            if id_ == device_id:
                for name, cell in cells.items():
                    yield name, f"{minute}Z", cell.count, finite(cell.total), cell.low, cell.high

    def devices(self) -> Iterator[Columns]:
        """What is added to devices, in pieces."""
        return _pieces(
            ((device_id, name, minute), cell, cell.newest + region if region else "")
            for (device_id, region, minute), cells in self._groups.items()
            for name, cell in cells.items()
        )

    def regions(self) -> Iterator[Columns]:
        """What is added to regions, in pieces."""
        return _pieces(
            ((region or "", name, minute), cell, "")
            for (_, region, minute), cells in self._groups.items()
            for name, cell in cells.items()
        )


def _pieces(cells: Iterable[tuple[tuple[str, str, str], _Cell, str]]) -> Iterator[Columns]:
    sums: dict[tuple[str, str, str], _Sum] = {}
    for key, cell, named in cells:
        if known := sums.get(key):
            known.add(cell, named)
        else:
            sums[key] = _Sum(cell, named)
    every = (
        (id_, metric, f"{minute}Z", each.named, each.count, each.total, each.low + 0.0, each.high + 0.0)
        for (id_, metric, minute), each in sums.items()
    )
    while piece := list(islice(every, PIECE_CELLS)):
        yield Columns(*map(list, zip(*piece, strict=True)))
