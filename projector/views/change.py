"""Adds a run to the state of views. Pure; `writes.py` makes of it what is to be set.

Counts, sums, minima and maxima commute, so runs may come in any order. Last values do not: each belongs to
the newest message that carries it, in one total order over messages, and late data never replaces newer data
(thingsboard#1769). Tags go the same way, all of a message's together: they are those of the newest message
that has any. Whether a device is online the gateway has decided with the message that changed it.

Numbers become IEEE doubles before anything else is done with them; true is 1 and false is 0. A string has a
last value and nothing else. Negative zero becomes zero. A sum that would overflow stays at the largest
double, and that would depend on the order of its events; so the write side refuses numbers beyond ±1e300, of
which it takes a hundred million.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING

import msgspec

from contract.order import ahead_ms, microseconds, order_time, said_time
from projector.views.retired import ONLINE
from projector.views.state import NOWHERE, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from contract.events import Event
    from projector.views.retired import Retired
    from projector.views.state import Mark, Shelf, View


class Change:
    """What one run changes.

    Args:
        devices: what is remembered of them; `regions` likewise.
        run: a number that no run had before.

    Attributes:
        devices: those touched; `regions` likewise.
        moves: region → by how many its devices become more.
        metrics: of views that the run has touched, how many.
        widest: most of them in one view.
    """

    def __init__(self, devices: Shelf, regions: Shelf, run: int) -> None:
        self.devices: list[View] = []
        self.regions: list[View] = []
        self.moves: Counter[str] = Counter()
        self.metrics = self.widest = 0
        self._known_devices = devices
        self._known_regions = regions
        self._run = run

    def add(self, events: Iterable[Event]) -> int:
        """Add events, up to the first of which something is not remembered (`Lacking`).

        Returns:
            How many were added.

        Raises:
            ValueError: an event's times are none. The state is of no use then.
        """
        known_devices, known_regions = self._known_devices.lately, self._known_regions.lately
        added = 0
        for event in events:
            ts, received_at, names = event.ts, event.received_at, event.metrics.keys()
            device = known_devices.get(event.device_id)
            if device is None or not names <= device.metrics.keys():
                break
            if event.region is not None:
                region = known_regions.get(event.region)
                if region is None or not names <= region.metrics.keys():
                    break
            at = ts if ts <= received_at else order_time(ts, received_at)
            ahead = 0 if at == ts else ahead_ms(ts, received_at)
            us, tie = microseconds(at), received_at + event.key
            mark = (us, tie)
            if device.run != self._run:
                self._touch(device, self.devices, self._known_devices)
            self._count(device, event, mark, at, ahead)
            if event.tags:
                self._tag(device, event.tags, mark)
            if event.online_since is not None and event.online is not None:
                since = microseconds(event.online_since)
                self._say(device, (since, tie), online=event.online)
            if event.region is not None:
                self._settle(device, event.region, mark)
                region = known_regions[event.region]
                if region.run != self._run:
                    self._touch(region, self.regions, self._known_regions)
                self._count(region, event, (us, f"{tie}\0{event.device_id}"), at, ahead)
            added += 1
        return added

    def merge(self, rows: Iterable[Retired]) -> None:
        """Add what events amount to of which everything is remembered (`Lacking`).

        Raises:
            ValueError: times in a row are none. The state is of no use then.
        """
        for row in rows:
            at = order_time(row.last_ts, row.last_received_at)
            us, tie = microseconds(at), row.last_received_at + row.last_key
            device = self._known_devices[row.device_id]
            mark = (us, tie)
            if row.metric == ONLINE and device.mark == NOWHERE:
                continue  # all of its messages were deleted by somebody
            if device.run != self._run:
                self._touch(device, self.devices, self._known_devices)
            if row.metric == ONLINE:
                since = microseconds(said_time(row.last_ts, row.last_received_at))
                self._say(device, (since, tie), online=row.last_value is True)
                continue
            self._merge(device, row, mark, at)
            if isinstance(row.last_value, dict):
                self._tag(device, row.last_value, mark)
            if row.region:
                self._settle(device, row.region, mark)
                region = self._known_regions[row.region]
                if region.run != self._run:
                    self._touch(region, self.regions, self._known_regions)
                self._merge(region, row, (us, f"{tie}\0{row.device_id}"), at)

    @property
    def left(self) -> list[View]:
        """Regions that devices left, and to which the run adds nothing else.

        Raises:
            KeyError: one of them is not remembered (`left_unknown`).
        """
        return [self._known_regions[region] for region in self._left()]

    def left_unknown(self) -> list[Wanted]:
        """What is to be read of those."""
        return [Wanted(region, []) for region in self._left() if self._known_regions.get(region) is None]

    def _left(self) -> list[str]:
        touched = {view.id for view in self.regions}
        return [region for region, moved in self.moves.items() if moved and region not in touched]

    def _touch(self, view: View, touched: list[View], shelf: Shelf) -> None:
        shelf.count(view)
        view.run, view.at, view.changed = self._run, "", []
        view.old_region, view.old_tags, view.old_online = (
            (view.region, view.tags, view.online_mark) if view.exists else (None, None, NOWHERE)
        )
        touched.append(view)

    def _count(self, view: View, event: Event, mark: Mark, at: str, ahead: int) -> None:
        """Count a message. This is where the time of a run goes."""
        run, metrics, carried, changed = self._run, view.metrics, event.metrics, view.changed
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
                self.metrics += 1
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
        if len(changed) > self.widest:  # noqa: PLR1730  # a call of max() takes three times as long
            self.widest = len(changed)

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
            self.metrics += 1
            self.widest = max(self.widest, len(view.changed))
        if row.sum is not None and row.min is not None and row.max is not None:
            metric.merge(row.count, row.sum, row.min + 0.0, row.max + 0.0)
        if not view.is_stale(row.metric, mark):
            metric.last = row.last_value
            if mark == view.mark:
                del view.others[row.metric]
                if not isinstance(view.names, set):
                    view.names = set(view.names)
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
            device.region = intern(region)  # one text for all devices of it

    def _tag(self, device: View, tags: dict[str, str], mark: Mark) -> None:
        if device.tags is None or mark > device.tags_mark:
            device.tags, device.tags_mark = _tags_of(tuple(tags.items())), mark

    @staticmethod
    def _say(device: View, since: Mark, *, online: bool) -> None:
        """A device is what the newest of those messages made it that the gateway says changed it."""
        if since > device.online_mark:
            device.online, device.online_mark = online, since


class Lacking:
    """What is to be read before events, and what others amount to, can be added.

    Args:
        devices: what is remembered of them; `regions` likewise.
    """

    def __init__(self, devices: Shelf, regions: Shelf) -> None:
        self._devices = devices
        self._regions = regions
        self._of_devices: dict[str, set[str]] = {}
        self._of_regions: dict[str, set[str]] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Look for what these need."""
        for event in events:
            names: AbstractSet[str] = event.metrics.keys()
            view = self._devices.get(event.device_id)
            if view is None or not names <= view.metrics.keys():
                self._of_devices.setdefault(event.device_id, set()).update(names)
            if event.region is not None:
                view = self._regions.get(event.region)
                if view is None or not names <= view.metrics.keys():
                    self._of_regions.setdefault(event.region, set()).update(names)

    def merge(self, rows: Iterable[Retired]) -> None:
        """Look for what these need."""
        for row in rows:
            is_metric = row.metric not in {"", ONLINE} and not isinstance(row.last_value, dict)
            names = {row.metric} if is_metric else set()
            for shelf, id_, wanted in (
                (self._devices, row.device_id, self._of_devices),
                (self._regions, row.region, self._of_regions),
            ):
                view = shelf.get(id_)
                if id_ and (view is None or not names <= view.metrics.keys()):
                    wanted.setdefault(id_, set()).update(names)

    def wanted(self) -> tuple[list[Wanted], list[Wanted]]:
        """What is to be read of devices and of regions."""
        return _wanted(self._devices, self._of_devices), _wanted(self._regions, self._of_regions)


def _wanted(shelf: Shelf, names: dict[str, set[str]]) -> list[Wanted]:
    wanted = []
    for id_, its in names.items():
        view = shelf.get(id_)
        wanted.append(Wanted(id_, sorted(its if view is None else its - view.metrics.keys())))
    return wanted


@lru_cache(maxsize=4096)
def _tags_of(tags: tuple[tuple[str, str], ...]) -> str:
    """Tags as a sorted JSON object."""
    return msgspec.json.encode(dict(sorted(tags))).decode()
