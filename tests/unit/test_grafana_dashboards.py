"""The dashboards as files: current, complete, and leading to each other."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from deploy.grafana.library import FOLDER, rendered
from tests.support.grafana import load_dashboards

DASHBOARDS = {dashboard["uid"]: dashboard for dashboard in load_dashboards()}


@pytest.fixture(params=sorted(DASHBOARDS))
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the dashboards, as committed."""
    return DASHBOARDS[str(request.param)]


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_what_is_committed_is_what_the_code_makes() -> None:
    """`python -m deploy.grafana` would change nothing, and no file is left over."""
    committed = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FOLDER.glob("**/*.json")
    }
    assert committed == rendered(), "run `make dashboards`"


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """Each has a title, a description, a unit unless it is a table, and queries with names of their own."""
    for panel in panels_of(dashboard):
        assert panel["title"], panel
        assert panel["description"], panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0, panel["title"]


def provisioned(path: str) -> set[tuple[str, str]]:
    """Uid and type of the data sources of a file."""
    sources = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))["datasources"]
    return {(source["uid"], source["type"]) for source in sources}


def test_only_provisioned_sources_are_asked(dashboard: dict[str, Any]) -> None:
    """Panels, targets, variables and annotations name the uid and type of a provisioned data source."""
    known = provisioned("provisioning/datasources/edge.yaml")
    if dashboard["uid"] == "edge-views":
        known |= provisioned("redis/datasource.yaml")
    asking = [*panels_of(dashboard), *dashboard["templating"]["list"], *dashboard["annotations"]["list"]]
    asking += [target for panel in panels_of(dashboard) for target in panel["targets"]]
    assert {(each["datasource"]["uid"], each["datasource"]["type"]) for each in asking} <= known


def test_nothing_needs_a_plugin() -> None:
    """What is provisioned asks only sources that come with Grafana; the rest has a folder of its own."""
    types = {type_ for _, type_ in provisioned("provisioning/datasources/edge.yaml")}
    assert types == {"grafana-postgresql-datasource", "prometheus"}
    for path in (FOLDER / "dashboards").glob("*.json"):
        assert "redis-datasource" not in path.read_text(encoding="utf-8"), path


def test_links_lead_to_dashboards_and_their_variables(dashboard: dict[str, Any]) -> None:
    """Whatever a link sets is a variable of where it leads; each dashboard links to all the others."""
    assert [link["tags"] for link in dashboard["links"]] == [dashboard["tags"]]
    for panel in panels_of(dashboard):
        for override in panel.get("fieldConfig", {}).get("overrides") or []:
            for link in (each for each in override["properties"] if each["id"] == "links"):
                (url,) = (each["url"] for each in link["value"])
                uid, _, parameters = url.removeprefix("/d/").partition("?")
                offered = {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]}
                assert set(re.findall(r"var-(\w+)=", parameters)) <= offered, url
                assert parameters.endswith("&${__url_time_range}")


def test_every_variable_is_used(dashboard: dict[str, Any]) -> None:
    """No selector that changes nothing."""
    text = str(panels_of(dashboard))
    for variable in dashboard["templating"]["list"]:
        assert re.search(rf"\${{?{variable['name']}\b", text), variable["name"]


def test_what_a_variable_offers_is_bounded(dashboard: dict[str, Any]) -> None:
    """Nobody chooses among ten thousand; of names that strangers make up there may be more."""
    for variable in dashboard["templating"]["list"]:
        if variable["datasource"]["uid"] == "edge-postgres":
            assert re.search(r"\bLIMIT \d+$", variable["query"]), variable["name"]


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Each has its number and its own place within the grid's 24 columns."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)


def test_state_has_thresholds() -> None:
    """What should be looked at changes its colour: silence, rejections, lag, connections, the outbox."""
    coloured = {
        panel["title"]
        for dashboard in DASHBOARDS.values()
        for panel in panels_of(dashboard)
        if len(panel.get("fieldConfig", {"defaults": {}})["defaults"].get("thresholds", {}).get("steps", []))
        > 1
    }
    assert {"Silent", "Rejected", "View behind", "Without a broker", "Unaccounted", "Outbox"} <= coloured
