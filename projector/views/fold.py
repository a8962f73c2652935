"""Events in, deltas out: one per device and one per region, whatever the number of events. Pure.

A delta says what a run of events adds to a view. Counts, sums, minima and maxima commute, so deltas may be
applied in any order. Last values do not: each belongs to the newest message that carries it, in one total
order over messages: order time, then time of receipt (`contract/order.py`). So every last value travels with
its *mark*, the place of its message in that order, and late data never replaces newer data
(thingsboard#1769). A mark is a pair: order time in microseconds, and a `tie` that settles equal times when
compared byte by byte (UTF-8 sorts as its code points do): time of receipt, key, and in a region the device.

Tags go the same way, all of a message's together: they are those of the newest message that has any.

Numbers become IEEE doubles before anything else is done with them; true is 1 and false is 0. A string has a
last value and nothing else. Negative zero becomes zero. A sum that would overflow stays at the largest
double, and that would depend on the order of its events; so the write side refuses numbers beyond ±1e300, of
which it takes a hundred million.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

import msgspec

from contract.order import ahead_ms, microseconds, order_time, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contract.events import Event, Scalar
    from contract.order import Place

LARGEST: Final = 1.79769313486231e308  # the largest double of 15 digits: sums saturate here
EXACT_INTEGER: Final = 2**53  # from here on a double no longer holds every integer
RESERVED: Final = frozenset(
    {"seen", "seen_ms"}
)  # their last values would land in `last_seen`, `last_seen_ms`


class MetricDelta(msgspec.Struct, frozen=True, gc=False):
    """What a run adds to one metric.

    Attributes:
        last: the newest value as text; None for a name that has no last value.
        us: the newest value's mark; 0 when it is the mark of the delta's newest message.
        count: numeric values; when 0, `total`, `low` and `high` mean nothing.
    """

    name: str
    last: str | None
    us: int
    tie: str
    count: int
    total: float
    low: float
    high: float


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a run adds to one device or one region.

    Attributes:
        id: device id or region.
        count: messages.
        last_seen: order time of the newest message, in the contract's form.
        ahead_ms: how far that message's clock was ahead; 0 when it was not.
        us: mark of the newest message, with `tie`.
        shape: names of the metrics in the newest message, as a sorted JSON array.
        region: devices only: the region that the newest message with a region names.
        region_us: mark of that message, with `region_tie`; 0 when it is the newest of all.
        tags: devices only: those of the newest message with any, as a sorted JSON object.
        tags_us: mark of that message, with `tags_tie`; 0 when it is the newest of all.
    """

    id: str
    count: int
    last_seen: str
    ahead_ms: int
    us: int
    tie: str
    shape: str
    region: str | None
    region_us: int
    region_tie: str
    tags: str | None
    tags_us: int
    tags_tie: str
    metrics: list[MetricDelta]


class Folded(msgspec.Struct, frozen=True):
    """A run of events, folded."""

    devices: list[Delta]
    regions: list[Delta]


class _Group:
    """Some events, turned to columns so that sums and extremes are one call each.

    Attributes:
        at: order time of the newest.
        columns: metric name → its values, in any order.
    """

    __slots__ = ("at", "columns", "events", "newest")

    def __init__(self, events: list[Event], newest: Event, at: str, columns: dict[str, list[Scalar]]) -> None:
        self.events = events
        self.newest = newest
        self.at = at
        self.columns = columns

    def absorb(self, other: _Group) -> None:
        self.events += other.events
        if other.at > self.at or (other.at == self.at and place_of(other.newest) > place_of(self.newest)):
            self.newest, self.at = other.newest, other.at
        columns = self.columns
        for name, values in other.columns.items():
            if name in columns:
                columns[name] += values
            else:
                columns[name] = values.copy()


def fold(events: Iterable[Event]) -> Folded:
    """Fold events to one delta per device and one per region that they name, in any order.

    Raises:
        ValueError: an event's times are none.
    """
    devices: dict[str, list[Event]] = {}
    with_tags: set[str] = set()
    for event in events:
        known = devices.get(event.device_id)
        if known is None:
            devices[event.device_id] = [event]
        else:
            known.append(event)
        if event.tags:
            with_tags.add(event.device_id)

    regions: dict[str, _Group] = {}
    deltas = []
    for device_id, members in devices.items():
        whole: _Group | None = None
        home: Event | None = None
        for region, same in _by_region(members):
            group = _gather(same)
            if region is not None:
                if home is None or place_of(group.newest) > place_of(home):
                    home = group.newest
                if region not in regions:
                    regions[region] = _Group([], group.newest, group.at, {})
                regions[region].absorb(group)
            if whole is None:
                whole = group
            else:
                whole.absorb(group)
        assert whole is not None
        tagged = _tagged(whole.newest, members) if device_id in with_tags else None
        deltas.append(_delta(device_id, whole, device_tie, home, tagged))
    return Folded(deltas, [_delta(region, group, region_tie) for region, group in regions.items()])


def number_text(value: float) -> str:
    """The shortest text that reads back as the same double, without the `.0` of a whole number."""
    if isinstance(value, int) and -EXACT_INTEGER <= value <= EXACT_INTEGER:
        return str(int(value))
    return repr(value + 0.0).removesuffix(".0")


@lru_cache(maxsize=4096)
def shape_of(names: tuple[str, ...]) -> str:
    """Names of metrics as a delta gives them: a sorted JSON array."""
    return msgspec.json.encode(sorted(names)).decode()


@lru_cache(maxsize=4096)
def tags_of(tags: tuple[tuple[str, str], ...]) -> str:
    """Tags as a delta gives them: a sorted JSON object."""
    return msgspec.json.encode(dict(sorted(tags))).decode()


def device_tie(place: Place) -> str:
    """What settles equal order times among a device's messages."""
    return place[1] + place[2]


def region_tie(place: Place) -> str:
    """The same among a region's."""
    return f"{place[1]}{place[2]}\0{place[3]}"


def finite(total: float) -> float:
    """A sum, or the largest that a view holds when it is beyond that."""
    return total if -LARGEST <= total <= LARGEST else LARGEST if total > 0 else -LARGEST


def _by_region(events: list[Event]) -> Iterable[tuple[str | None, list[Event]]]:
    region = events[0].region
    if len(events) == 1 or len({event.region for event in events}) == 1:
        return ((region, events),)
    groups: dict[str | None, list[Event]] = {}
    for event in events:
        groups.setdefault(event.region, []).append(event)
    return groups.items()


def _gather(events: list[Event]) -> _Group:
    newest = events[0]
    at = newest.ts if newest.ts <= newest.received_at else order_time(newest.ts, newest.received_at)
    columns = {name: [value] for name, value in newest.metrics.items()}
    for event in events[1:]:
        if event.ts >= at:  # an order time is never later than that
            its = event.ts if event.ts <= event.received_at else order_time(event.ts, event.received_at)
            if its > at or place_of(event) > place_of(newest):
                newest, at = event, its
        for name, value in event.metrics.items():
            if name in columns:
                columns[name].append(value)
            else:
                columns[name] = [value]
    return _Group(events, newest, at, columns)


def _tagged(newest: Event, events: list[Event]) -> Event:
    """The newest message with tags, of which there is one."""
    return newest if newest.tags else max([event for event in events if event.tags], key=place_of)


def _delta(
    id_: str,
    group: _Group,
    tie: Callable[[Place], str],
    home: Event | None = None,
    tagged: Event | None = None,
) -> Delta:
    newest, at = group.newest, group.at
    carried = newest.metrics
    older = _older_carriers(group)
    metrics = []
    for name, values in group.columns.items():
        carrier, us, its_tie = newest, 0, ""
        if name not in carried:
            carrier = older[name]
            us, its_tie = _mark(carrier, tie)
        value = carrier.metrics[name]
        last = value if isinstance(value, str) else number_text(value)
        metrics.append(
            MetricDelta(name, None if name in RESERVED else last, us, its_tie, *_statistics(values))
        )
    region_us, its_region_tie = 0, ""
    if home is not newest and home is not None:
        region_us, its_region_tie = _mark(home, tie)
    tags_us, tags_tie = 0, ""
    if tagged is not newest and tagged is not None:
        tags_us, tags_tie = _mark(tagged, tie)
    return Delta(
        id_,
        len(group.events),
        at,
        0 if at == newest.ts else ahead_ms(newest.ts, newest.received_at),
        microseconds(at),
        tie((at, newest.received_at, newest.key, newest.device_id)),
        shape_of(tuple(carried)),
        home.region if home else None,
        region_us,
        its_region_tie,
        tags_of(tuple(tagged.tags.items())) if tagged is not None and tagged.tags else None,
        tags_us,
        tags_tie,
        metrics,
    )


def _older_carriers(group: _Group) -> dict[str, Event]:
    """For each metric that the newest message lacks the newest that has it; linear in all that they hold."""
    lacking = group.columns.keys() - group.newest.metrics.keys()
    carriers: dict[str, Event] = {}
    if lacking:
        for event in sorted(group.events, key=place_of):
            for name in lacking.intersection(event.metrics):
                carriers[name] = event
    return carriers


def _mark(event: Event, tie: Callable[[Place], str]) -> tuple[int, str]:
    """A message's mark."""
    place = place_of(event)
    return microseconds(place[0]), tie(place)


def _statistics(values: list[Scalar]) -> tuple[int, float, float, float]:
    """Count, sum, minimum and maximum of the numbers among the values."""
    if len(values) == 1:
        value = values[0]
        if isinstance(value, str):
            return 0, 0.0, 0.0, 0.0
        value = finite(value + 0.0)
        return 1, value, value, value
    numbers = cast("list[float]", values)
    try:
        total = sum(numbers, 0.0)
    except TypeError:  # a string among them, rarely enough to be found out like this
        numbers = [value for value in values if not isinstance(value, str)]
        if not numbers:
            return 0, 0.0, 0.0, 0.0
        total = sum(numbers, 0.0)
    return len(numbers), finite(total), min(numbers) + 0.0, max(numbers) + 0.0
