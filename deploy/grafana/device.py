"""One device: its state now, its series from the rollups, and its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from deploy.grafana.panels import base, moment, rollup_series, series, stat, table, words
from deploy.grafana.sources import POSTGRES, queries, sql, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def dashboard() -> Dashboard:
    """The dashboard that the others' tables of devices lead to."""
    made = base("edge-device", "Edge: device", "Everything about one device.", since="now-6h")
    made.with_variable(
        variable("device", "Device", POSTGRES, queries.devices).allow_custom_value(allow_custom_value=True)
    )
    made.with_variable(variable("metric", "Metric", POSTGRES, queries.device_metrics))
    made.with_variable(variable("tag", "Tag", POSTGRES, queries.device_tags))
    made.with_variable(variable("value", "is", POSTGRES, queries.device_tag_values))

    made.with_row(Row("Now"))
    seen = stat(
        "Last seen",
        sql(queries.device_seen),
        unit=units.DateTimeFromNow,
        text="By the device's clock, at most five minutes after arrival; and when something came.",
    )
    for name, title in (("last_seen", "Newest reading"), ("arrived", "Something came")):
        seen.override_by_name(name, [DynamicConfigValue("displayName", title)])
    made.with_panel(seen.span(8))
    region = stat(
        "Region", sql(queries.device_region), unit=units.String, text="Named by its newest message."
    )
    made.with_panel(region.reduce_options(words("region")))
    now = stat(
        "$metric now",
        sql(queries.device_now),
        unit=units.NoUnit,
        text="The newest value, whatever the range, and what the range amounts to.",
    ).decimals(2)
    for name, title in (
        ("last", "Last"),
        ("average", "Average"),
        ("lowest", "Lowest"),
        ("highest", "Highest"),
        ("values", "Values"),
    ):
        now.override_by_name(name, [DynamicConfigValue("displayName", title)])
    made.with_panel(now.span(12))

    made.with_row(Row("Over time"))
    made.with_panel(
        rollup_series(
            "$metric",
            sql(queries.device_band, "time_series"),
            unit=units.NoUnit,
            text="Lowest, average and highest value: by the minute up to two days, by the hour beyond.",
        ).span(24)
    )
    made.with_panel(
        series(
            "$metric as sent",
            sql(queries.device_values, "time_series"),
            unit=units.NoUnit,
            text="The newest thousand values of the range, of messages with the chosen tag.",
        )
    )
    delay = series(
        "Under way",
        sql(queries.device_delay, "time_series"),
        unit=units.Seconds,
        text="From the device's time to receipt. Below zero its clock is ahead; steps are backlogs.",
    )
    made.with_panel(delay)

    made.with_row(Row("Messages"))
    messages = table(
        "Messages", sql(queries.device_messages), text="The newest hundred of the range with the chosen tag."
    )
    moment(messages, "ts", "Device time")
    moment(messages, "received_at", "Received")
    made.with_panel(messages.span(24))
    rejected = table(
        "Rejected", sql(queries.device_dead_letters), text="Of this device, among the newest thousand."
    )
    moment(rejected, "received_at", "Received")
    made.with_panel(rejected.span(24))
    statistics = table(
        "Statistics",
        sql(queries.device_statistics),
        text="Every metric: its last value among the newest thousand messages, and the hours of the range.",
    )
    moment(statistics, "ts", "At")
    made.with_panel(statistics.decimals(2).span(24))
    return made
