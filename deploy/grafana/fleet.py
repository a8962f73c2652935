"""Fleet overview: who is silent, which regions are hot, how far behind the view is, and what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units

from deploy.grafana.panels import (
    ORANGE,
    RED,
    base,
    column,
    moment,
    rollup_series,
    series,
    side_by_side,
    stat,
    table,
    to_dashboard,
)
from deploy.grafana.sources import POSTGRES, promql, queries, sql, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def dashboard() -> Dashboard:
    """The dashboard to arrive at."""
    made = base("edge-fleet", "Edge: fleet overview", "All devices at a glance.", since="now-6h")
    made.with_variable(variable("metric", "Metric", POSTGRES, queries.metrics))
    made.with_variable(variable("tag", "Tag", POSTGRES, queries.tags))
    made.with_variable(variable("value", "is", POSTGRES, queries.tag_values))
    made.with_row(Row("Now"))
    for panel in (
        stat(
            "Devices",
            sql(queries.devices_known),
            unit=units.NoUnit,
            text="Devices that were ever seen.",
        ),
        stat(
            "Silent",
            promql('sum(max by (region) (projector_devices{state="silent"}))', instant=True),
            unit=units.NoUnit,
            text="Devices that have paused for longer than is usual for each, by when their messages came.",
            thresholds=((1, ORANGE),),
        ),
        stat(
            "Messages a second",
            promql("sum(instance:gateway_committed:rate5m)", instant=True),
            unit=units.NoUnit,
            text="Stored in the last five minutes.",
        ).decimals(1),
        stat(
            "Rejected",
            promql("sum(increase(gateway_dead_lettered_total[$__range]))", instant=True),
            unit=units.NoUnit,
            text="Dead letters in the range shown.",
            thresholds=((1, ORANGE),),
        ).decimals(0),
        stat(
            "View behind",
            promql("max(projector_behind_seconds)", instant=True),
            unit=units.Seconds,
            text="For how long Redis has lacked the oldest row that it lacks.",
            thresholds=((5, ORANGE), (60, RED)),
        ),
        stat(
            "Gateways without a broker",
            promql('count(up{job="gateway"}) - (sum(gateway_connected) or vector(0))', instant=True),
            unit=units.NoUnit,
            text="Gateways that are down, or have no connection to their broker.",
            thresholds=((1, RED),),
        ),
    ):
        made.with_panel(panel)

    oldest = table(
        "Oldest readings",
        sql(queries.oldest_readings),
        text="Devices by their newest readings, by their clocks: one that is wrong stands here too, though it"
        " may send. Click one for its details.",
    )
    column(oldest, "device_id", "Device", link=to_dashboard("edge-device", "device"))
    column(oldest, "name", "Name")
    column(oldest, "region", "Region")
    column(oldest, "last_seen", "Last seen", unit=units.DateTimeFromNow)
    made.with_panel(oldest.span(8))
    quiet = table(
        "Silent now, by region",
        promql('sort_desc(max by (region) (projector_devices{state="silent"}))', instant=True, rows=True),
        text="Devices that have paused for longer than is usual for each, by when their messages came; of the"
        " first hundred regions, the others together, and without those that are muted or retired. Offline"
        " are those that said so themselves, as by a will; none of them is silent. Click a region for its"
        " details.",
    )
    everybody = 'sum by (region) (max by (region, state) (projector_devices{state!="retired"}))'
    quiet.with_target(promql(everybody, ref="B", instant=True, rows=True))
    offline = 'max by (region) (projector_devices{state="offline"})'
    quiet.with_target(promql(offline, ref="C", instant=True, rows=True))
    side_by_side(quiet, A="Silent", B="Devices", C="Offline")
    column(quiet, "region", "Region", link=to_dashboard("edge-regions", "region", carry="var-metric=$metric"))
    made.with_panel(quiet.span(8))

    hot = table(
        "Hot regions: $metric",
        sql(queries.hot_regions),
        text="The last quarter of an hour of the range. Click one for its details.",
    )
    column(hot, "region", "Region", link=to_dashboard("edge-regions", "region", carry="var-metric=$metric"))
    made.with_panel(hot.decimals(2).span(8))

    made.with_panel(
        stat(
            "Clocks wrong",
            promql("sum(max by (region) (projector_devices_clock_wrong))", instant=True),
            unit=units.NoUnit,
            text="Devices all of whose messages of late say that their clock is ahead or behind by more than"
            " `projector.clock_tolerance`; `projector devices list --state clock-wrong` names them.",
            thresholds=((1, ORANGE),),
        ).height(9)
    )
    ahead = table(
        "Furthest ahead",
        sql(queries.clocks_ahead),
        text="Of the thousand devices with the newest times, those whose newest reading is from more than"
        " five minutes after it came, be it the only one. docs/operating.md says what comes of them.",
    )
    column(ahead, "device_id", "Device", link=to_dashboard("edge-device", "device"))
    column(ahead, "name", "Name")
    column(ahead, "ahead", "Ahead by", unit=units.Seconds)
    made.with_panel(ahead.span(8))
    rejected = table(
        "Rejected lately",
        sql(queries.dead_letters),
        text="The newest dead letters; `gateway dead-letters show` has their bytes.",
    )
    moment(rejected, "received_at", "Received")
    column(rejected, "device_id", "Device", link=to_dashboard("edge-device", "device"))
    made.with_panel(rejected.span(12))

    tagged = table(
        "Devices with $tag = $value",
        sql(queries.tagged_devices),
        text="Of the thousand devices heard last, by their newest messages. Click one for its details.",
    )
    column(tagged, "device_id", "Device", link=to_dashboard("edge-device", "device"))
    column(tagged, "name", "Name")
    moment(tagged, "ts", "Device time")
    column(tagged, "last", "$metric")
    made.with_panel(tagged.span(24))

    made.with_row(Row("Over time"))
    made.with_panel(
        rollup_series(
            "$metric by region",
            sql(queries.fleet_average, "time_series"),
            unit=units.NoUnit,
            text="Averages of all values of a region.",
        )
    )
    made.with_panel(
        rollup_series(
            "Values a second by region",
            sql(queries.fleet_rate, "time_series"),
            unit=units.NoUnit,
            text="Values of the metric that came in. The newest minute or hour is still filling.",
        )
    )
    made.with_panel(
        rollup_series(
            "$metric where $tag = $value",
            sql(queries.tagged_averages, "time_series"),
            unit=units.NoUnit,
            text="Averages of the first twenty devices of the table above.",
        )
    )
    made.with_panel(
        series(
            "Silent by region",
            promql('max by (region) (projector_devices{state="silent"})', "{{region}}"),
            unit=units.NoUnit,
            text="Devices that have paused for longer than is usual for each, by when their messages came.",
        )
    )
    return made
