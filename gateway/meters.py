"""Metrics that are read off the parts when somebody asks; the ledger counts message by message.

Names follow the Prometheus conventions: what only grows is a counter and ends in `_total`, whoever counts it.
A counter that starts again, as the broker's does with the broker, is what Prometheus expects of counters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.broker_watch import BrokerWatch
    from gateway.relay import Relay
    from gateway.upkeep import Upkeep
    from runtime.mqtt import Session


class Meters(Collector):
    """What session, relay, upkeep and broker say of themselves."""

    def __init__(self, intake: Session, relay: Relay, upkeep: Upkeep, watch: BrokerWatch) -> None:
        self._intake = intake
        self._relay = relay
        self._upkeep = upkeep
        self._watch = watch

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
        yield GaugeMetricFamily(
            "gateway_unpublished_rows", "Outbox rows committed and not published.", self._relay.behind
        )
        if self._upkeep.outbox_bytes is not None:
            yield GaugeMetricFamily(
                "gateway_outbox_bytes", "Room the outbox takes on disk.", self._upkeep.outbox_bytes
            )
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
