"""Statistics of measurements that are no longer kept, as deltas. Pure.

When retention drops a day, what the day amounted to is merged into `retired_statistics`: for each device,
region and metric the count, sum and extremes, and the newest value with the place of its message in the
order of `contract/order.py`. Tags are there as if they were a metric. That is all a view holds of those
events, so such rows fold to the same deltas as the events themselves would.
"""

from __future__ import annotations

from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

from contract.events import Scalar  # noqa: TC001  # msgspec reads it from the struct
from contract.order import ahead_ms, microseconds, order_time
from projector.views.fold import (
    RESERVED,
    Delta,
    Folded,
    MetricDelta,
    device_tie,
    finite,
    number_text,
    region_tie,
    shape_of,
    tags_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from contract.order import Place

TAGS: Final = "\ttags"  # no metric can have this name


class Retired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `retired_statistics`, times in the contract's form.

    Attributes:
        region: empty when the messages named none.
        metric: empty for the messages themselves, whose `count` is how many there were; `TAGS` for the newest
            tags, its `last_value`.
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
    last_value: Scalar | dict[str, str] | None
    last_ts: str
    last_key: str
    last_received_at: str

    @property
    def place(self) -> Place:
        """The newest message's place in the order."""
        at = order_time(self.last_ts, self.last_received_at)
        return at, self.last_received_at, self.last_key, self.device_id


class _Metric:
    """One metric of a view: its newest value, and what its numbers add up to."""

    __slots__ = ("count", "high", "low", "mark", "total", "value")

    def __init__(self, row: Retired, value: Scalar | None, mark: Place) -> None:
        self.mark = mark
        self.value = value
        self.count = 0
        self.total = 0.0
        self.low = self.high = 0.0
        self.add(row, value, mark)

    def add(self, row: Retired, value: Scalar | None, mark: Place) -> None:
        if mark > self.mark:
            self.mark, self.value = mark, value
        if row.sum is None or row.min is None or row.max is None:
            return
        self.low = min(self.low, row.min) if self.count else row.min
        self.high = max(self.high, row.max) if self.count else row.max
        self.total = finite(self.total + row.sum)
        self.count += row.count


class _View:
    """A device or a region."""

    __slots__ = ("ahead_ms", "count", "home", "mark", "metrics", "tagged")

    def __init__(self) -> None:
        self.count = 0
        self.mark: Place = ("", "", "", "")
        self.ahead_ms = 0
        self.home: tuple[Place, str] | None = None
        self.tagged: tuple[Place, dict[str, str]] | None = None
        self.metrics: dict[str, _Metric] = {}

    def add(self, row: Retired, mark: Place) -> None:
        if mark > self.mark:
            self.mark, self.ahead_ms = mark, ahead_ms(row.last_ts, row.last_received_at)
        if row.region and (self.home is None or mark > self.home[0]):
            self.home = mark, row.region
        value = row.last_value
        if not row.metric:
            self.count += row.count
        elif isinstance(value, dict):
            if self.tagged is None or mark > self.tagged[0]:
                self.tagged = mark, value
        elif known := self.metrics.get(row.metric):
            known.add(row, value, mark)
        else:
            self.metrics[row.metric] = _Metric(row, value, mark)


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
        mark = row.place
        (devices.get(row.device_id) or devices.setdefault(row.device_id, _View())).add(row, mark)
        if row.region:
            (regions.get(row.region) or regions.setdefault(row.region, _View())).add(row, mark)
    return Folded(
        [_delta(device_id, view, device_tie, devices=True) for device_id, view in devices.items()],
        [_delta(region, view, region_tie, devices=False) for region, view in regions.items()],
    )


def _delta(id_: str, view: _View, tie: Callable[[Place], str], *, devices: bool) -> Delta:
    def mark(place: Place | None) -> tuple[int, str]:
        if place is None or place == view.mark:
            return 0, ""
        return microseconds(place[0]), tie(place)

    home = view.home if devices else None
    tagged = view.tagged if devices else None
    metrics = []
    for name, metric in view.metrics.items():
        value = metric.value
        last = number_text(value) if isinstance(value, int | float) else value
        metrics.append(
            MetricDelta(
                name,
                None if name in RESERVED else last,
                *mark(metric.mark),
                metric.count,
                metric.total,
                metric.low + 0.0,
                metric.high + 0.0,
            )
        )
    return Delta(
        id_,
        view.count,
        view.mark[0],
        view.ahead_ms,
        microseconds(view.mark[0]),
        tie(view.mark),
        shape_of(tuple(name for name, metric in view.metrics.items() if metric.mark == view.mark)),
        home[1] if home else None,
        *mark(home[0] if home else None),
        tags_of(tuple(tagged[1].items())) if tagged else None,
        *mark(tagged[0] if tagged else None),
        metrics,
    )
