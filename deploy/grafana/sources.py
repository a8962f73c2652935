"""How each data source is asked.

The uids are those of `provisioning/datasources/edge.yaml`. The Redis data source (2.2) answers HGETALL with
one row and a column per field, ZRANGE with one row and a column per member, HGET with one column `Value`, and
a command line with a flat column `Value`; it reads numbers as numbers and leaves times as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from grafana_foundation_sdk.builders.dashboard import QueryVariable
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

POSTGRES: Final = DataSourceRef("grafana-postgresql-datasource", "edge-postgres")
REDIS: Final = DataSourceRef("redis-datasource", "edge-redis")
PROMETHEUS: Final = DataSourceRef("prometheus", "edge-prometheus")

queries = load_queries("deploy.grafana")


class Target(Builder[Dataquery]):
    """One query of a panel.

    Attributes:
        source: the data source that it asks.
    """

    def __init__(self, source: DataSourceRef, ref: str, fields: Mapping[str, object]) -> None:
        self.source = source
        self._data = {"refId": ref, "datasource": source.to_json(), **fields}

    def build(self) -> Dataquery:
        """Return what the data source's own editor would have written."""
        return UnknownDataquery(self._data)


def sql(query: str, form: Literal["table", "time_series"] = "table", ref: str = "A") -> Target:
    """Ask PostgreSQL; as `time_series` a text column `metric` names the series."""
    fields = {"rawSql": query, "rawQuery": True, "editorMode": "code", "format": form}
    return Target(POSTGRES, ref, fields)


def hash_of(key: str, ref: str = "A") -> Target:
    """Ask Redis for a whole hash."""
    return Target(REDIS, ref, {"type": "command", "command": "hgetall", "keyName": key})


def field_of(key: str, field: str, ref: str) -> Target:
    """Ask Redis for one field of a hash."""
    return Target(REDIS, ref, {"type": "command", "command": "hget", "keyName": key, "field": field})


def lowest_of(key: str, count: int) -> Target:
    """Ask Redis for the members of a sorted set with the lowest scores, as columns."""
    return _members(key, 0, count - 1)


def highest_of(key: str, count: int) -> Target:
    """The same with the highest, the very highest last."""
    return _members(key, -count, -1)


def _members(key: str, first: int, last: int) -> Target:
    fields = {"type": "command", "command": "zrange", "keyName": key, "min": str(first), "max": str(last)}
    return Target(REDIS, "A", {**fields, "zrangeQuery": ""})


def redis_line(line: str) -> Target:
    """Ask Redis by a command line."""
    return Target(REDIS, "A", {"type": "cli", "query": line})


def promql(expression: str, legend: str = "", ref: str = "A", *, instant: bool = False) -> Target:
    """Ask Prometheus, over the range or only for the value now."""
    fields = {"expr": expression, "instant": instant, "range": not instant, "editorMode": "code"}
    return Target(PROMETHEUS, ref, {**fields, "legendFormat": legend} if legend else fields)


def variable(name: str, label: str, source: DataSourceRef, query: str) -> QueryVariable:
    """A variable that offers what a query returns, asked again when the range changes."""
    made = QueryVariable(name).label(label).datasource(source).query(query)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
