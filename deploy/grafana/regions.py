"""Regions: each one's state now, their series from the rollups, and their hottest devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units

from deploy.grafana.panels import base, column, rollup_series, table, to_dashboard
from deploy.grafana.sources import POSTGRES, queries, sql, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def dashboard() -> Dashboard:
    """The dashboard that the fleet's table of regions leads to."""
    made = base("edge-regions", "Edge: regions", "Regions side by side.", since="now-24h")
    made.with_variable(variable("metric", "Metric", POSTGRES, queries.metrics))
    made.with_variable(
        variable("region", "Region", POSTGRES, queries.regions_and_none)
        .multi(multi=True)
        .include_all(include_all=True)
    )

    made.with_row(Row("Now"))
    now = table(
        "Regions: $metric",
        sql(queries.regions_now),
        text="Nothing in the range: devices whose newest reading, by their clocks, is older."
        " Values: of the last quarter of an hour.",
    )
    for name, title in (("region", "Region"), ("devices", "Devices"), ("silent", "Nothing in the range")):
        column(now, name, title)
    column(now, "last_seen", "Last seen", unit=units.DateTimeFromNow)
    made.with_panel(now.decimals(2).span(24))

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
