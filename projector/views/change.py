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

from contract.order import ahead_ms, order_time, said_time
from projector.views.retired import ONLINE
from projector.views.state import HIGH, LAST, LOW, MOVED, NEWER, NO_NAMES, TOLD, TOTAL, Wanted, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from contract.events import Event, Scalar
    from projector.views.retired import Retired
    from projector.views.state import Shelf, View


class Change:
    """What one run changes.

    Args:
        devices: what is remembered of them; `regions` likewise.
        run: a number that no run had before.

    Attributes:
        devices: those touched; `regions` likewise.
        moves: region → by how many its devices become more.
        tags: device that has others → the tags that Redis has.
        metrics: of views that the run has touched, how many.
        widest: most of them in one view.
    """

    def __init__(self, devices: Shelf, regions: Shelf, run: int) -> None:
        self.devices: list[View] = []
        self.regions: list[View] = []
        self.moves: Counter[str] = Counter()
        self.tags: dict[str, str | None] = {}
        self.metrics = self.widest = 0
        self._known_devices = devices
        self._known_regions = regions
        self._run = run

    def add(self, events: Iterable[Event]) -> int:
        """Add events, up to the first of which something is not remembered (`Lacking`).

        Returns:
            How many were added.
        """
        known_devices, known_regions, run = self._known_devices.lately, self._known_regions.lately, self._run
        added = 0
        for event in events:
            ts, received_at, names = event.ts, event.received_at, event.metrics.keys()
            device = known_devices.get(event.device_id)
            if device is None or not names <= device.places.keys():
                break
            if event.region is not None:
                region = known_regions.get(event.region)
                if region is None or not names <= region.places.keys():
                    break
            at = ts if ts <= received_at else order_time(ts, received_at)
            ahead = 0 if at == ts else ahead_ms(ts, received_at)
            mark = f"{at}{received_at}{event.key}"
            if device.run != run:
                self._touch(device, self.devices, self._known_devices)
            self._count(device, event.metrics, mark, ahead)
            if event.tags:
                self._tag(device, event.tags, mark)
            if event.online_since is not None and event.online is not None:
                self._say(device, f"{event.online_since}{received_at}{event.key}", online=event.online)
            if event.region is not None:
                self._settle(device, event.region, mark)
                region = known_regions[event.region]
                if region.run != run:
                    self._touch(region, self.regions, self._known_regions)
                self._count(region, event.metrics, f"{mark}\0{event.device_id}", ahead)
            added += 1
        return added

    def merge(self, rows: Iterable[Retired]) -> None:
        """Add what events amount to of which everything is remembered (`Lacking`)."""
        for row in rows:
            tie = row.last_received_at + row.last_key
            mark = order_time(row.last_ts, row.last_received_at) + tie
            device = self._known_devices[row.device_id]
            if row.metric == ONLINE and not device.mark:
                continue  # all of its messages were deleted by somebody
            if device.run != self._run:
                self._touch(device, self.devices, self._known_devices)
            if row.metric == ONLINE:
                since = said_time(row.last_ts, row.last_received_at)
                self._say(device, since + tie, online=row.last_value is True)
                continue
            self._merge(device, row, mark)
            if isinstance(row.last_value, dict):
                self._tag(device, row.last_value, mark)
            if row.region:
                self._settle(device, row.region, mark)
                region = self._known_regions[row.region]
                if region.run != self._run:
                    self._touch(region, self.regions, self._known_regions)
                self._merge(region, row, f"{mark}\0{row.device_id}")

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
        view.run, view.news, view.changed, view.bounds = self._run, 0, NO_NAMES, NO_NAMES
        touched.append(view)

    def _count(self, view: View, carried: dict[str, Scalar], mark: str, ahead: int) -> None:
        """Count a message. This is where the time of a run goes."""
        view.count += 1
        late = mark <= view.mark
        if not late:
            if view.names != carried.keys():
                view.reshape(carried)
            view.mark, view.ahead_ms = mark, ahead
            view.news |= NEWER
        if late or view.changed is not view.names:
            self._note(view, carried)
        places, cells = view.places, view.cells
        for name, value in carried.items():
            at = places[name]
            if not late or not view.is_stale(name, mark):
                cells[at + LAST] = value
            if value.__class__ is not str:
                number = value + 0.0  # type: ignore[operator]  # it is none of a text
                cells[at] += 1
                cells[at + TOTAL] += number
                if number < cells[at + LOW]:
                    cells[at + LOW] = number
                    view.move(name)
                if number > cells[at + HIGH]:
                    cells[at + HIGH] = number
                    view.move(name)

    def _note(self, view: View, carried: dict[str, Scalar]) -> None:
        """Note which metrics the run has touched."""
        changed, before = view.changed, len(view.changed)
        if not changed:
            changed = view.changed = names_of(
                tuple(carried)
            )  # and nothing more to note where all carry the same
        elif not carried.keys() <= changed:
            if not isinstance(changed, set):
                changed = view.changed = set(changed)
            changed.update(carried)
        self.metrics += len(changed) - before
        self.widest = max(self.widest, len(changed))

    def _merge(self, view: View, row: Retired, mark: str) -> None:
        if mark > view.mark:
            view.reshape(())
            view.mark, view.ahead_ms = mark, ahead_ms(row.last_ts, row.last_received_at)
            view.news |= NEWER
        if not row.metric:
            view.count += row.count
        if not row.metric or isinstance(row.last_value, dict):
            return
        name, at, cells = row.metric, view.places[row.metric], view.cells
        self._note(view, {name: 0})
        if row.sum is not None and row.min is not None and row.max is not None:
            cells[at] += row.count
            cells[at + TOTAL] += row.sum
            low, high = min(cells[at + LOW], row.min + 0.0), max(cells[at + HIGH], row.max + 0.0)
            if [low, high] != cells[at + LOW : at + HIGH + 1]:
                cells[at + LOW], cells[at + HIGH] = low, high
                view.move(name)
        if not view.is_stale(name, mark):
            cells[at + LAST] = row.last_value
            if mark == view.mark:
                del view.others[name]
                if not isinstance(view.names, set):
                    view.names = set(view.names)
                view.names.add(name)

    def _settle(self, device: View, region: str, mark: str) -> None:
        """A device is where the newest message says that names a region."""
        if device.region is not None and mark <= device.home:
            return
        device.home = mark
        if region != device.region:
            self.moves[region] += 1
            if device.region is not None:
                self.moves[device.region] -= 1
            device.region = intern(region)  # one text for all devices of it
            device.news |= MOVED

    def _tag(self, device: View, tags: dict[str, str], mark: str) -> None:
        if device.tags is None or mark > device.tags_mark:
            self.tags.setdefault(device.id, device.tags if device.exists else None)
            device.tags, device.tags_mark = _tags_of(tuple(tags.items())), mark

    @staticmethod
    def _say(device: View, since: str, *, online: bool) -> None:
        """A device is what the newest of those messages made it that the gateway says changed it."""
        if since > device.online_mark:
            device.online, device.online_mark = online, since
            device.news |= TOLD


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
            if view is None or not names <= view.places.keys():
                self._of_devices.setdefault(event.device_id, set()).update(names)
            if event.region is not None:
                view = self._regions.get(event.region)
                if view is None or not names <= view.places.keys():
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
                if id_ and (view is None or not names <= view.places.keys()):
                    wanted.setdefault(id_, set()).update(names)

    def wanted(self) -> tuple[list[Wanted], list[Wanted]]:
        """What is to be read of devices and of regions."""
        return _wanted(self._devices, self._of_devices), _wanted(self._regions, self._of_regions)


def _wanted(shelf: Shelf, names: dict[str, set[str]]) -> list[Wanted]:
    wanted = []
    for id_, its in names.items():
        view = shelf.get(id_)
        wanted.append(Wanted(id_, sorted(its if view is None else its - view.places.keys())))
    return wanted


@lru_cache(maxsize=4096)
def _tags_of(tags: tuple[tuple[str, str], ...]) -> str:
    """Tags as a sorted JSON object."""
    return msgspec.json.encode(dict(sorted(tags))).decode()
