"""Events in, what they add to each minute out: per device and per region. Pure.

Values follow the rules of the live views (`projector/fold.py`): numbers are doubles, true is 1 and false is
0, a string is in no statistic, and a sum stays finite. All of it commutes, so events may be added in any
order, late ones too; each lands in the minute of its own time.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.fold import finite

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
            when none did. Of regions it means nothing.
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
    """Statistics of one metric in one minute."""

    __slots__ = ("count", "high", "low", "named", "total")

    def __init__(self, count: int, total: float, low: float, high: float, named: str) -> None:
        self.count = count
        self.total = total
        self.low = low
        self.high = high
        self.named = named

    def add(self, count: int, total: float, low: float, high: float, named: str) -> None:
        self.count += count
        self.total = finite(self.total + total)
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self.named = max(self.named, named)


_Cells = dict[tuple[str, str], dict[str, _Cell]]  # (id, minute) → metric → cell


class Minutes:
    """What some events add to history.

    Attributes:
        cells: how many statistics are held, of devices and of regions.
    """

    def __init__(self) -> None:
        self.cells = 0
        self._devices: _Cells = {}
        self._regions: _Cells = {}

    def add(self, events: Iterable[Event]) -> None:
        """Add events, in any order."""
        groups: defaultdict[tuple[str, str | None, str], list[Event]] = defaultdict(list)
        for event in events:
            groups[event.device_id, event.region, event.ts[:_MINUTE]].append(event)
        for (device_id, region, minute), members in groups.items():
            in_device = self._devices.setdefault((device_id, minute), {})
            in_region = self._regions.setdefault((region or "", minute), {})
            values: dict[str, list[float]] = {}
            newest: dict[str, str] = {}
            for event in members:
                for name, value in event.metrics.items():
                    if isinstance(value, str):
                        continue
                    if name in values:
                        values[name].append(value)
                        newest[name] = max(newest[name], event.ts)
                    else:
                        values[name] = [value]
                        newest[name] = event.ts
            for name, numbers in values.items():
                total = finite(sum(numbers, 0.0))
                low, high = min(numbers) + 0.0, max(numbers) + 0.0
                named = newest[name] + region if region else ""
                adds = len(numbers), total, low, high, named
                self._put(in_device, name, adds)
                self._put(in_region, name, adds)

    def _put(self, cells: dict[str, _Cell], name: str, adds: tuple[int, float, float, float, str]) -> None:
        if cell := cells.get(name):
            cell.add(*adds)
        else:
            cells[name] = _Cell(*adds)
            self.cells += 1

    def devices(self) -> Iterator[Columns]:
        """What is added to devices, in pieces."""
        return _pieces(self._devices)

    def regions(self) -> Iterator[Columns]:
        """What is added to regions, in pieces."""
        return _pieces(self._regions)


def _pieces(cells: _Cells) -> Iterator[Columns]:
    every = (
        (id_, metric, f"{minute}Z", cell.named, cell.count, cell.total, cell.low, cell.high)
        for (id_, minute), metrics in cells.items()
        for metric, cell in metrics.items()
    )
    while piece := list(islice(every, PIECE_CELLS)):
        yield Columns(*map(list, zip(*piece, strict=True)))
