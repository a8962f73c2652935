"""Statistics of measurements that are no longer kept. Pure.

When retention drops a day, what the day amounted to is merged into `retired_statistics`: for each device,
region and metric the count, sum and extremes, and the newest value with the place of its message in the
order of `contract/order.py`. Tags are there as if they were a metric; and so is read, of any device, what
messages said of its being online, which is kept apart for good. That is all a view holds of those
events, so such rows change views as the events themselves would.
"""

from __future__ import annotations

from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from contract.events import Scalar  # noqa: TC001  # msgspec reads it from the struct
from contract.order import order_time
from projector.views.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TAGS: Final = "\ttags"  # no metric can have these names
ONLINE: Final = "\tonline"


class Retired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `retired_statistics`, times in the contract's form.

    Attributes:
        region: empty when the messages named none.
        metric: empty for the messages themselves, whose `count` is how many there were; `TAGS` for the newest
            tags, its `last_value`; `ONLINE` for what the device is, of the message that changed it.
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


def merged(rows: Iterable[Retired]) -> Iterator[Retired]:
    """Make one row of those that say the same of several days; a device's come one after the other.

    Applying a row to views costs ten times as much.
    """
    for _, its in groupby(rows, attrgetter("device_id")):
        found: dict[tuple[str, str], Retired] = {}
        for row in its:
            known = found.get(group := (row.region, row.metric))
            found[group] = row if known is None else _sum(known, row)
        yield from found.values()


def _sum(a: Retired, b: Retired) -> Retired:
    if _place(b) > _place(a):
        a, b = b, a
    if a.sum is None or a.min is None or a.max is None:
        return replace(a, count=a.count + b.count, sum=b.sum, min=b.min, max=b.max)
    if b.sum is None or b.min is None or b.max is None:
        return replace(a, count=a.count + b.count)
    return replace(
        a,
        count=a.count + b.count,
        sum=finite(a.sum + b.sum),
        min=min(a.min, b.min),
        max=max(a.max, b.max),
    )


def _place(row: Retired) -> tuple[str, str, str]:
    """Of the newest message, in the order of a device's (`contract/order.py`)."""
    return order_time(row.last_ts, row.last_received_at), row.last_received_at, row.last_key


def parts(rows: Iterable[Retired], max_rows: int) -> Iterator[list[Retired]]:
    """Cut rows, a device's one after the other, into parts of so many; a device may be in several."""
    left = iter(rows)
    while part := list(islice(left, max_rows)):
        yield part
