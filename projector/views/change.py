"""What a run changes in views: added to the state, and then the fields to set. Pure.

Counts, sums, minima and maxima commute, so runs may come in any order. Last values do not: each belongs to
the newest message that carries it, in one total order over messages, and late data never replaces newer data
(thingsboard#1769). Tags go the same way, all of a message's together: they are those of the newest message
that has any.

Numbers become IEEE doubles before anything else is done with them; true is 1 and false is 0. A string has a
last value and nothing else. Negative zero becomes zero. Sums and averages are written with 15 digits, so
decimal readings add up without the dust of binary fractions. A sum that would overflow stays at the largest
double, and that would depend on the order of its events; so the write side refuses numbers beyond ±1e300, of
which it takes a hundred million.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from contract.order import ahead_ms, microseconds, order_time
from projector.views.numbers import finite, number_text
from projector.views.state import Wanted, pack_marks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import Event
    from projector.views.retired import Retired
    from projector.views.state import Mark, Shelf, View


RESERVED: Final = frozenset({"seen", "seen_ms"})
"""Metrics whose last values would land in `last_seen` and `last_seen_ms`: they have none."""


class Writes(msgspec.Struct):
    """What one call writes, as `write.lua` reads it: keys and fields, then members of the shared keys.

    Attributes:
        fields: of each view in turn: names and values to set.
        existed: for each view whether it was there.
        gone: key, then a field to remove from it, and so on.
        device_marks: ids and how many bytes their marks have, in turn; `region_marks` likewise.
        marks: those bytes, of devices and then of regions.
        seen: of devices: when they were last seen in epoch milliseconds, and id, in turn.
        ahead: how many milliseconds a clock is ahead, and the device's id, in turn.
        caught_up: ids of devices whose clocks are not ahead any more.
    """

    fields: list[list[str]] = []
    existed: list[bool] = []
    gone: list[tuple[str, str]] = []
    device_marks: list[str | int] = []
    region_marks: list[str | int] = []
    marks: list[bytes] = []
    seen: list[str] = []
    ahead: list[str] = []
    caught_up: list[str] = []

    def add(self, fields: list[str], *, existed: bool) -> None:
        """Set fields of the next view."""
        self.fields.append(fields)
        self.existed.append(existed)

    def mark(self, sizes: list[str | int], view: View) -> None:
        """Keep a view's marks."""
        marks = pack_marks(view)
        self.marks.append(marks)
        sizes += (view.id, len(marks))


class Change:
    """What one run changes.

    Args:
        devices: what is remembered of them; `regions` likewise.
        run: a number that no run had before.

    Attributes:
        devices: those touched; `regions` likewise.
        moves: region → by how many its devices become more.
    """

    def __init__(self, devices: Shelf, regions: Shelf, run: int) -> None:
        self.devices: list[View] = []
        self.regions: list[View] = []
        self.moves: Counter[str] = Counter()
        self._known_devices = devices
        self._known_regions = regions
        self._run = run

    def add(self, events: Iterable[Event]) -> None:
        """Add events of which everything is remembered (`lacking`).

        Raises:
            ValueError: an event's times are none. The state is of no use then.
        """
        known_devices, known_regions = self._known_devices, self._known_regions
        for event in events:
            ts, received_at = event.ts, event.received_at
            at = ts if ts <= received_at else order_time(ts, received_at)
            ahead = 0 if at == ts else ahead_ms(ts, received_at)
            us, tie = microseconds(at), received_at + event.key
            device = known_devices[event.device_id]
            mark = (us, tie)
            if device.run != self._run:
                self._touch(device, self.devices)
            self._count(device, event, mark, at, ahead)
            if event.tags:
                self._tag(device, event.tags, mark)
            if event.region is not None:
                self._settle(device, event.region, mark)
                region = known_regions[event.region]
                if region.run != self._run:
                    self._touch(region, self.regions)
                self._count(region, event, (us, f"{tie}\0{event.device_id}"), at, ahead)

    def merge(self, rows: Iterable[Retired]) -> None:
        """Add what events amount to of which everything is remembered (`lacking`).

        Raises:
            ValueError: times in a row are none. The state is of no use then.
        """
        for row in rows:
            at = order_time(row.last_ts, row.last_received_at)
            us, tie = microseconds(at), row.last_received_at + row.last_key
            device = self._known_devices[row.device_id]
            mark = (us, tie)
            if device.run != self._run:
                self._touch(device, self.devices)
            self._merge(device, row, mark, at)
            if isinstance(row.last_value, dict):
                self._tag(device, row.last_value, mark)
            if row.region:
                self._settle(device, row.region, mark)
                region = self._known_regions[row.region]
                if region.run != self._run:
                    self._touch(region, self.regions)
                self._merge(region, row, (us, f"{tie}\0{row.device_id}"), at)

    def _touch(self, view: View, touched: list[View]) -> None:
        view.run, view.at, view.changed = self._run, "", []
        view.old_region, view.old_tags = (view.region, view.tags) if view.exists else (None, None)
        touched.append(view)

    def _count(self, view: View, event: Event, mark: Mark, at: str, ahead: int) -> None:
        """Count a message. This is where the time of a run goes."""
        run, metrics, changed, carried = self._run, view.metrics, view.changed, event.metrics
        view.count += 1
        late = mark <= view.mark
        if not late:
            if view.names != carried.keys():
                view.reshape(carried)
            view.mark, view.at, view.ahead_ms = mark, at, ahead
        for name, value in carried.items():
            metric = metrics[name]
            if metric.run != run:
                metric.run = run
                changed.append(metric)
            if not late or not view.is_stale(name, mark):
                metric.last = value
            if value.__class__ is not str:
                number = value + 0.0  # type: ignore[operator]  # it is none of a text
                metric.count += 1
                metric.total += number
                if number < metric.low:
                    metric.low, metric.bounds = number, True
                if number > metric.high:
                    metric.high, metric.bounds = number, True

    def _merge(self, view: View, row: Retired, mark: Mark, at: str) -> None:
        if mark > view.mark:
            view.reshape(())
            view.mark, view.at, view.ahead_ms = mark, at, ahead_ms(row.last_ts, row.last_received_at)
        if not row.metric:
            view.count += row.count
        if not row.metric or isinstance(row.last_value, dict):
            return
        metric = view.metrics[row.metric]
        if metric.run != self._run:
            metric.run = self._run
            view.changed.append(metric)
        if row.sum is not None and row.min is not None and row.max is not None:
            metric.merge(row.count, row.sum, row.min + 0.0, row.max + 0.0)
        if not view.is_stale(row.metric, mark):
            metric.last = row.last_value
            if mark == view.mark:
                del view.others[row.metric]
                view.names.add(row.metric)

    def _settle(self, device: View, region: str, mark: Mark) -> None:
        """A device is where the newest message says that names a region."""
        if device.region is not None and mark <= device.home:
            return
        device.home = mark
        if region != device.region:
            self.moves[region] += 1
            if device.region is not None:
                self.moves[device.region] -= 1
            device.region = region

    def _tag(self, device: View, tags: dict[str, str], mark: Mark) -> None:
        if device.tags is None or mark > device.tags_mark:
            device.tags, device.tags_mark = tags_of(tuple(tags.items())), mark

    def writes(self, stamp: list[str]) -> Writes:
        """The fields to set, for the devices touched and then the regions. To be asked for once.

        Args:
            stamp: names and values of fields that every view gets.
        """
        writes = Writes()
        for view in self.devices:
            self._write_device(view, _fields_of(view, stamp, "device_id"), writes)
            view.exists = True
        for view in self.regions:
            fields = _fields_of(view, stamp, "region")
            moved = self.moves.pop(view.id, 0)
            if moved or view.members is None:
                view.members = (view.members or 0) + moved
                fields += ("device_count", str(view.members))
            writes.add(fields, existed=view.exists)
            writes.mark(writes.region_marks, view)
            view.exists = True
        return writes

    def _write_device(self, view: View, fields: list[str], writes: Writes) -> None:
        if view.returned is not None and not view.at:
            last_seen_ms = str(view.mark[0] // 1000)
            fields += ("last_seen", view.returned, "last_seen_ms", last_seen_ms)
            writes.seen += (last_seen_ms, view.id)
        view.returned = None
        if view.region is not None and view.region != view.old_region:
            fields += ("region", view.region)
        if view.tags is not None and view.tags != view.old_tags:
            now = _tags(view.tags)
            for name, text in now.items():
                fields += (f"tag_{name}", text)
            if view.old_tags is not None:
                writes.gone += [(view.id, f"tag_{name}") for name in _tags(view.old_tags) if name not in now]
        if view.at:
            writes.seen += (str(view.mark[0] // 1000), view.id)
            if view.ahead_ms:
                fields += ("clock_ahead_ms", str(view.ahead_ms))
                writes.ahead += (str(view.ahead_ms), view.id)
            elif view.ahead:
                writes.gone.append((view.id, "clock_ahead_ms"))
                writes.caught_up.append(view.id)
            view.ahead = view.ahead_ms > 0
        writes.add(fields, existed=view.exists)
        writes.mark(writes.device_marks, view)


def lacking(
    devices: Shelf, regions: Shelf, events: Iterable[Event], rows: Iterable[Retired]
) -> tuple[list[Wanted], list[Wanted]]:
    """What is to be read of devices and of regions before these can be added."""
    of_devices: dict[str, set[str]] = {}
    of_regions: dict[str, set[str]] = {}
    for event in events:
        names = event.metrics.keys()
        view = devices.get(event.device_id)
        if view is None or not names <= view.metrics.keys():
            of_devices.setdefault(event.device_id, set()).update(names)
        if event.region is not None:
            view = regions.get(event.region)
            if view is None or not names <= view.metrics.keys():
                of_regions.setdefault(event.region, set()).update(names)
    for row in rows:
        for shelf, id_, wanted in ((devices, row.device_id, of_devices), (regions, row.region, of_regions)):
            view = shelf.get(id_)
            if id_ and (view is None or row.metric not in view.metrics):
                known = wanted.setdefault(id_, set())
                if row.metric and not isinstance(row.last_value, dict):
                    known.add(row.metric)
    return _wanted(devices, of_devices), _wanted(regions, of_regions)


def _wanted(shelf: Shelf, names: dict[str, set[str]]) -> list[Wanted]:
    wanted = []
    for id_, its in names.items():
        view = shelf.get(id_)
        wanted.append(Wanted(id_, sorted(its if view is None else its - view.metrics.keys())))
    return wanted


def _fields_of(view: View, stamp: list[str], id_field: str) -> list[str]:
    """What devices and regions have in common."""
    fields = [*stamp, "sample_count", str(view.count)]
    if not view.exists:
        fields += (id_field, view.id)
    if view.at:
        fields += ("last_seen", view.at, "last_seen_ms", str(view.mark[0] // 1000))
    for metric in view.changed:
        low_field, high_field, sum_field, count_field, average_field, last_field = _field_names(metric.name)
        last, count = metric.last, metric.count
        if last is not None:
            if metric.name not in RESERVED:
                fields += (last_field, last if isinstance(last, str) else number_text(last))
            metric.last = None
        if not count:
            continue
        if metric.bounds:
            fields += (low_field, _exact(metric.low), high_field, _exact(metric.high))
            metric.bounds = False
        total = finite(metric.total)
        text = f"{total:.15g}"
        metric.total = float(text)
        fields += (sum_field, text, count_field, str(count), average_field, f"{total / count:.15g}")
    return fields


@lru_cache(maxsize=8192)
def _field_names(metric: str) -> tuple[str, str, str, str, str, str]:
    return (
        *(f"min_{metric}", f"max_{metric}", f"sum_{metric}"),
        *(f"count_{metric}", f"avg_{metric}", f"last_{metric}"),
    )


@lru_cache(maxsize=4096)
def tags_of(tags: tuple[tuple[str, str], ...]) -> str:
    """Tags as a sorted JSON object."""
    return msgspec.json.encode(dict(sorted(tags))).decode()


@lru_cache(maxsize=1024)
def _tags(tags: str) -> dict[str, str]:
    return msgspec.json.decode(tags, type=dict[str, str])


def _exact(value: float) -> str:
    """The shortest text that reads back as the same double."""
    for digits in (15, 16):
        text = f"{value:.{digits}g}"
        if float(text) == value:
            return text
    return f"{value:.17g}"
