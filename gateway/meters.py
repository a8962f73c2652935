"""Metrics that are read off the parts when somebody asks; the ledger counts message by message.

Names follow the Prometheus conventions: what only grows is a counter and ends in `_total`, whoever counts it.
A counter that starts again, as the broker's does with the broker, is what Prometheus expects of counters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.broker_watch import BrokerWatch
    from gateway.pipeline import Pipeline
    from gateway.relay import Relay
    from gateway.upkeep import Upkeep
    from runtime.mqtt import Session


class Meters(Collector):
    """What session, relay, upkeep and broker say of themselves."""

    def __init__(
        self, intake: Session, relay: Relay, upkeep: Upkeep, watch: BrokerWatch, pipeline: Pipeline
    ) -> None:
        self._intake = intake
        self._relay = relay
        self._upkeep = upkeep
        self._watch = watch
        self._decoder = pipeline.decoder
        self._keys = pipeline.keys

    def collect(self) -> Iterator[Metric]:
        """Read them all; what is not known yet is left out."""
        status = self._intake.status
        yield GaugeMetricFamily(
            "gateway_connected", "Whether the broker is connected.", float(status.connected)
        )
        yield CounterMetricFamily(
            "gateway_connections", "Connections made to the broker.", status.connections
        )
        yield CounterMetricFamily(
            "gateway_sessions_lost", "Reconnects at which the broker had forgotten us.", status.sessions_lost
        )
        yield CounterMetricFamily(
            "gateway_dropped_qos0", "QoS 0 messages dropped for want of room.", status.dropped_qos0
        )
        yield CounterMetricFamily(
            "gateway_ignored_messages", "Messages that a route with ignore leaves out.", self._decoder.ignored
        )
        yield CounterMetricFamily(
            "gateway_empty_messages",
            "Messages without a payload, by which a retained one is cleared.",
            self._decoder.empty,
        )
        dropped = CounterMetricFamily(
            "gateway_dropped_fields",
            "Fields that were left out of messages that were stored.",
            labels=["route", "field", "reason"],
        )
        for labels, count in list(self._decoder.drops.counts.items()):
            dropped.add_metric(labels, count)
        yield dropped
        yield CounterMetricFamily(
            "gateway_devices_with_one_key",
            "Devices noticed because their message key never changes while their content does.",
            self._keys.devices,
        )
        yield GaugeMetricFamily(
            "gateway_unpublished_rows", "Outbox rows committed and not published.", self._relay.behind
        )
        if self._upkeep.outbox_bytes is not None:
            yield GaugeMetricFamily(
                "gateway_outbox_bytes", "Room the outbox takes on disk.", self._upkeep.outbox_bytes
            )
        if self._upkeep.database_bytes is not None:
            yield GaugeMetricFamily(
                "gateway_database_bytes", "Room the database takes on disk.", self._upkeep.database_bytes
            )
        if self._upkeep.retention_s is not None:
            yield GaugeMetricFamily(
                "gateway_retention_seconds",
                "How long measurements are kept; 0 is for ever.",
                self._upkeep.retention_s,
            )
        if self._upkeep.abandoned is not None:
            yield GaugeMetricFamily(
                "gateway_abandoned_sessions",
                "Client ids that once subscribed and that no gateway has any more.",
                self._upkeep.abandoned,
            )
        if self._upkeep.dedup_window_s is not None:
            yield GaugeMetricFamily(
                "gateway_dedup_window_seconds", "The dedup window in force.", self._upkeep.dedup_window_s
            )
            yield GaugeMetricFamily(
                "gateway_dedup_window_age_seconds",
                "For how long message keys have been kept in the current generation.",
                self._upkeep.dedup_age_s,
            )
        yield from self._chores()
        yield CounterMetricFamily(
            "gateway_copies", "Copies passed over that overlapping filters brought.", status.copies
        )
        yield GaugeMetricFamily(
            "gateway_broker_drops_known",
            "Whether the broker lets us hear how many messages it drops. Without, that count is absent.",
            float(self._watch.listens),
        )
        if self._watch.dropped is not None:
            yield CounterMetricFamily(
                "gateway_broker_dropped_messages",
                "Messages that the broker says it has dropped since its start.",
                self._watch.dropped,
            )

    def _chores(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "gateway_chore_failures", "Turns of a chore that failed.", labels=["chore"]
        )
        failing = GaugeMetricFamily(
            "gateway_chore_failing_seconds", "For how long a chore has not been done.", labels=["chore"]
        )
        now = time.monotonic()
        for name, record in self._upkeep.chores.records.items():
            failures.add_metric([name], record.failures)
            failing.add_metric([name], record.failing_s(now))
        yield failures
        yield failing
