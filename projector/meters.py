"""What the projector measures. Names and units follow the Prometheus conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from projector.fold import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from prometheus_client import CollectorRegistry

    from contract.events import EventBatch

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Meters:
    """The projector's metrics, and each stream's share of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"projector_{name}", text, ["stream"], registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"projector_{name}", text, ["stream"], registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
            return Histogram(f"projector_{name}", text, ["stream"], registry=registry, buckets=buckets)

        self.events = counter("events_applied", "Events that changed the views.")
        self.rows = counter("rows_applied", "Outbox rows that changed the views.")
        self.caught_up = counter("rows_caught_up", "Outbox rows read from PostgreSQL instead of the topic.")
        self.duplicates = counter("rows_duplicate", "Outbox rows that the views had already.")
        self.gaps = counter("gaps", "Runs that did not follow the cursor in Redis.")
        self.overflows = counter("backlog_overflows", "Times the backlog was full and was thrown away.")
        self.cursor = gauge("cursor", "Last outbox row in the views.")
        self.head = gauge("head", "Last outbox row committed.")
        self.lag_rows = gauge("lag_rows", "Committed rows that the views do not have.")
        self.lag_seconds = gauge(
            "lag_seconds", "Age of the last applied row while there are newer ones, else 0."
        )
        self.apply_seconds = histogram("apply_seconds", "Duration of one call of the script.")
        self.delay_seconds = histogram("row_delay_seconds", "From a row's writing to its being in the views.")
        self.event_delay_seconds = gauge(
            "event_delay_seconds",
            "Age by device time of the newest event of the last run, when it was applied.",
        )
        self.undecodable = Counter(
            "projector_messages_undecodable",
            "Messages on the topic that are no event batch.",
            registry=registry,
        )
        self.unknown = Counter(
            "projector_messages_unknown_stream",
            "Messages of streams that neither Redis nor PostgreSQL has told of.",
            registry=registry,
        )
        self._streams: dict[int, StreamMeters] = {}

    def of(self, stream: int) -> StreamMeters:
        """One stream's metrics."""
        if stream not in self._streams:
            self._streams[stream] = StreamMeters(self, str(stream))
        return self._streams[stream]

    @property
    def streams(self) -> dict[int, StreamMeters]:
        """Every stream's metrics, by stream."""
        return dict(self._streams)


class StreamMeters:
    """One stream's share of the metrics.

    Attributes:
        events_total: events applied since the start.
        rows_total: rows applied since the start.
        behind_rows: committed rows that the views did not have when last looked.
        behind_s: for how long, in seconds.
    """

    def __init__(self, meters: Meters, stream: str) -> None:
        self.caught_up = meters.caught_up.labels(stream)
        self.duplicates = meters.duplicates.labels(stream)
        self.gaps = meters.gaps.labels(stream)
        self.overflows = meters.overflows.labels(stream)
        self.apply_seconds = meters.apply_seconds.labels(stream)
        self.events_total = 0
        self.rows_total = 0
        self.behind_rows = 0
        self.behind_s = 0.0
        self._events = meters.events.labels(stream)
        self._rows = meters.rows.labels(stream)
        self._cursor = meters.cursor.labels(stream)
        self._head = meters.head.labels(stream)
        self._lag_rows = meters.lag_rows.labels(stream)
        self._lag_seconds = meters.lag_seconds.labels(stream)
        self._delay_seconds = meters.delay_seconds.labels(stream)
        self._event_delay_seconds = meters.event_delay_seconds.labels(stream)
        self._last_created_us: int | None = None

    def applied(self, rows: Sequence[EventBatch], now: datetime) -> None:
        """Count a run that changed the views."""
        events = sum(len(row.events) for row in rows)
        self.events_total += events
        self.rows_total += len(rows)
        self._events.inc(events)
        self._rows.inc(len(rows))
        self._cursor.set(rows[-1].n)
        now_us = int(now.timestamp() * 1_000_000)
        for row in rows:
            self._last_created_us = microseconds(row.created_at)
            self._delay_seconds.observe(max(0, now_us - self._last_created_us) / 1_000_000)
        newest = max((event.ts for row in rows for event in row.events), default=None)
        if newest is not None:
            self._event_delay_seconds.set((now_us - microseconds(newest)) / 1_000_000)

    def position(self, cursor: int, head: int, now: datetime) -> None:
        """Note how far the views are behind."""
        self.behind_rows = max(0, head - cursor)
        since = self._last_created_us
        waited = now.timestamp() - since / 1_000_000 if self.behind_rows and since is not None else 0.0
        self.behind_s = max(0.0, waited)
        self._cursor.set(cursor)
        self._head.set(head)
        self._lag_rows.set(self.behind_rows)
        self._lag_seconds.set(self.behind_s)
