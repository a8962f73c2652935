"""The views in Redis as they are, for those who have the Redis data source; nothing else here needs it.

That source (2.2) answers HGETALL with one row and a column per field, ZRANGE with one row and a column per
member, HGET with one column `Value`, and a command line with a flat column `Value`; it reads numbers as
numbers and leaves times as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders.dashboard import Row
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from deploy.grafana.panels import as_rows, base, column, stat, table, to_dashboard
from deploy.grafana.sources import POSTGRES, Target, queries, variable

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

REDIS: Final = DataSourceRef("redis-datasource", "edge-redis")


def dashboard() -> Dashboard:
    """What Redis holds of the fleet, of a region and of a device."""
    made = base("edge-views", "Edge: views in Redis", "What Redis holds, as it is.", since="now-6h")
    made.with_variable(
        variable("device", "Device", POSTGRES, queries.devices).allow_custom_value(allow_custom_value=True)
    )
    made.with_variable(variable("metric", "Metric", POSTGRES, queries.metrics))
    made.with_variable(variable("region", "Region", POSTGRES, queries.regions))

    made.with_row(Row("Fleet"))
    made.with_panel(
        stat(
            "Devices",
            _line("zcard devices:last_seen"),
            unit=units.NoUnit,
            text="Devices that Redis has; those that expired are gone.",
        ).height(9)
    )
    made.with_panel(
        stat(
            "Nothing in the range",
            _line("zcount devices:last_seen -inf ${__from}"),
            unit=units.NoUnit,
            text="Of these, those whose newest reading, by their clocks, is older than the range shown.",
        ).height(9)
    )
    oldest = table(
        "Oldest readings",
        _members("devices:last_seen", 0, 19),
        text="By their clocks. Click one for its details.",
    )
    as_rows(oldest, "Device", "Last seen")
    column(oldest, "Device", link=to_dashboard("edge-device", "device"))
    column(oldest, "Last seen", unit=units.DateTimeFromNow)
    made.with_panel(oldest.span(8))
    ahead = table(
        "Furthest ahead", _members("devices:clock_ahead", -20, -1), text="Of all devices, the furthest last."
    )
    as_rows(ahead, "Device", "Ahead by")
    column(ahead, "Device", link=to_dashboard("edge-device", "device"))
    column(ahead, "Ahead by", unit=units.Milliseconds)
    made.with_panel(ahead.span(8))

    made.with_row(Row("One of them"))
    for title, key in (("$device", "device:stats:$device"), ("Region $region", "region:stats:$region")):
        panel = table(title, _hash(key), text=f"Every field of {key}, since it was first seen.")
        made.with_panel(as_rows(panel, "Field", "Value").span(10).height(14))
    made.with_panel(
        stat(
            "Last $metric",
            _field("device:stats:$device", "last_$metric"),
            unit=units.NoUnit,
            text="Of the device, whatever the range.",
        ).height(14)
    )
    return made


def _hash(key: str) -> Target:
    return Target(REDIS, "A", {"type": "command", "command": "hgetall", "keyName": key})


def _field(key: str, field: str) -> Target:
    return Target(REDIS, "A", {"type": "command", "command": "hget", "keyName": key, "field": field})


def _members(key: str, first: int, last: int) -> Target:
    """The members of a sorted set by score, as columns; -1 is the highest."""
    fields = {"type": "command", "command": "zrange", "keyName": key, "min": str(first), "max": str(last)}
    return Target(REDIS, "A", {**fields, "zrangeQuery": ""})


def _line(line: str) -> Target:
    return Target(REDIS, "A", {"type": "cli", "query": line})
