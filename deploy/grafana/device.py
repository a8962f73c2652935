"""One device: its state now from Redis, its series from the rollups, its messages from PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from deploy.grafana.panels import as_rows, base, moment, rollup_series, series, stat, table
from deploy.grafana.sources import POSTGRES, field_of, hash_of, queries, sql, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

KEY: Final = "device:stats:$device"


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
    made.with_panel(
        stat(
            "Last seen",
            field_of(KEY, "last_seen_ms", "A"),
            unit=units.DateTimeFromNow,
            text="By the device's clock, at most five minutes after arrival.",
        )
    )
    made.with_panel(
        stat("Region", field_of(KEY, "region", "A"), unit=units.String, text="Named by its newest message.")
    )
    made.with_panel(
        stat(
            "Messages", field_of(KEY, "sample_count", "A"), unit=units.NoUnit, text="Since it was first seen."
        )
    )
    parts = [field_of(KEY, f"{part}_$metric", part) for part in ("last", "avg", "min", "max")]
    now = stat("$metric", *parts, unit=units.NoUnit, text="Since the device was first seen.").decimals(2)
    for part, title in (("last", "Last"), ("avg", "Average"), ("min", "Lowest"), ("max", "Highest")):
        now.override_by_query(part, [DynamicConfigValue("displayName", title)])
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
    made.with_panel(rejected.span(14))
    statistics = table("Statistics", hash_of(KEY), text="Every field that Redis has of it.")
    made.with_panel(as_rows(statistics, "Field", "Value").span(10))
    return made
