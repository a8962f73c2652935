"""What the watch measures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

from prometheus_client import Counter, Gauge

from contract.changes import DeviceState
from projector.watch.book import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import CollectorRegistry


class Gauges:
    """Metrics of the devices of a site; of two projectors each has them all, and a change is one's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._devices = Gauge(
            "projector_devices",
            "Devices by what is known of them: ok, silent for longer than is usual for each, or unknown yet; "
            "offline, as they said themselves; muted or retired, whatever else they are.",
            ["region", "state"],
            registry=registry,
        )
        self._clocks = Gauge(
            "projector_devices_clock_wrong",
            "Devices whose clock is wrong, neither muted nor retired; each has a state beside that.",
            ["region"],
            registry=registry,
        )
        self._changes = Counter(
            "projector_device_changes",
            "Changes of devices that were told of by this process: that they are silent or ok, and so on.",
            ["state"],
            registry=registry,
        )
        for state in get_args(DeviceState):
            self._changes.labels(state)
        self._heard = Gauge(
            "projector_heard_timestamp_seconds",
            "When the newest message heard of was received; before the first, when this process began.",
            registry=registry,
        )
        self._heard.set_to_current_time()
        self._heard_of: dict[int, int] = {}
        self._unwatched = Counter(
            "projector_unwatched_messages",
            "Messages of devices that are not watched for want of room.",
            registry=registry,
        )
        self._unwatched_before = 0
        self._lost = Counter(
            "projector_device_changes_lost",
            "Changes that no message told of: the broker refused it, or was away when this process ended.",
            registry=registry,
        )

    def show(self, counts: Mapping[str, Sequence[int]], unwatched: int) -> None:
        """Set how many devices of each region are what, and how many messages nobody watched.

        Args:
            counts: as in `tally`.
            unwatched: since the start.
        """
        for region, (*devices, clocks) in counts.items():
            for state, many in zip(STATES, devices, strict=True):
                self._devices.labels(region, state).set(many)
            self._clocks.labels(region).set(clocks)
        self._unwatched.inc(unwatched - self._unwatched_before)
        self._unwatched_before = unwatched

    def heard(self, stream: int, at: int) -> None:
        """Note when a stream's row came, now at the latest; one that is behind makes no others' news old."""
        self._heard_of[stream] = min(at, int(time.time()))
        self._heard.set(max(self._heard_of.values()))

    def lost(self, changes: int) -> None:
        """Count changes that were not published."""
        self._lost.inc(changes)

    def told(self, state: DeviceState) -> None:
        """Count a change."""
        self._changes.labels(state).inc()
