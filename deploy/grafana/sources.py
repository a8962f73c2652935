"""How each data source is asked. The uids are those of `provisioning/datasources/edge.yaml`."""

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


def promql(
    expression: str, legend: str = "", ref: str = "A", *, instant: bool = False, rows: bool = False
) -> Target:
    """Ask Prometheus, over the range or only for the value now; as rows a label is a column."""
    fields: dict[str, object] = {
        "expr": expression,
        "instant": instant,
        "range": not instant,
        "editorMode": "code",
    }
    if rows:
        fields["format"] = "table"
    return Target(PROMETHEUS, ref, {**fields, "legendFormat": legend} if legend else fields)


def variable(name: str, label: str, source: DataSourceRef, query: str) -> QueryVariable:
    """A variable that offers what a query returns, asked again when the range changes."""
    made = QueryVariable(name).label(label).datasource(source).query(query)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
