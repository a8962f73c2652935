"""Statistics of measurements that are no longer kept. Pure.

When retention drops a day, what the day amounted to is merged into `retired_statistics`: for each device,
region and metric the count, sum and extremes, and the newest value with the place of its message in the
order of `contract/order.py`. Tags are there as if they were a metric. That is all a view holds of those
events, so such rows change views as the events themselves would.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from contract.events import Scalar  # noqa: TC001  # msgspec reads it from the struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def parts(rows: Iterable[Retired], max_rows: int) -> Iterator[list[Retired]]:
    """Cut rows, a device's one after the other, into parts of so many; a device may be in several."""
    left = iter(rows)
    while part := list(islice(left, max_rows)):
        yield part
