"""What the watch measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import CollectorRegistry

    from projector.watch.silence import Change


class Gauges:
    """Metrics of the devices of a site; of two projectors each has them all, and a change is one's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._devices = Gauge(
            "projector_devices",
            "Devices by what is known of them: ok, or silent for longer than is usual for each.",
            ["region", "state"],
            registry=registry,
        )
        self._changes = Counter(
            "projector_device_changes",
            "Devices that fell silent, or were back, and were told of by this process.",
            ["state"],
            registry=registry,
        )
        for state in ("ok", "silent"):
            self._changes.labels(state)
        self._heard = Gauge(
            "projector_heard_timestamp_seconds",
            "When the newest message in the views was received.",
            registry=registry,
        )
        self._crowded_out = Counter(
            "projector_devices_unwatched", "Devices not watched for want of room.", registry=registry
        )
        self._crowded_before = 0

    def show(self, counts: Mapping[str, Sequence[int]], crowded_out: int) -> None:
        """Set how many devices are ok and silent in each region."""
        for region, (ok, silent) in counts.items():
            self._devices.labels(region, "ok").set(ok)
            self._devices.labels(region, "silent").set(silent)
        self._crowded_out.inc(crowded_out - self._crowded_before)
        self._crowded_before = crowded_out

    def heard(self, at: int) -> None:
        """Note when a row came."""
        self._heard.set(at)

    def told(self, change: Change) -> None:
        """Count a change."""
        self._changes.labels("silent" if change.silent else "ok").inc()
