"""When each device was last heard, written to `devices` at most once per interval and device.

A new device is written within a second of its first batch. After that its row would change with every batch
and cost more than the measurement itself, so changes are held back and merged: `devices.last_seen` may trail
by the interval, and by a little more only while somebody else holds the device's row; what is held back is
also written at the end. After a crash it catches up with the device's next message, a repeated one too;
`measurements` is always exact.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import RawEvent


class DeviceSighting(msgspec.Struct, gc=False):
    """What a batch says of one device; times in the contract's form, which compares as text.

    Attributes:
        region: of the newest message that names one, None when none does.
    """

    device_id: str
    region: str | None
    region_ts: str
    first_seen: str
    last_seen: str

    def absorb(self, other: DeviceSighting) -> None:
        """Add what another one says of the device."""
        self.last_seen = max(self.last_seen, other.last_seen)
        self.first_seen = min(self.first_seen, other.first_seen)
        if other.region is not None and (self.region is None or other.region_ts >= self.region_ts):
            self.region, self.region_ts = other.region, other.region_ts


class DeviceTracker:
    """Merges sightings and hands them out when they are due; `now` is seconds of a monotonic clock.

    What it does depends on the devices heard and on those whose interval has ended meanwhile, not on how many
    there are.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due: dict[str, DeviceSighting] = {}
        self._held: dict[str, DeviceSighting] = {}
        self._written_at: dict[str, float] = {}  # within the last interval, oldest first

    def note(self, events: Iterable[RawEvent]) -> None:
        """Note events that are stored. Every one comes here."""
        for event in events:
            ts, region = event.ts, event.region
            group = self._held if event.device_id in self._written_at else self._due
            seen = group.get(event.device_id)
            if seen is None:
                group[event.device_id] = DeviceSighting(event.device_id, region, ts, ts, ts)
                continue
            if ts > seen.last_seen:
                seen.last_seen = ts
            elif ts < seen.first_seen:
                seen.first_seen = ts
            if region is not None and (ts >= seen.region_ts or seen.region is None):
                seen.region, seen.region_ts = region, ts

    def take_due(self, now: float) -> list[DeviceSighting]:
        """Return the sightings that have waited long enough."""
        horizon = now - self._interval_s
        for device_id, _ in list(takewhile(lambda each: each[1] <= horizon, self._written_at.items())):
            self._let_go(device_id)
        due, self._due = self._due, {}
        self._written_at.update(dict.fromkeys(due, now))
        return list(due.values())

    def take_all(self) -> list[DeviceSighting]:
        """Return everything held back, for the last write."""
        everything = [*self._due.values(), *self._held.values()]
        self._due.clear()
        self._held.clear()
        return everything

    def give_back(self, sightings: Iterable[DeviceSighting]) -> None:
        """Take back sightings that could not be written."""
        for seen in sightings:
            self._let_go(seen.device_id)
            if known := self._due.get(seen.device_id):
                known.absorb(seen)
            else:
                self._due[seen.device_id] = seen

    def _let_go(self, device_id: str) -> None:
        self._written_at.pop(device_id, None)
        if held := self._held.pop(device_id, None):
            self._due[device_id] = held
