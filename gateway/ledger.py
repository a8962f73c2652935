"""The books: what became of every message, as metrics and as the accounting line (promise 4).

The unit is a reading: an array of twenty counts twenty, a payload that cannot be decoded counts one.
`received = committed + duplicate + dead_lettered + in flight + spooled` at every moment; in flight is counted
by the pipeline, spooled by the spool, each on its own, so that the books can be wrong and seen to be. A
message in the spool counts one until it is read. What a process before has left there is received when it is
read; what `spool.when_full = "drop_oldest"` drops stays received and is told apart.

Lag is told by step, and what is stuck counts: while something waits for a step longer than the last one did,
its wait so far is the lag.

- `event`: from device time to receipt, the median of the newest batch's readings that state a time. Two
  clocks meet here: the median shrugs off single devices with a wrong one, and a fleet whose clocks are ahead
  shows as a negative lag.
- `committed`: from receipt of a batch's first message to its COMMIT.
- `published`: from COMMIT to the broker's acknowledgement of the outbox row. Of rows that a predecessor
  stored, by the clocks of PostgreSQL and of this machine.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.decode import Reading
    from gateway.transaction import Outcome

Step = Literal["event", "committed", "published"]

REASONS: Final = (
    *("conflict", "device_blocked", "device_mismatch", "duplicate_key", "empty_message", "invalid_device_id"),
    *("invalid_key", "invalid_metric", "invalid_region", "invalid_string", "invalid_tag"),
    *("invalid_time", "malformed_bytes", "malformed_cbor", "malformed_compression", "malformed_csv"),
    *("malformed_influx", "malformed_json", "malformed_msgpack", "malformed_protobuf", "malformed_senml"),
    *("malformed_sparkplug", "malformed_value", "many_bad_elements", "no_metrics", "no_route", "not_born"),
    *("not_utf8", "number_out_of_range", "payload_too_large", "refused_by_database", "time_out_of_range"),
    *("too_deep", "too_many_readings", "too_many_values", "undecodable", "unknown_device"),
    *("unknown_alias", "unknown_presence", "wrong_root"),
)
"""Why readings become dead letters. Each is counted from 0: Prometheus sees no rise from nothing to 1."""

_STEPS: tuple[Step, ...] = ("event", "committed", "published")
_UNPROJECTED_LIMIT = 10_000
_UNPUBLISHED_LIMIT = 10_000
_SAMPLE = 50  # readings of a batch whose lateness is looked at
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LATE_SECONDS = (
    -60.0,
    -1.0,
    0.0,
    0.1,
    0.5,
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    3600.0,
    21_600.0,
    86_400.0,
    604_800.0,
)


class Ledger:
    """Counts for one process, since its start.

    Args:
        registry: where the metrics go.
        now: the time of day.
        monotonic: seconds for measuring, finer than an event loop's.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self.taken = 0
        self.committed = 0
        self.duplicate = 0
        self.dead_lettered = 0
        self.projected = 0
        self.unkeyed = 0
        self.in_flight: Callable[[], int] = lambda: 0
        self.spooled: Callable[[], int] = lambda: 0
        self.dropped: Callable[[], int] = lambda: 0
        self._told = 0
        self.waiting: Callable[[], int] = lambda: 0
        self._last_s: dict[Step, float] = dict.fromkeys(_STEPS, 0.0)
        self._uncommitted: deque[tuple[int, float]] = deque()
        self._unpublished: deque[tuple[datetime, float]] = deque(maxlen=_UNPUBLISHED_LIMIT)
        self._unprojected: deque[tuple[int, int]] = deque()

        self._received = Counter("gateway_received", "Readings taken from the broker.", registry=registry)
        self._committed = Counter("gateway_committed", "Readings stored.", registry=registry)
        self._duplicate = Counter("gateway_duplicate", "Readings that were stored before.", registry=registry)
        self._dead_lettered = Counter(
            "gateway_dead_lettered", "Readings kept as dead letters.", ["reason"], registry=registry
        )
        for reason in REASONS:
            self._dead_lettered.labels(reason)
        self._unkeyed = Counter(
            "gateway_unkeyed", "Stored readings whose device named no key.", registry=registry
        )
        self._projected = Counter(
            "gateway_projected",
            "Readings stored by this process that every projection has applied.",
            registry=registry,
        )
        self._evicted = Counter(
            "gateway_dead_letters_evicted",
            "Dead letters removed because there were too many.",
            registry=registry,
        )
        lag = Gauge(
            "gateway_lag_seconds", "How long messages take to reach a step.", ["step"], registry=registry
        )
        for step in _STEPS:
            lag.labels(step).set_function(partial(self._lag_of, step))
        self._event_seconds = Histogram(
            "gateway_event_lag_seconds",
            "From device time to receipt, the median of a batch; negative when device clocks are ahead.",
            registry=registry,
            buckets=_LATE_SECONDS,
        )
        self._publish_seconds = Histogram(
            "gateway_publish_seconds",
            "From an outbox row's COMMIT to its acknowledgement by the broker.",
            registry=registry,
            buckets=_SECONDS,
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
        Gauge(
            "gateway_spooled", "Messages received by this process that are in the spool.", registry=registry
        ).set_function(lambda: self.spooled())  # noqa: PLW0108  # the same
        Gauge(
            "gateway_batches_waiting",
            "Batches received and not acknowledged; intake stops when the open one is full and all others are"
            " being stored.",
            registry=registry,
        ).set_function(lambda: self.waiting())  # noqa: PLW0108  # the same

    def receive(self, readings: int) -> None:
        """Count what a chunk held."""
        self.taken += readings
        self.count_spooled()
        self._uncommitted.append((self.taken, self._monotonic()))

    @property
    def received(self) -> int:
        """What was taken from the broker, read or still in the spool."""
        return self.taken + self.spooled() + self.dropped()

    def count_spooled(self) -> None:
        """Count what went into the spool; the metric only grows, and passes over what came to nothing."""
        if (received := self.received) > self._told:
            self._received.inc(received - self._told)
            self._told = received

    def take_back(self, readings: int) -> None:
        """Readings in flight are left to the spool, from which they will be read again."""
        self.taken -= readings

    def time_events(self, readings: Sequence[Reading]) -> None:
        """Note how late the readings of a batch were when they came, by the median of some of them.

        Those that state no time say nothing.
        """
        some = readings[:: 1 + len(readings) // _SAMPLE]
        stated = sorted(r.event.ts for r in some if r.event.ts != r.event.received_at)
        if stated:
            median, received = stated[len(stated) // 2], readings[-1].event.received_at
            late = datetime.fromisoformat(received) - datetime.fromisoformat(median)
            self._last_s["event"] = late.total_seconds()
            self._event_seconds.observe(self._last_s["event"])

    def settle(self, outcome: Outcome, waited_s: float) -> None:
        """Count what became of a batch, `waited_s` after its first message came."""
        self.committed += outcome.committed
        self.duplicate += outcome.duplicates
        self.dead_lettered += len(outcome.dead_letters)
        self._committed.inc(outcome.committed)
        self._duplicate.inc(outcome.duplicates)
        self.unkeyed += outcome.unkeyed
        self._unkeyed.inc(outcome.unkeyed)
        for letter in outcome.dead_letters:
            self._dead_lettered.labels(letter.rejection.reason).inc()
        self._batch_readings.observe(outcome.committed + outcome.duplicates + len(outcome.dead_letters))
        self._commit_seconds.observe(waited_s)
        self._last_s["committed"] = waited_s
        settled = self.committed + self.duplicate + self.dead_lettered
        while self._uncommitted and self._uncommitted[0][0] <= settled:
            self._uncommitted.popleft()
        if outcome.appended is not None:
            self._unpublished.append((outcome.appended.created_at, self._monotonic()))
            self._unprojected.append((outcome.appended.n, outcome.appended.events))
            if len(self._unprojected) > _UNPROJECTED_LIMIT:
                self._unprojected = _coarsen(self._unprojected)

    def publish(self, created_at: datetime) -> None:
        """Note that the rows up to one have reached the internal topic."""
        committed_at = None
        while self._unpublished and self._unpublished[0][0] <= created_at:
            committed_at = self._unpublished.popleft()[1]
        if committed_at is None:  # stored before this process, or longer ago than is remembered
            took_s = (self._now() - created_at).total_seconds()
        else:
            took_s = self._monotonic() - committed_at
        self._last_s["published"] = took_s
        self._publish_seconds.observe(took_s)

    def evict(self, letters: int) -> None:
        """Count dead letters that were removed because there were too many."""
        self._evicted.inc(letters)

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
            "spooled": self.spooled(),
            "projected": self.projected,
        }

    def lag_s(self) -> dict[Step, float]:
        """Seconds that messages take to reach each step; see the module's docstring."""
        now = self._monotonic()
        waiting: dict[Step, float] = {}
        if self._uncommitted:
            waiting["committed"] = now - self._uncommitted[0][1]
        if self._unpublished:
            waiting["published"] = now - self._unpublished[0][1]
        return {step: max(last, waiting.get(step, last)) for step, last in self._last_s.items()}

    def _lag_of(self, step: Step) -> float:
        return self.lag_s()[step]


def _coarsen(rows: deque[tuple[int, int]]) -> deque[tuple[int, int]]:
    """Merge neighbours, the later standing for both, so that a projector away for days costs no memory."""
    items = list(rows)
    pairs = zip(items[::2], items[1::2], strict=False)
    merged = deque((max(a[0], b[0]), a[1] + b[1]) for a, b in pairs)
    if len(items) % 2:
        merged.append(items[-1])
    return merged
