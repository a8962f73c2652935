"""When each device was last heard, written to `devices` at most once per interval and device.

A new device is written with its first batch. After that its row would change with every batch and cost more
than the measurement itself, so changes are held back and merged: `devices.last_seen` may trail by the
interval, and by no more, because what is held back is also written when nothing new comes, and at the end.
After a crash it catches up with the device's next message; `measurements` is always exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import RawEvent


class DeviceSighting(NamedTuple):
    """What a batch says of one device; times in the contract's form, which compares as text.

    Attributes:
        region: of the newest message that names one, None when none does.
    """

    device_id: str
    region: str | None
    region_ts: str
    first_seen: str
    last_seen: str


class DeviceTracker:
    """Merges sightings and hands them out when they are due; `now` is seconds of a monotonic clock."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._pending: dict[str, DeviceSighting] = {}
        self._written_at: dict[str, float] = {}

    def take(self, events: Iterable[RawEvent], now: float) -> list[DeviceSighting]:
        """Note the events and return the sightings to write with them."""
        pending = self._pending
        for event in events:
            seen = pending.get(event.device_id)
            if (
                seen is None
                or event.ts > seen.last_seen
                or event.ts < seen.first_seen
                or event.region != seen.region
            ):
                self._merge(DeviceSighting(event.device_id, event.region, event.ts, event.ts, event.ts))
        return self.take_due(now)

    def take_due(self, now: float) -> list[DeviceSighting]:
        """Return the sightings that have waited long enough."""
        horizon = now - self._interval_s
        due = [
            seen
            for device_id, seen in self._pending.items()
            if self._written_at.get(device_id, horizon) <= horizon
        ]
        for seen in due:
            del self._pending[seen.device_id]
            self._written_at[seen.device_id] = now
        return due

    def take_all(self) -> list[DeviceSighting]:
        """Return everything held back, for the last write."""
        held = list(self._pending.values())
        self._pending.clear()
        return held

    def give_back(self, sightings: Iterable[DeviceSighting]) -> None:
        """Take back sightings whose transaction did not commit."""
        for seen in sightings:
            self._merge(seen)
            self._written_at.pop(seen.device_id, None)

    def _merge(self, new: DeviceSighting) -> None:
        old = self._pending.get(new.device_id)
        if old is None:
            self._pending[new.device_id] = new
            return
        newest = (
            new if new.region is not None and (old.region is None or new.region_ts >= old.region_ts) else old
        )
        self._pending[new.device_id] = DeviceSighting(
            new.device_id,
            newest.region,
            newest.region_ts,
            min(old.first_seen, new.first_seen),
            max(old.last_seen, new.last_seen),
        )
