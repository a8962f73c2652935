"""The books: what became of every message, as metrics and as the accounting line (promise 4).

The unit is a reading: an array of twenty counts twenty, a payload that cannot be decoded counts one.
`received = committed + duplicate + dead_lettered + in flight` at every moment; in flight is counted by the
pipeline on its own, so that the books can be wrong and seen to be.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from gateway.transaction import Outcome

_UNPROJECTED_LIMIT = 10_000
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Ledger:
    """Counts for one process, since its start."""

    def __init__(self, registry: CollectorRegistry, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self.received = 0
        self.committed = 0
        self.duplicate = 0
        self.dead_lettered = 0
        self.projected = 0
        self.in_flight: Callable[[], int] = lambda: 0
        self.lag_s = {"committed": 0.0, "published": 0.0}
        self._unprojected: deque[tuple[int, int]] = deque()

        self._received = Counter("gateway_received", "Readings taken from the broker.", registry=registry)
        self._committed = Counter("gateway_committed", "Readings stored.", registry=registry)
        self._duplicate = Counter("gateway_duplicate", "Readings that were stored before.", registry=registry)
        self._dead_lettered = Counter(
            "gateway_dead_lettered", "Readings kept as dead letters.", ["reason"], registry=registry
        )
        self._unkeyed = Counter(
            "gateway_unkeyed", "Stored readings whose device named no key.", registry=registry
        )
        self._projected = Counter(
            "gateway_projected",
            "Readings stored by this process that every projection has applied.",
            registry=registry,
        )
        self._lag = Gauge(
            "gateway_lag_seconds",
            "How long the last batch took to reach a step.",
            ["step"],
            registry=registry,
        )
        self._batch_readings = Histogram(
            "gateway_batch_readings",
            "Readings a batch.",
            registry=registry,
            buckets=(1, 10, 50, 100, 250, 500, 1000, 2500),
        )
        self._commit_seconds = Histogram(
            "gateway_commit_seconds",
            "From a batch's first message to its COMMIT.",
            registry=registry,
            buckets=_SECONDS,
        )
        Gauge("gateway_in_flight", "Readings received and not settled.", registry=registry).set_function(
            lambda: self.in_flight()  # noqa: PLW0108  # the pipeline puts its own in later
        )

    def receive(self, readings: int) -> None:
        """Count what a chunk held."""
        self.received += readings
        self._received.inc(readings)

    def settle(self, outcome: Outcome, waited_s: float) -> None:
        """Count what became of a batch, `waited_s` after its first message came."""
        self.committed += outcome.committed
        self.duplicate += outcome.duplicates
        self.dead_lettered += len(outcome.dead_letters)
        self._committed.inc(outcome.committed)
        self._duplicate.inc(outcome.duplicates)
        self._unkeyed.inc(outcome.unkeyed)
        for letter in outcome.dead_letters:
            self._dead_lettered.labels(letter.rejection.reason).inc()
        self._batch_readings.observe(outcome.committed + outcome.duplicates + len(outcome.dead_letters))
        self._commit_seconds.observe(waited_s)
        self._set_lag("committed", waited_s)
        if outcome.appended is not None:
            self._unprojected.append((outcome.appended.n, outcome.appended.events))
            if len(self._unprojected) > _UNPROJECTED_LIMIT:
                self._unprojected = _coarsen(self._unprojected)

    def publish(self, created_at: datetime) -> None:
        """Note that an outbox row has reached the internal topic."""
        self._set_lag("published", (self._now() - created_at).total_seconds())

    def project(self, n: int) -> None:
        """Note that every projection has applied the stream up to n."""
        waiting: deque[tuple[int, int]] = deque()
        while self._unprojected:
            row, events = self._unprojected.popleft()
            if row > n:
                waiting.append((row, events))
                continue
            self.projected += events
            self._projected.inc(events)
        self._unprojected = waiting

    def line(self) -> dict[str, int]:
        """The accounting line's fields, in its order."""
        return {
            "received": self.received,
            "committed": self.committed,
            "duplicate": self.duplicate,
            "dead_lettered": self.dead_lettered,
            "in_flight": self.in_flight(),
            "projected": self.projected,
        }

    def _set_lag(self, step: str, seconds: float) -> None:
        self.lag_s[step] = seconds
        self._lag.labels(step).set(seconds)


def _coarsen(rows: deque[tuple[int, int]]) -> deque[tuple[int, int]]:
    """Merge neighbours, the later standing for both, so that a projector away for days costs no memory."""
    items = list(rows)
    pairs = zip(items[::2], items[1::2], strict=False)
    merged = deque((max(a[0], b[0]), a[1] + b[1]) for a, b in pairs)
    if len(items) % 2:
        merged.append(items[-1])
    return merged
