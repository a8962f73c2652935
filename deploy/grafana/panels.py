"""What a panel of ours looks like: one way for each kind, so that dashboards say only what is particular."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as SeriesPanel
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)

from deploy.grafana.sources import PROMETHEUS

if TYPE_CHECKING:
    from deploy.grafana.sources import Target

TAG: Final = "edge"
POINTS: Final = 500
GREEN, ORANGE, RED = "green", "orange", "red"
Limits = tuple[tuple[float, str], ...]


def limits(*steps: tuple[float, str], base: str = GREEN) -> ThresholdsConfig:
    """Colours from given values on; below the first it is `base`."""
    made = [Threshold(None, base), *(Threshold(value, color) for value, color in steps)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def stat(title: str, *targets: Target, unit: str, text: str, thresholds: Limits = ()) -> StatPanel:
    """One number, or a few; four by six unless said otherwise."""
    panel = (
        StatPanel()
        .title(title)
        .description(text)
        .datasource(targets[0].source)
        .unit(unit)
        .thresholds(limits(*thresholds))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(values=False))
        .height(4)
        .span(4)
    )
    for target in targets:
        panel.with_target(target)
    return panel


def words(field: str) -> ReduceDataOptions:
    """What a panel shows that is to show a text: it shows numbers unless told otherwise."""
    return ReduceDataOptions().calcs(["lastNotNull"]).fields(f"/^{field}$/").values(values=False)


def series(title: str, *targets: Target, unit: str, text: str) -> SeriesPanel:
    """Lines over time."""
    panel = (
        SeriesPanel()
        .title(title)
        .description(text)
        .datasource(targets[0].source)
        .unit(unit)
        .line_width(1)
        .fill_opacity(8)
        .show_points(VisibilityMode.AUTO)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .height(8)
        .span(12)
    )
    for target in targets:
        panel.with_target(target)
    return panel


def rollup_series(title: str, *targets: Target, unit: str, text: str) -> SeriesPanel:
    """Lines over time from the rollups: no finer than a minute, and a bounded number of points."""
    return series(title, *targets, unit=unit, text=text).interval("1m").max_data_points(POINTS)


def table(title: str, target: Target, *, text: str) -> TablePanel:
    """Rows."""
    return TablePanel().title(title).description(text).datasource(target.source).with_target(target).height(9)


def as_rows(panel: TablePanel, first: str, second: str) -> TablePanel:
    """Turn the one wide row of a Redis answer into two columns, in the order of the answer."""
    turn = DataTransformerConfig("reduce", options={"mode": "seriesToRows", "reducers": ["lastNotNull"]})
    names = {"Field": first, "Last *": second}
    rename = DataTransformerConfig("organize", options={"renameByName": names})
    return panel.with_transformation(turn).with_transformation(rename)


def side_by_side(panel: TablePanel, **names: str) -> TablePanel:
    """Put what several targets answer of one label into one row of it; `A="Silent"` names the values of A."""
    rename = {f"Value #{ref}": name for ref, name in names.items()}
    organize = {"excludeByName": {"Time": True}, "renameByName": rename}
    panel.with_transformation(DataTransformerConfig("merge", options={}))
    return panel.with_transformation(DataTransformerConfig("organize", options=organize))


def column(
    panel: TablePanel, name: str, title: str = "", *, unit: str = "", width: int = 0, link: str = ""
) -> TablePanel:
    """Say how one column is shown; a link is an address in which `${__value.raw}` is the cell's value."""
    properties: list[DynamicConfigValue] = []
    if title:
        properties.append(DynamicConfigValue("displayName", title))
    if unit:
        properties.append(DynamicConfigValue("unit", unit))
    if width:
        properties.append(DynamicConfigValue("custom.width", width))
    if link:
        properties.append(DynamicConfigValue("links", [{"title": "Open", "url": link}]))
    return panel.override_by_name(name, properties)


def moment(panel: TablePanel, name: str, title: str) -> TablePanel:
    """Show a column as a time."""
    return column(panel, name, title, unit=units.DatetimeISO, width=180)


def to_dashboard(uid: str, name: str, *, carry: str = "") -> str:
    """The address of another of our dashboards in the same range, the cell's value as its variable `name`."""
    others = f"&{carry}" if carry else ""
    return f"/d/{uid}?var-{name}=${{__value.raw:percentencode}}{others}&${{__url_time_range}}"


def base(uid: str, title: str, text: str, *, since: str) -> Dashboard:
    """A dashboard with the links to the others and marks where an alert fired."""
    links = DashboardLink("Edge").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(keep_time=True)
    return (
        Dashboard(title)
        .uid(uid)
        .description(text)
        .tags([TAG])
        .timezone("browser")
        .time(since, "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(links.include_vars(include_vars=False).as_dropdown(as_dropdown=False))
        .annotation(
            AnnotationQuery()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(enable=True)
            .icon_color(RED)
            .expr('ALERTS{alertstate="firing"}')
        )
    )
