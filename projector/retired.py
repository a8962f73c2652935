"""Statistics of measurements that are no longer kept, as deltas. Pure.

When retention drops a day, what the day amounted to is merged into `retired_statistics`: for each device,
region and metric the count, sum and extremes, and the newest value with the place of its message in the
order of `projector/fold.py`. That is all a view holds of those events, so such rows fold to the same deltas
as the events themselves would.
"""

from __future__ import annotations

from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from contract.events import Scalar  # noqa: TC001  # msgspec reads it from the struct
from projector.fold import RESERVED, Delta, Folded, MetricDelta, finite, microseconds, number_text, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Mark: TypeAlias = tuple[
    str, str, str, str
]  # event time, key, device, time of receipt: the order of messages


class Retired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `retired_statistics`, times in the contract's form.

    Attributes:
        region: empty when the messages named none.
        metric: empty for the messages themselves, whose `count` is how many there were.
        count: numeric values; when 0, `sum`, `min` and `max` are None.
        last_value: of the newest message that carried the metric, whose place the other `last_` fields give.
    """

    device_id: str
    region: str
    metric: str
    count: int
    sum: float | None
    min: float | None
    max: float | None
    last_value: Scalar | None
    last_ts: str
    last_key: str
    last_received_at: str

    @property
    def mark(self) -> _Mark:
        """The place of the newest message in the order."""
        return self.last_ts, self.last_key, self.device_id, self.last_received_at


class _Metric:
    """One metric of a view: its newest value, and what its numbers add up to."""

    __slots__ = ("count", "high", "low", "mark", "total", "value")

    def __init__(self, row: Retired, mark: _Mark) -> None:
        self.mark = mark
        self.value = row.last_value
        self.count = 0
        self.total = 0.0
        self.low = self.high = 0.0
        self.add(row, mark)

    def add(self, row: Retired, mark: _Mark) -> None:
        if mark > self.mark:
            self.mark, self.value = mark, row.last_value
        if row.sum is None or row.min is None or row.max is None:
            return
        self.low = min(self.low, row.min) if self.count else row.min
        self.high = max(self.high, row.max) if self.count else row.max
        self.total = finite(self.total + row.sum)
        self.count += row.count


class _View:
    """A device or a region."""

    __slots__ = ("count", "home", "mark", "metrics")

    def __init__(self) -> None:
        self.count = 0
        self.mark: _Mark = ("", "", "", "")
        self.home: tuple[_Mark, str] | None = None
        self.metrics: dict[str, _Metric] = {}

    def add(self, row: Retired, mark: _Mark) -> None:
        self.mark = max(self.mark, mark)
        if row.region and (self.home is None or mark > self.home[0]):
            self.home = mark, row.region
        if not row.metric:
            self.count += row.count
        elif known := self.metrics.get(row.metric):
            known.add(row, mark)
        else:
            self.metrics[row.metric] = _Metric(row, mark)


def by_devices(rows: Iterable[Retired], max_devices: int) -> Iterator[list[Retired]]:
    """Cut rows, a device's together, into parts with no more than so many devices."""
    devices = groupby(rows, key=attrgetter("device_id"))
    while part := [row for _, each in islice(devices, max_devices) for row in each]:
        yield part


def fold_retired(rows: Iterable[Retired]) -> Folded:
    """Fold rows to one delta per device and one per region that they name, in any order."""
    devices: dict[str, _View] = {}
    regions: dict[str, _View] = {}
    for row in rows:
        mark = row.mark
        (devices.get(row.device_id) or devices.setdefault(row.device_id, _View())).add(row, mark)
        if row.region:
            (regions.get(row.region) or regions.setdefault(row.region, _View())).add(row, mark)
    return Folded(
        [_delta(device_id, view, view.home, _device_tie) for device_id, view in devices.items()],
        [_delta(region, view, None, _region_tie) for region, view in regions.items()],
    )


def _delta(id_: str, view: _View, home: tuple[_Mark, str] | None, tie: Callable[[_Mark], str]) -> Delta:
    metrics = []
    for name, metric in view.metrics.items():
        newest = metric.mark == view.mark
        value = metric.value
        last = value if value is None or isinstance(value, str) else number_text(value)
        metrics.append(
            MetricDelta(
                name,
                None if name in RESERVED else last,
                0 if newest else microseconds(metric.mark[0]),
                "" if newest else tie(metric.mark),
                metric.count,
                metric.total,
                metric.low + 0.0,
                metric.high + 0.0,
            )
        )
    elsewhere = home[0] if home and home[0] != view.mark else None
    return Delta(
        id_,
        view.count,
        view.mark[0],
        microseconds(view.mark[0]),
        tie(view.mark),
        shape_of(tuple(name for name, metric in view.metrics.items() if metric.mark == view.mark)),
        home[1] if home else None,
        microseconds(elsewhere[0]) if elsewhere else 0,
        tie(elsewhere) if elsewhere else "",
        metrics,
    )


def _device_tie(mark: _Mark) -> str:
    return f"{mark[1]}\0{mark[3]}"


def _region_tie(mark: _Mark) -> str:
    return f"{mark[1]}\0{mark[2]}\0{mark[3]}"
