"""Scrape configuration, recording rules and alerts under Prometheus's own tool, promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from deploy.local.install import ensure
from tests.support.grafana import Range, expand_promql, find_queries

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
SITE = {"instance": "site:9"}


class Case(NamedTuple):
    """Series sampled once a minute in promtool's notation, and when their alert is silent and when it fires.

    A value on its own, such as `0x30`, stands for thirty minutes of it.
    """

    alert: str
    series: dict[str, str]
    silent_at: str
    fires_at: str
    labels: dict[str, str] = SITE


LABELS = '{instance="site:9"}'
ENDS = "_certificate_expires_timestamp_seconds"

CASES = [
    Case(
        "GatewayDown",
        {'up{job="gateway", instance="site:9"}': "1x5 0x30"},
        "5m",
        "8m",
        {**SITE, "job": "gateway"},
    ),
    Case("GatewayDown", {'up{job="gateway"}': "1x5 _x30"}, "5m", "20m", {"job": "gateway"}),
    Case(
        "ProjectorDown",
        {'up{job="projector", instance="site:9"}': "1x5 0x30"},
        "7m",
        "9m",
        {**SITE, "job": "projector"},
    ),
    Case("NotReady", {f"gateway_ready{LABELS}": "1x5 0x30"}, "10m", "12m"),
    Case("NotReady", {f"projector_ready{LABELS}": "0x30"}, "4m", "6m"),
    *(
        Case(
            "CertificateEnds",
            {f'{program}{ENDS}{{instance="site:9", certificate="broker"}}': ends},
            "9m",
            "11m",
            {**SITE, "certificate": "broker"},
        )
        for program in ("gateway", "projector")
        for ends in [f"{30 * 86_400 + 600}x60"]  # time begins at 0 here
    ),
    Case("BrokerDisconnected", {f"gateway_connected{LABELS}": "1x5 0x30"}, "7m", "9m"),
    Case(
        "StoringLags",
        {
            'gateway_lag_seconds{instance="site:9", step="committed"}': "29x5 31x30",
            f"gateway_in_flight{LABELS}": "5x40",
        },
        "7m",
        "9m",
        {**SITE, "step": "committed"},
    ),
    Case(  # the last batch took long, and all is stored; then others wait
        "StoringLags",
        {
            'gateway_lag_seconds{instance="site:9", step="committed"}': "31x40",
            f"gateway_in_flight{LABELS}": "0x20 5x20",
        },
        "20m",
        "24m",
        {**SITE, "step": "committed"},
    ),
    Case("Spooling", {f"gateway_spooling{LABELS}": "0x5 1x30"}, "9m", "12m"),
    Case(
        "SpoolFills",
        {f"gateway_spool_bytes{LABELS}": "80x5 81x30", f"gateway_spool_max_bytes{LABELS}": "100x40"},
        "5m",
        "8m",
    ),
    Case("SpoolFull", {f"gateway_spool_full{LABELS}": "0x5 1x30"}, "5m", "8m"),
    Case("SpoolLost", {f"gateway_spool_lost_total{LABELS}": "0x5 3x30"}, "4m", "7m"),
    Case("SpoolLost", {f"gateway_spool_dropped_total{LABELS}": "0x5 3x30"}, "4m", "7m"),
    Case(
        "ViewsLag",
        {
            'projector_behind_seconds{instance="site:9", stream="0"}': "0x40",
            'projector_behind_seconds{instance="site:9", stream="1"}': "60x5 61x30",
        },
        "7m",
        "9m",
    ),
    Case(
        "HistoryLags",
        {'projector_history_behind_seconds{instance="site:9", stream="0"}': "300x5 301x30"},
        "10m",
        "12m",
    ),
    Case(  # an old database is packed from its first day on, for as long as that takes
        "PackingLags",
        {f"projector_packing_behind_seconds{LABELS}": "900000-60x120 892800+60x60"},
        "120m",
        "180m",
    ),
    Case(
        "NothingArrives",
        {f"projector_heard_timestamp_seconds{LABELS}": "0x5 360+60x10 960x40"},
        "29m",
        "35m",
    ),
    Case("NothingArrives", {f"projector_heard_timestamp_seconds{LABELS}": "0x40"}, "15m", "17m"),
    Case(
        "RegionSilent",
        {
            'projector_devices{instance="site:9", region="north", state="ok"}': "5x40",
            'projector_devices{instance="site:9", region="north", state="silent"}': "5x10 6x30",
            'projector_devices{instance="site:9", region="south", state="ok"}': "1x40",
            'projector_devices{instance="site:9", region="south", state="silent"}': "2x40",
            'projector_devices{instance="site:9", region="begun", state="ok"}': "1x40",
            'projector_devices{instance="site:9", region="begun", state="silent"}': "3x40",
            'projector_devices{instance="site:9", region="begun", state="unknown"}': "2x40",
            'projector_devices{instance="site:9", region="north", state="muted"}': "9x40",
            'projector_devices{instance="site:9", region="north", state="retired"}': "9x40",
        },
        "14m",
        "18m",
        {**SITE, "region": "north"},
    ),
    Case(
        "RegionSilent",
        {
            'projector_devices{instance="site:9", region="north", state="ok"}': "2x40",
            'projector_devices{instance="site:9", region="north", state="silent"}': "0x10 3x30",
            'projector_devices{instance="site:9", region="north", state="offline"}': "9x40",
        },
        "14m",
        "18m",
        {**SITE, "region": "north"},
    ),
    Case(
        "RegionOffline",
        {
            'projector_devices{instance="site:9", region="north", state="ok"}': "5x40",
            'projector_devices{instance="site:9", region="north", state="silent"}': "2x40",
            'projector_devices{instance="site:9", region="north", state="offline"}': "3x10 4x30",
            'projector_devices{instance="site:9", region="south", state="ok"}': "1x40",
            'projector_devices{instance="site:9", region="south", state="offline"}': "2x40",
        },
        "14m",
        "18m",
        {**SITE, "region": "north"},
    ),
    Case(
        "ClocksWrong",
        {'projector_devices_clock_wrong{instance="site:9", region="north"}': "0x10 1x30"},
        "10m",
        "12m",
        {**SITE, "region": "north"},
    ),
    Case(
        "DevicesFallSilent",
        {'projector_device_changes_total{instance="site:9", state="silent"}': "0x10 1x40"},
        "10m",
        "12m",
        {**SITE, "state": "silent"},
    ),
    *(
        Case(
            alert,
            {
                f'projector_limits{{instance="site:9", metric="t", when="{when}", state="{of}"}}': values
                for when, of, values in (
                    ("above", state, "0x10 2x30"),
                    ("below", state, "0x40"),
                    ("above", "ok", "5x40"),
                )
            },
            "10m",
            "11m",
            {**SITE, "metric": "t", "when": "above", "state": state},
        )
        for alert, state in (("LimitCritical", "crit"), ("LimitWarning", "warn"))
    ),
    *(
        Case(  # a projector that starts again is heard of first, and knows later
            alert,
            {
                f'projector_limits{{instance="site:9", metric="t", when="{side}", state="{state}"}}': values
                for side, values in (("above", "1x5 _x8 0x40"), ("below", "0x60"))
            },
            "27m",
            "23m",
            {**SITE, "metric": "t", "when": "above", "state": state},
        )
        for alert, state in (("LimitCritical", "crit"), ("LimitWarning", "warn"))
    ),
    Case(
        "DeadLettersRising",
        {
            f"gateway_received_total{LABELS}": "0+1000x60",
            'gateway_dead_lettered_total{instance="site:9", reason="conflict"}': "0x60",
            'gateway_dead_lettered_total{instance="site:9", reason="malformed_json"}': "0+9x20 200+11x40",
        },
        "20m",
        "50m",
    ),
    Case(
        "Conflicts",
        {'gateway_dead_lettered_total{instance="site:9", reason="conflict"}': "0x10 1x40"},
        "10m",
        "12m",
        {**SITE, "reason": "conflict"},
    ),
    Case("KeyNeverChanges", {f"gateway_devices_with_one_key_total{LABELS}": "0x10 1x40"}, "10m", "11m"),
    Case("MetricsDropped", {f"projector_metrics_dropped_total{LABELS}": "0x10 1x80"}, "10m", "11m"),
    Case("RegionsDropped", {f"projector_regions_dropped_total{LABELS}": "0x10 5x80"}, "10m", "11m"),
    Case(
        "FieldsDropped",
        {
            f"gateway_received_total{LABELS}": "0+1000x60",
            'gateway_dropped_fields_total{instance="site:9", route="a/#", field="x", reason="nan"}': "0+6x60",
            'gateway_dropped_fields_total{instance="site:9", route="a/#", field="y", reason="nan"}': (
                "0+3x20 60+6x40"
            ),
        },
        "20m",
        "50m",
    ),
    Case("RebirthsUnanswered", {f"gateway_sparkplug_unanswered{LABELS}": "0x5 2x30"}, "14m", "17m"),
    Case("DeadLettersEvicted", {f"gateway_dead_letters_evicted_total{LABELS}": "0x10 5x40"}, "10m", "12m"),
    Case("BrokerDropsMessages", {f"gateway_broker_dropped_messages_total{LABELS}": "7x10 8x9"}, "10m", "12m"),
    Case("SessionAbandoned", {f"gateway_abandoned_sessions{LABELS}": "0x5 1x30"}, "14m", "17m"),
    Case(
        "BrokerDropsUnknown",
        {f"gateway_broker_drops_known{LABELS}": "0x40", f"gateway_connected{LABELS}": "0x10 1x30"},
        "19m",
        "22m",
    ),
    Case(
        "TopicForged",
        {
            'projector_messages_not_believed_total{instance="site:9", reason="unsigned"}': "0x5 1x10 1+3x40",
            'projector_messages_not_believed_total{instance="site:9", reason="no_key"}': "0+9x60",
        },
        "15m",
        "30m",
    ),
    Case(
        "RowsUnsigned",
        {
            'projector_messages_not_believed_total{instance="site:9", reason="no_key"}': "0+9x60",
            'projector_messages_not_believed_total{instance="site:9", reason="wrong_signature"}': "0+9x60",
        },
        "29m",
        "33m",
    ),
    Case("SessionLost", {f"gateway_sessions_lost_total{LABELS}": "0x10 1x40"}, "10m", "12m"),
    Case("QoS0Dropped", {f"gateway_dropped_qos0_total{LABELS}": "0x10 1x40"}, "10m", "12m"),
    Case(
        "BooksDoNotAddUp",
        {
            f"gateway_received_total{LABELS}": "0+10x60",
            f"gateway_committed_total{LABELS}": "0+9x15 136+9x45",
            f"gateway_duplicate_total{LABELS}": "0x60",
            'gateway_dead_lettered_total{instance="site:9", reason="conflict"}': "0+1x60",
            f"gateway_in_flight{LABELS}": "0x60",
        },
        "15m",
        "25m",
    ),
    Case(
        "ChoreFails",
        {'gateway_chore_failing_seconds{instance="site:9", chore="partitions"}': "0x5 0+60x40"},
        "20m",
        "23m",
        {**SITE, "chore": "partitions"},
    ),
    Case(
        "DedupWindowOld",
        {
            f"gateway_dedup_window_seconds{LABELS}": "3600x60",
            f"gateway_dedup_window_age_seconds{LABELS}": "5400x5 5401x40",
        },
        "14m",
        "17m",
    ),
    Case("OutboxFillsDisk", {f"gateway_outbox_bytes{LABELS}": "9e9x10 11e9x40"}, "19m", "22m"),
    Case(
        "DatabaseGrows",
        {f"gateway_database_bytes{LABELS}": "1e9+2e6x90", f"gateway_retention_seconds{LABELS}": "0x90"},
        "59m",
        "65m",
    ),
]


class Shown(NamedTuple):
    """Series sampled once a minute, and what an expression of a dashboard then shows after ten minutes."""

    query: str
    series: dict[str, str]
    value: float


SHOWN = [
    Shown(  # one has two too many and the other two too few, and both are wrong
        "edge-health: Unaccounted A",
        {
            'gateway_received_total{instance="a:1"}': "12x10",
            'gateway_received_total{instance="b:1"}': "8x10",
            **{f'gateway_committed_total{{instance="{gateway}"}}': "10x10" for gateway in ("a:1", "b:1")},
            **{
                f'gateway_{name}{{instance="{gateway}"{reason}}}': "0x10"
                for gateway in ("a:1", "b:1")
                for name, reason in (
                    ("duplicate_total", ""),
                    ("dead_lettered_total", ', reason="conflict"'),
                    ("in_flight", ""),
                )
            },
        },
        4,
    ),
    Shown(  # two gateways at one broker
        "edge-health: Lost broker_dropped_messages",
        {
            f'gateway_broker_dropped_messages_total{{instance="{gateway}"}}': "0+60x10"
            for gateway in ("a:1", "b:1")
        },
        240,
    ),
    Shown(  # two projectors at one database
        "edge-fleet: Silent A",
        {
            f'projector_devices{{instance="{projector}", region="{region}", state="silent"}}': "2x10"
            for projector in ("a:1", "b:1")
            for region in ("north", "south")
        },
        4,
    ),
    Shown(  # the same, of all devices in each state
        "edge-fleet: Silent now, by region B",
        {
            f'projector_devices{{instance="{projector}", region="{region}", state="{state}"}}': "2x10"
            for projector in ("a:1", "b:1")
            for region in ("north", "south")
            for state in ("ok", "silent", "unknown")
        },
        12,
    ),
    Shown(  # over a week the points lie hours apart
        "edge-health: annotation Rebuilds",
        {'projector_rebuilds_total{instance="a:1"}': "0x7 1x3"},
        1,
    ),
]


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus's checker; Debian's package brings it."""
    return ensure(["promtool"])["promtool"]


def load(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return parsed


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in load(name)["groups"] for rule in group["rules"]]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_valid(promtool: Path) -> None:
    """The scrape configuration names every rule file, and promtool's linter finds nothing."""
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")
    assert load("prometheus.yml")["rule_files"] == sorted(
        (path.name for path in FOLDER.glob("*.yml") if path.name != "prometheus.yml"), reverse=True
    )


@pytest.mark.parametrize("case", CASES, ids=[f"{case.alert}-{i}" for i, case in enumerate(CASES)])
def test_an_alert_fires_when_it_should(promtool: Path, tmp_path: Path, case: Case) -> None:
    """Each alert is silent while its limit holds, and fires with labels and annotations once it does not."""
    (rule,) = (rule for rule in rules("alerts.yml") if rule["alert"] == case.alert)
    expected = {
        "exp_labels": case.labels | rule["labels"],
        "exp_annotations": {
            name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda label: case.labels.get(label[1], ""), text)
            for name, text in rule["annotations"].items()
        },
    }
    test = {
        "rule_files": [str(FOLDER / name) for name in load("prometheus.yml")["rule_files"]],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {"eval_time": case.silent_at, "alertname": case.alert, "exp_alerts": []},
                    {"eval_time": case.fires_at, "alertname": case.alert, "exp_alerts": [expected]},
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    run(promtool, "test", "rules", path)


@pytest.mark.parametrize("shown", SHOWN, ids=[shown.query for shown in SHOWN])
def test_a_panel_shows_what_is_so(promtool: Path, tmp_path: Path, shown: Shown) -> None:
    """Several processes that see the same thing see it once; what is wrong at two does not cancel out."""
    (query,) = (each for each in find_queries("edge-prometheus") if each.name == shown.query)
    text = expand_promql(query, {"gateway": ".*", "projector": ".*"}, Range.last(3600), scrape_s=60)
    series = [{"series": name, "values": values} for name, values in shown.series.items()]
    case = {
        "expr": f"sum({text})",
        "eval_time": "10m",
        "exp_samples": [{"labels": "{}", "value": shown.value}],
    }
    test = {
        "rule_files": [str(FOLDER / "recording.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [case]}],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    run(promtool, "test", "rules", path)


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """No alert without a case above, a severity, a summary, an action and a section of the handbook."""
    handbook = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    sections = {heading.lower() for heading in re.findall(r"(?m)^#+ (\w+)$", handbook)}
    alerts = rules("alerts.yml")
    assert {rule["alert"] for rule in alerts} == {case.alert for case in CASES}
    for rule in alerts:
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action", "runbook"}, rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"
        assert rule["alert"].lower() in sections, f"docs/operating.md has no section {rule['alert']}"
