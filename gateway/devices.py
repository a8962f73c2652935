"""When each device was last heard, written to `devices` at most once per interval and device.

A new device is written within a second of its first batch. After that its row would change with every batch
and cost more than the measurement itself, so changes are held back and merged: `devices.last_seen` may trail
by the interval, and by a little more only while somebody else holds the device's row; what is held back is
also written at the end. Of a large fleet so many at most are written again in a turn as a database takes
without notice, those that have waited for longest: a hundred thousand devices that send all the time trail by
100 s. After a crash it catches up with the device's next message, a repeated one too; `measurements` is
always exact.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import RawEvent

AGAIN: Final = 1000  # devices that are written again in a turn, which comes each second

_TIME: Final = len("2026-11-23T09:00:00.250000Z")
_NAMED, _FIRST, _SIZE = _TIME, 2 * _TIME, 3 * _TIME
_NEVER: Final = bytes(_TIME)


class DeviceSighting(msgspec.Struct, gc=False):
    """What is to be written of one device; times in the contract's form, which compares as text.

    Attributes:
        region: of the newest message that names one, None when none does.
        region_ts: the time of that message; means nothing without a region.
    """

    device_id: str
    region: str | None
    region_ts: str
    first_seen: str
    last_seen: str


class DeviceTracker:
    """Merges sightings and hands them out when they are due; `now` is seconds of a monotonic clock.

    What it does depends on the devices heard and on those whose interval has ended meanwhile, not on how many
    there are. Nothing of a message is kept as it came, but its time is copied: a text of each of a hundred
    thousand devices lies between those of younger messages, and these are then made all over memory, which
    costs a gateway half as much again for all that it does.

    Args:
        interval_s: from one writing of a device to the next, at least.
        again: devices that are written again in a turn.
    """

    def __init__(self, interval_s: float, again: int = AGAIN) -> None:
        self._interval_s = interval_s
        self._again = again
        self._slots: dict[str, int] = {}
        self._times = bytearray()  # of each slot the last time, that of the region, and the first
        self._regions: list[str | None] = []  # that were named since the device was written
        self._heard = bytearray()  # 1 where there is something to be written
        self._free: list[int] = []
        self._due: dict[str, None] = {}
        self._written_at: dict[str, float] = {}  # of all others, oldest first

    def note(self, events: Iterable[RawEvent]) -> None:
        """Note events that are stored. Every one comes here."""
        slots, times, regions, heard = self._slots, self._times, self._regions, self._heard
        for event in events:
            ts, region = event.ts.encode(), event.region
            slot = slots.get(event.device_id)
            if slot is None:
                slot = self._meet(event.device_id, ts)
            at = slot * _SIZE
            heard[slot] = 1
            if ts > times[at : at + _NAMED]:
                if region is None:
                    times[at : at + _NAMED] = ts
                else:
                    times[at : at + _FIRST] = ts + ts
                    regions[slot] = intern(region)
                continue
            if ts < times[at + _FIRST : at + _SIZE]:  # noqa: PLR1730  # most are not: nothing to write
                times[at + _FIRST : at + _SIZE] = ts
            if region is not None and ts >= times[at + _NAMED : at + _FIRST]:
                times[at + _NAMED : at + _FIRST] = ts
                regions[slot] = intern(region)

    def take_due(self, now: float) -> list[DeviceSighting]:
        """Return what is due: devices that are new, and of the others those that have waited long enough."""
        horizon, heard, slots, written_at = now - self._interval_s, self._heard, self._slots, self._written_at
        again: list[str] = []
        quiet: list[str] = []
        for device_id, at in written_at.items():
            if at > horizon or len(again) == self._again:
                break
            (again if heard[slots[device_id]] else quiet).append(device_id)
        for device_id in quiet:
            del written_at[device_id]
            self._free.append(slots.pop(device_id))
        for device_id in again:
            del written_at[device_id]
        due = [*self._due, *again]
        self._due.clear()
        written_at.update(dict.fromkeys(due, now))
        return list(map(self._take, due))

    def take_all(self) -> list[DeviceSighting]:
        """Return everything held back, for the last write, and forget all devices."""
        everything = [self._take(id_) for id_, slot in self._slots.items() if self._heard[slot]]
        self._free += self._slots.values()
        for known in (self._slots, self._due, self._written_at):
            known.clear()
        return everything

    def give_back(self, sightings: Iterable[DeviceSighting]) -> None:
        """Take back sightings that could not be written: they are due."""
        for seen in sightings:
            first, named, last = seen.first_seen.encode(), seen.region_ts.encode(), seen.last_seen.encode()
            slot = self._slots.get(seen.device_id)
            if slot is None:
                slot = self._meet(seen.device_id, last)
            at, times, region = slot * _SIZE, self._times, self._regions[slot]
            times[at : at + _NAMED] = max(last, bytes(times[at : at + _NAMED]))
            times[at + _FIRST : at + _SIZE] = min(first, bytes(times[at + _FIRST : at + _SIZE]))
            if seen.region is not None and (region is None or named > times[at + _NAMED : at + _FIRST]):
                times[at + _NAMED : at + _FIRST] = named
                self._regions[slot] = seen.region
            self._heard[slot] = 1
            self._written_at.pop(seen.device_id, None)
            self._due[seen.device_id] = None

    def _meet(self, device_id: str, ts: bytes) -> int:
        """A slot for a device whose first message is of this time; it is due."""
        times = ts + _NEVER + ts
        if self._free:
            slot = self._free.pop()
            self._times[slot * _SIZE : (slot + 1) * _SIZE] = times
        else:
            slot = len(self._regions)
            self._times += times
            self._regions.append(None)
            self._heard.append(1)
        self._slots[device_id] = slot
        self._due[device_id] = None
        return slot

    def _take(self, device_id: str) -> DeviceSighting:
        """What is to be written of a device, of which nothing is then."""
        slot = self._slots[device_id]
        at = slot * _SIZE
        times = self._times[at : at + _SIZE].decode()
        last, named, first = times[:_NAMED], times[_NAMED:_FIRST], times[_FIRST:]
        region, self._regions[slot] = self._regions[slot], None
        self._heard[slot] = 0
        return DeviceSighting(device_id, region, named, first, last)
