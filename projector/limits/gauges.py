"""What is measured of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from projector.limits.rules import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from projector.limits.book import Change


class Gauges:
    """Metrics of limits; of two projectors each has them all, and a change is one's.

    Labels are of what was set, not of what devices send.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._limits = Gauge(
            "projector_limits",
            "Devices with a limit for this metric and side, by whether they are within, or beyond which.",
            ["metric", "when", "state"],
            registry=registry,
        )
        self._changes = Counter(
            "projector_limit_changes",
            "Changes of devices against a limit that were told of by this process.",
            ["metric", "when", "state"],
            registry=registry,
        )
        self._no_room = Counter(
            "projector_limits_unwatched_readings",
            "Readings of devices whose limits are not watched for want of room.",
            registry=registry,
        )
        self._no_room_before = 0
        self._lost = Counter(
            "projector_limit_changes_lost",
            "Changes that no message told of: the broker refused it, or was away when this process ended.",
            registry=registry,
        )

    def begin(self, limits: Iterable[tuple[str, str]]) -> None:
        """Count from 0 what may change: metrics and sides that have limits; others have none any more."""
        self._limits.clear()
        self._no_room_before = 0
        for metric, when in limits:
            for state in STATES:
                self._changes.labels(metric, when, state)

    def show(self, counts: Iterable[tuple[str, str, list[int]]], no_room: int) -> None:
        """Set how many devices are where, and how many readings there was no room for."""
        for metric, when, numbers in counts:
            for state, number in zip(STATES, numbers, strict=True):
                self._limits.labels(metric, when, state).set(number)
        self._no_room.inc(no_room - self._no_room_before)
        self._no_room_before = no_room

    def told(self, change: Change) -> None:
        """Count a change."""
        _, metric, when = change.key
        self._changes.labels(metric, when, STATES[change.level]).inc()

    def lost(self, changes: int) -> None:
        """Count changes that were not published."""
        self._lost.inc(changes)
