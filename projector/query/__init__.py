"""Questions to the views: Redis in, structs out."""

from projector.query.devices import Place, Selection
from projector.query.queries import CHOSEN, LOOK, Queries
from projector.query.stats import DeviceStats, MetricStats, RegionStats

__all__ = ["CHOSEN", "LOOK", "DeviceStats", "MetricStats", "Place", "Queries", "RegionStats", "Selection"]
