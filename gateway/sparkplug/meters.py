"""Metrics of edge nodes, read off the host when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.sparkplug.host import Host

_COUNTS: Final = {
    "births": "Births of edge nodes.",
    "deaths": "Deaths of edge nodes.",
    "late_wills": "Deaths that were of an older session, and ended nothing.",
    "out_of_order": "Messages that came before or after their turn.",
    "gaps": "Sequences of which something was missing when the reorder timeout had passed.",
    "unknown_aliases": "Messages with a metric that no birth in force explained.",
    "not_born": "Messages with such a metric, of nodes and devices of which no birth is known.",
    "rebirths_asked": "Rebirths that edge nodes were asked for.",
    "forgotten": "Edge nodes that were forgotten, as there are more than are kept in mind.",
}


class SparkplugMeters(Collector):
    """What the host says of itself."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """Read them all."""
        host = self._host
        for name, about in _COUNTS.items():
            yield CounterMetricFamily(f"gateway_sparkplug_{name}", about, host.counts[name])
        yield GaugeMetricFamily(
            "gateway_sparkplug_held", "Messages that wait for others, or for a birth.", host.held
        )
        yield GaugeMetricFamily(
            "gateway_sparkplug_unanswered",
            "Edge nodes that were asked for a rebirth three times and more, and were not born.",
            host.unanswered,
        )
        yield GaugeMetricFamily(
            "gateway_sparkplug_nodes_online", "Edge nodes that are online, as far as is known.", host.online
        )
