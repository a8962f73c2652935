"""What the projector measures. Names and units follow the Prometheus conventions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from contract.events import format_time
from contract.order import microseconds
from projector.lag import Freshness, HistoryLag, Lag, StreamLag, times_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from contract.events import EventBatch
    from projector.lag import Times

_NOTED_US = 1_000_000
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
        self.metrics_dropped = Counter(
            "projector_metrics_dropped",
            "Metrics that made room for others in views that had projector.max_metrics.",
            registry=registry,
        )
        self.regions = Gauge(
            "projector_regions", "Regions in the views, those without devices among them.", registry=registry
        )
        self.regions_dropped = Counter(
            "projector_regions_dropped",
            "Regions without devices that made room for others beyond projector.max_regions.",
            registry=registry,
        )
        self.gaps = counter("gaps", "Runs that did not follow the cursor in Redis.")
        self.overflows = counter("backlog_overflows", "Rows of the topic for which the backlog had no room.")
        self.cursor = gauge("cursor", "Last outbox row in the views.")
        self.head = gauge("head", "Last outbox row committed.")
        self.lag_rows = gauge("lag_rows", "Committed rows that the views do not have.")
        self.behind_seconds = gauge(
            "behind_seconds", "For how long the views have lacked the oldest row that they lack, else 0."
        )
        self.lag_seconds = Gauge(
            "projector_lag_seconds",
            "How long the newest event of the last row took to a step, from the step before.",
            ["stream", "step"],
            registry=registry,
        )
        self.rebuilds = Counter(
            "projector_rebuilds", "Times this process made the views anew from PostgreSQL.", registry=registry
        )
        self.expired = Counter(
            "projector_devices_expired",
            "Devices that left the views, silent for too long.",
            registry=registry,
        )
        self.viewers = Gauge("projector_live_viewers", "Who looks at the live page now.", registry=registry)
        self.viewers_refused = Counter(
            "projector_live_viewers_refused",
            "Who wanted to look at the live page when all places were taken.",
            registry=registry,
        )
        self.apply_seconds = histogram("apply_seconds", "Duration of bringing one run into the views.")
        self.delay_seconds = histogram("row_delay_seconds", "From a row's writing to its being in the views.")
        self.history_cursor = gauge("history_cursor", "Last outbox row in history.")
        self.history_lag_rows = gauge("history_lag_rows", "Committed rows that history does not have.")
        self.history_behind_seconds = gauge(
            "history_behind_seconds", "For how long history has lacked the oldest row that it lacks, else 0."
        )
        self.history_held = gauge(
            "history_held", "Statistics (device, metric and minute) in memory that history does not have."
        )
        self.history_write_seconds = histogram("history_write_seconds", "Duration of writing to history.")
        self.packing_behind_seconds = Gauge(
            "projector_packing_behind_seconds",
            "For how long the oldest hour of minutes that is to be packed has waited, else 0.",
            registry=registry,
        )
        self.not_believed = Counter(
            "projector_messages_not_believed",
            "Messages on the topic of a stream that were not taken for its rows, by why.",
            ["reason"],
            registry=registry,
        )
        self.unknown = Counter(
            "projector_messages_unknown_stream",
            "Messages of streams that neither Redis nor PostgreSQL has told of.",
            registry=registry,
        )
        self._streams: dict[int, StreamMeters] = {}
        self._asked_at: datetime | None = None
        self._looks = 0
        self._freshness = self._look()

    def of(self, stream: int) -> StreamMeters:
        """One stream's metrics."""
        if stream not in self._streams:
            self._streams[stream] = StreamMeters(self, stream)
            self._freshness = self._look()
        return self._streams[stream]

    @property
    def streams(self) -> dict[int, StreamMeters]:
        """Every stream's metrics, by stream."""
        return dict(self._streams)

    def lag(self) -> Lag:
        """Where every stream stands, when last looked; those of which that is not known are left out."""
        known = [meters.lag() for _, meters in sorted(self._streams.items()) if meters.is_known]
        return Lag(known, self.freshness())

    def asked(self) -> None:
        """PostgreSQL has told which streams there are: perhaps none."""
        self._asked_at = datetime.now(UTC)

    def freshness(self) -> Freshness:
        """How current the views are, by the stream that is worst off."""
        if not self._streams and self._asked_at is not None:
            return Freshness(format_time(self._asked_at), 0, 0.0)
        looks = sum(meters.looks for meters in self._streams.values())
        if looks != self._looks:
            self._looks, self._freshness = looks, self._look()
        return self._freshness

    def history_freshness(self) -> Freshness:
        """How current history is, by the stream that is worst off."""
        looks = [meters.history_look for meters in self._streams.values()]
        known = [look for look in looks if look is not None]
        return Freshness(
            as_of=format_time(min(at for _, at in known)) if known and len(known) == len(looks) else None,
            behind_rows=sum(lag.behind_rows for lag, _ in known),
            behind_seconds=max((lag.behind_seconds for lag, _ in known), default=0.0),
        )

    def _look(self) -> Freshness:
        looked = [meters.looked_at for meters in self._streams.values()]
        known = [moment for moment in looked if moment is not None]
        return Freshness(
            as_of=format_time(min(known)) if known and len(known) == len(looked) else None,
            behind_rows=sum(meters.behind_rows for meters in self._streams.values()),
            behind_seconds=max((meters.behind_s for meters in self._streams.values()), default=0.0),
        )


class StreamMeters:
    """One stream's share of the metrics. A gauge is there from when its value is known.

    Attributes:
        events_total: events applied since the start.
        rows_total: rows applied since the start.
        behind_rows: committed rows that the views did not have when last looked.
        behind_s: for how long they had lacked the oldest of these, in seconds.
        looked_at: when that was; None before the first time.
        looks: how often.
        history_look: where history stood when last looked, and when that was; None before the first time.
    """

    def __init__(self, meters: Meters, stream: int) -> None:
        label = str(stream)
        self.caught_up = meters.caught_up.labels(label)
        self.duplicates = meters.duplicates.labels(label)
        self.gaps = meters.gaps.labels(label)
        self.overflows = meters.overflows.labels(label)
        self.apply_seconds = meters.apply_seconds.labels(label)
        self.events_total = 0
        self.rows_total = 0
        self.behind_rows = 0
        self.behind_s = 0.0
        self.looked_at: datetime | None = None
        self.looks = 0
        self._stream = stream
        self._events = meters.events.labels(label)
        self._rows = meters.rows.labels(label)
        self._delay_seconds = meters.delay_seconds.labels(label)
        self._label = label
        self._gauges = meters
        self._cursor = 0
        self._head = 0
        self._times: Times | None = None
        self._noted_us = 0
        self._last: tuple[EventBatch, datetime | None, datetime] | None = None
        self.history_write_seconds = meters.history_write_seconds.labels(label)
        self.history_look: tuple[HistoryLag, datetime] | None = None

    def applied(
        self,
        rows: Sequence[EventBatch],
        now: datetime,
        arrived_at: datetime | None,
        *,
        events: int | None = None,
    ) -> None:
        """Count a run that changed the views.

        Args:
            rows: all of it.
            events: how many it had, when not all rows have theirs any more.
            now: when it was in the views.
            arrived_at: when the last row came from the topic; None when it was read from PostgreSQL.
        """
        if events is None:
            events = sum(len(row.events) for row in rows)
        self.events_total += events
        self.rows_total += len(rows)
        self._events.inc(events)
        self._rows.inc(len(rows))
        self._cursor = rows[-1].n
        self._gauges.cursor.labels(self._label).set(self._cursor)
        now_us = _microseconds(now)
        for row in rows:
            self._delay_seconds.observe(max(0, now_us - microseconds(row.created_at)) / 1_000_000)
        self._last = rows[-1], arrived_at, now
        if now_us >= self._noted_us + _NOTED_US:
            self._noted_us = now_us
            self._note_times()

    def position(self, cursor: int, head: int, waiting_since: datetime | None, now: datetime) -> None:
        """Note how far the views are behind.

        Args:
            cursor: the last row in the views.
            head: the last row committed.
            waiting_since: when the oldest row that the views lack was written; None without one.
            now: when all of that was so.
        """
        self._cursor, self._head = cursor, head
        self.looked_at = now
        self.looks += 1
        self.behind_rows = max(0, head - cursor)
        self.behind_s = 0.0
        if self.behind_rows and waiting_since:
            self.behind_s = max(0.0, (now - waiting_since).total_seconds())
        gauges, label = self._gauges, self._label
        gauges.cursor.labels(label).set(cursor)
        gauges.head.labels(label).set(head)
        gauges.lag_rows.labels(label).set(self.behind_rows)
        gauges.behind_seconds.labels(label).set(self.behind_s)
        self._note_times()  # of a run after which none came

    def history(self, cursor: int, head: int, behind_s: float, now: datetime, *, held: int) -> None:
        """Note how far history is behind, and how many statistics of it are in memory."""
        self.history_look = HistoryLag(cursor, head - cursor, round(behind_s, 3)), now
        gauges, label = self._gauges, self._label
        gauges.history_held.labels(label).set(held)
        gauges.history_cursor.labels(label).set(cursor)
        gauges.history_lag_rows.labels(label).set(head - cursor)
        gauges.history_behind_seconds.labels(label).set(behind_s)

    @property
    def is_known(self) -> bool:
        """Whether anything has told where the views stand on it."""
        return self.looked_at is not None or self.rows_total > 0

    def lag(self) -> StreamLag:
        """Where the stream stood when last looked."""
        self._note_times()
        return StreamLag(
            stream=self._stream,
            head=max(self._head, self._cursor),
            cursor=self._cursor,
            behind_rows=max(0, self._head - self._cursor),
            behind_seconds=self.behind_s,
            lag_seconds=self._times.lags() if self._times else None,
            newest=self._times,
            history=self.history_look[0] if self.history_look else None,
            events=self.events_total,
        )

    def _note_times(self) -> None:
        """Work out what the last run's newest event took, at the cost of ten events: not after each run."""
        if self._last is None:
            return
        times, self._last = times_of(*self._last), None
        if times is not None:
            self._times = times
            for step, seconds in times.lags().items():
                if seconds is not None:
                    self._gauges.lag_seconds.labels(self._label, step).set(seconds)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
