"""The spool, as metrics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.spool.entrance import Entrance


class SpoolMeters(Collector):
    """What the spool says of itself."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    def collect(self) -> Iterator[Metric]:
        """Read them all; a drain estimate only where there is one."""
        entrance = self._entrance
        shelf = entrance.shelf
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        yield gauge(
            "gateway_spooling", "Whether messages go through the spool now.", float(entrance.spooling)
        )
        yield gauge("gateway_spool_full", "Whether the spool takes no more.", float(bool(entrance.why_full)))
        yield gauge("gateway_spool_messages", "Messages in the spool.", shelf.extent.messages)
        yield gauge("gateway_spool_bytes", "What they take on disk.", shelf.size_bytes)
        yield gauge("gateway_spool_max_bytes", "What they may take.", shelf.max_bytes)
        oldest = shelf.extent.oldest
        age_s = (datetime.now(UTC) - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
        yield gauge("gateway_spool_oldest_seconds", "For how long the first has been there.", age_s)
        if (drains_in_s := entrance.rates.drains_in_s(shelf.extent.messages)) is not None:
            yield gauge("gateway_spool_drains_in_seconds", "Until it is empty, about.", drains_in_s)
        yield counter("gateway_spool_kept", "Messages put into the spool.", entrance.kept)
        yield counter("gateway_spool_drained", "Messages of the spool that were stored.", entrance.drained)
        yield counter("gateway_spool_dropped", "Messages dropped for want of room.", entrance.dropped)
        yield counter("gateway_spool_lost", "Messages in what could not be read any more.", shelf.lost)
