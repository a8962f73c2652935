"""Regions: each one's state now from Redis, their series from the rollups, and their hottest devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from deploy.grafana.panels import base, column, rollup_series, stat, table, to_dashboard
from deploy.grafana.sources import POSTGRES, hash_of, queries, sql, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def dashboard() -> Dashboard:
    """The dashboard that the fleet's table of regions leads to."""
    made = base("edge-regions", "Edge: regions", "Regions side by side.", since="now-24h")
    made.with_variable(variable("metric", "Metric", POSTGRES, queries.metrics))
    made.with_variable(
        variable("region", "Region", POSTGRES, queries.regions)
        .multi(multi=True)
        .include_all(include_all=True)
    )

    made.with_row(Row("Now"))
    now = (
        stat(
            "$region",
            hash_of("region:stats:$region"),
            unit=units.NoUnit,
            text="Since the region was first seen.",
        )
        .reduce_options(
            ReduceDataOptions()
            .calcs(["lastNotNull"])
            .fields("/^(device_count|sample_count|last_seen_ms)$/")
            .values(values=False)
        )
        .repeat("region")
        .repeat_direction("h")
        .max_per_row(4)
        .span(24)
    )
    now.override_by_name("device_count", [DynamicConfigValue("displayName", "Devices")])
    now.override_by_name("sample_count", [DynamicConfigValue("displayName", "Messages")])
    now.override_by_name(
        "last_seen_ms",
        [DynamicConfigValue("displayName", "Last seen"), DynamicConfigValue("unit", units.DateTimeFromNow)],
    )
    made.with_panel(now)

    made.with_row(Row("Over time"))
    made.with_panel(
        rollup_series(
            "$metric by region",
            sql(queries.region_averages, "time_series"),
            unit=units.NoUnit,
            text="Averages of all values of a region.",
        )
    )
    made.with_panel(
        rollup_series(
            "$metric in all of them",
            sql(queries.region_band, "time_series"),
            unit=units.NoUnit,
            text="Lowest, average and highest value in the chosen regions together.",
        )
    )

    made.with_row(Row("Devices"))
    hot = table(
        "Hot devices: $metric",
        sql(queries.hot_devices),
        text="The last five minutes of the range. Click one for its details.",
    )
    column(hot, "device_id", "Device", link=to_dashboard("edge-device", "device", carry="var-metric=$metric"))
    made.with_panel(hot.decimals(2).span(24))
    return made
