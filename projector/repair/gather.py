"""What very many events amount to, for each device and region that they name, in bounded memory. Pure.

A device costs the views far more than a message does: a rebuild that applied page by page would pay for
every device in every page. Here devices stay in
memory from page to page, and a message only adds to numbers that are there. What comes out has the form of
retired statistics (`projector/views/retired.py`), which say the same of events that are not kept any more.
"""

from __future__ import annotations

from array import array
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from contract.order import order_time
from projector.views.numbers import finite
from projector.views.retired import TAGS, Retired

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contract.events import Event, Scalar

_Key: TypeAlias = "tuple[str, str | None, *tuple[str, ...]]"  # device, region, names of metrics


class Gathered:
    """Takes events as they come, in any order.

    Attributes:
        events: taken since the start.
        size: metrics of devices held now, each about half a kilobyte.
    """

    def __init__(self) -> None:
        self.events = 0
        self.size = 0
        self._groups: dict[_Key, _Group] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""
        groups = self._groups
        for event in events:
            key: _Key = (event.device_id, event.region, *event.metrics)
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group(len(event.metrics))
                self.size += len(event.metrics) + 1
            group.add(event)
            self.events += 1

    def take(self) -> Iterator[Retired]:
        """Give away what is held, a device's rows together; all of it must be taken."""
        groups = self._groups
        for key in sorted(groups, key=itemgetter(0)):
            yield from groups.pop(key).rows(*key)
        self.size = 0


class _Group:
    """Messages of one device that name the same region and carry the same metrics.

    Attributes:
        place: the newest one's, in a text that compares as places of a device's messages do: order time, time
            of receipt, key, then device time; NUL between them as it is in no text of PostgreSQL. `values`
            are its metrics'.
        tagged: the place of the newest with tags, and these.
        cells: for each metric, one after the other: how many numbers, their sum, least and greatest.
    """

    __slots__ = ("cells", "count", "place", "tagged", "values")

    def __init__(self, metrics: int) -> None:
        self.count = 0
        self.place = ""
        self.tagged: tuple[str, dict[str, str]] | None = None
        self.values: tuple[Scalar, ...] = ()
        self.cells = array("d", (0, 0, inf, -inf) * metrics)

    def add(self, event: Event) -> None:
        self.count += 1
        at = order_time(event.ts, event.received_at)
        place = f"{at}\0{event.received_at}\0{event.key}\0{event.ts}"
        if place > self.place:
            self.place = place
            self.values = tuple(event.metrics.values())
        if event.tags and (self.tagged is None or place > self.tagged[0]):
            self.tagged = place, event.tags
        cells = self.cells
        i = 0
        for value in event.metrics.values():
            if not isinstance(value, str):
                number = value + 0.0
                cells[i] += 1
                cells[i + 1] += number
                cells[i + 2] = min(cells[i + 2], number)
                cells[i + 3] = max(cells[i + 3], number)
            i += 4

    def rows(self, device_id: str, region: str | None, *names: str) -> Iterator[Retired]:
        region, last = region or "", _last(self.place)
        yield Retired(device_id, region, "", self.count, None, None, None, None, *last)
        if self.tagged:
            place, tags = self.tagged
            yield Retired(device_id, region, TAGS, 0, None, None, None, tags, *_last(place))
        for i, (name, value) in enumerate(zip(names, self.values, strict=True)):
            count, total, low, high = self.cells[4 * i : 4 * i + 4]
            if count:
                yield Retired(device_id, region, name, int(count), finite(total), low, high, value, *last)
            else:
                yield Retired(device_id, region, name, 0, None, None, None, value, *last)


def _last(place: str) -> tuple[str, str, str]:
    """What retired statistics say of a place: device time, key, time of receipt."""
    _, received_at, key, ts = place.split("\0")
    return ts, key, received_at
