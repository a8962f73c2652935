"""Gateway health: the path of a message as Prometheus sees it, and what was lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Row
from grafana_foundation_sdk.models import units

from deploy.grafana.panels import ORANGE, RED, base, series, stat
from deploy.grafana.sources import PROMETHEUS, promql, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from grafana_foundation_sdk.builders.stat import Panel as StatPanel
    from grafana_foundation_sdk.builders.timeseries import Panel as SeriesPanel

GATEWAY, PROJECTOR = 'instance=~"$gateway"', 'instance=~"$projector"'


def dashboard() -> Dashboard:
    """The dashboard of whoever keeps it running."""
    made = base("edge-health", "Edge: gateway health", "Gateway and projector at work.", since="now-1h")
    for name, label in (("gateway", "Gateway"), ("projector", "Projector")):
        made.with_variable(
            variable(name, label, PROMETHEUS, f'label_values(up{{job="{name}"}}, instance)')
            .multi(multi=True)
            .include_all(include_all=True)
        )
    made.annotation(
        AnnotationQuery()
        .name("Rebuilds")
        .datasource(PROMETHEUS)
        .enable(enable=True)
        .icon_color(ORANGE)
        # Points lie further apart over a week.
        .expr("changes(projector_rebuilds_total[$__rate_interval]) > 0")
    )
    for title, panels in (
        ("Now", _now()),
        ("Write side", _write_side()),
        ("Chores", _chores()),
        ("Read side", _read_side()),
        ("Lost", _lost()),
        ("Processes", _processes()),
    ):
        made.with_row(Row(title))
        for panel in panels:
            made.with_panel(panel)
    return made


def _now() -> Iterator[StatPanel]:
    yield stat(
        "Down",
        promql('sum(1 - up{job=~"gateway|projector"})', instant=True),
        unit=units.NoUnit,
        text="Processes that do not answer.",
        thresholds=((1, RED),),
    )
    yield stat(
        "Without a broker",
        promql(f"sum(1 - gateway_connected{{{GATEWAY}}})", instant=True),
        unit=units.NoUnit,
        text="Gateways that run and have no connection.",
        thresholds=((1, RED),),
    )
    yield stat(
        "In flight",
        promql(f"sum(gateway_in_flight{{{GATEWAY}}})", instant=True),
        unit=units.NoUnit,
        text="Messages received and not settled.",
    )
    yield stat(
        "Unaccounted",
        promql(f"sum(abs(instance:gateway_unaccounted:sum{{{GATEWAY}}}))", instant=True),
        unit=units.NoUnit,
        text="How far received is from committed, duplicate, dead-lettered and in flight, at each gateway."
        " Anything but 0 is a defect.",
        thresholds=((1, RED),),
    )
    yield stat(
        "View behind",
        promql(f"max(projector_behind_seconds{{{PROJECTOR}}})", instant=True),
        unit=units.Seconds,
        text="For how long Redis has lacked the oldest row that it lacks.",
        thresholds=((5, ORANGE), (60, RED)),
    )
    yield stat(
        "Outbox",
        promql(f"max(gateway_outbox_bytes{{{GATEWAY}}})", instant=True),
        unit=units.BytesIEC,
        text="Room that it takes on PostgreSQL's disk.",
        thresholds=((5e9, ORANGE), (10e9, RED)),
    )


def _write_side() -> Iterator[SeriesPanel]:
    fates = ("received", "committed", "duplicate", "dead_lettered")
    yield series(
        "Messages a second",
        *(promql(f"sum(instance:gateway_{fate}:rate5m{{{GATEWAY}}})", fate, fate) for fate in fates),
        unit=units.NoUnit,
        text="What came, and what became of it.",
    )
    yield series(
        "Rejected a second, by reason",
        promql(
            f"sum by (reason) (rate(gateway_dead_lettered_total{{{GATEWAY}}}[$__rate_interval])) > 0",
            "{{reason}}",
        ),
        unit=units.NoUnit,
        text="`gateway dead-letters list` says whose.",
    )
    yield series(
        "Time to each step",
        promql(f"max by (step) (gateway_lag_seconds{{{GATEWAY}}})", "{{step}}"),
        unit=units.Seconds,
        text="event: from device time to receipt; committed: to COMMIT; published: to the internal topic.",
    )
    yield series(
        "Time to COMMIT",
        promql(f"max(instance:gateway_commit_seconds:p99_5m{{{GATEWAY}}})", "99 of 100", "p99"),
        promql(
            "histogram_quantile(0.5, sum by (le) "
            f"(rate(gateway_commit_seconds_bucket{{{GATEWAY}}}[$__rate_interval])))",
            "half",
            "p50",
        ),
        unit=units.Seconds,
        text="From a batch's first message to its COMMIT.",
    )
    yield series(
        "Messages a batch",
        promql(
            f"sum(rate(gateway_batch_readings_sum{{{GATEWAY}}}[$__rate_interval])) "
            f"/ sum(rate(gateway_batch_readings_count{{{GATEWAY}}}[$__rate_interval]))",
            "average",
        ),
        unit=units.NoUnit,
        text="Batches grow with the load, and when PostgreSQL is slow.",
    )
    yield series(
        "Not yet published",
        promql(f"sum by (instance) (gateway_unpublished_rows{{{GATEWAY}}})", "{{instance}}"),
        unit=units.NoUnit,
        text="Outbox rows that the internal topic has not taken. The projector reads them from PostgreSQL.",
    )
    yield series(
        "Batches waiting",
        promql(f"max by (instance) (gateway_batches_waiting{{{GATEWAY}}})", "{{instance}}"),
        unit=units.NoUnit,
        text="Received and not acknowledged. Flat and high: intake stands, and the rest waits in the broker.",
    )
    beside = (
        ("ignored_messages", "left out by ignore"),
        ("empty_messages", "empty"),
        ("copies", "copies by overlapping filters"),
        ("unkeyed", "stored without a key"),
    )
    yield series(
        "Messages of their own kind, a second",
        *(
            promql(f"sum(rate(gateway_{name}_total{{{GATEWAY}}}[$__rate_interval]))", legend, name)
            for name, legend in beside
        ),
        unit=units.NoUnit,
        text="docs/delivery.md says what becomes of each; `gateway check` which route makes them.",
    )


def _chores() -> Iterator[SeriesPanel]:
    yield series(
        "Chores failing",
        promql(f"max by (chore) (gateway_chore_failing_seconds{{{GATEWAY}}})", "{{chore}}"),
        unit=units.Seconds,
        text="For how long a chore has not been done; 0 is well. The log says why, chore_failed.",
    )
    yield series(
        "Turns of a chore that failed",
        promql(
            f"sum by (chore) (increase(gateway_chore_failures_total{{{GATEWAY}}}[$__rate_interval]))",
            "{{chore}}",
        ),
        unit=units.NoUnit,
        text="Each is tried again by itself.",
    )
    yield series(
        "Age of the dedup window",
        promql(f"max(gateway_dedup_window_age_seconds{{{GATEWAY}}})", "current generation", "age"),
        promql(f"max(gateway_dedup_window_seconds{{{GATEWAY}}})", "turns at", "window"),
        unit=units.Seconds,
        text="A saw below the window. Far above it something holds the message keys, a dump most often.",
    )


def _read_side() -> Iterator[SeriesPanel]:
    yield series(
        "Events applied a second",
        promql(
            f"sum by (instance) (instance:projector_events_applied:rate5m{{{PROJECTOR}}})", "{{instance}}"
        ),
        unit=units.NoUnit,
        text="What reached the views.",
    )
    yield series(
        "Rows behind, by stream",
        promql(f"max by (stream) (projector_lag_rows{{{PROJECTOR}}})", "stream {{stream}}"),
        unit=units.NoUnit,
        text="Committed outbox rows that the views do not have.",
    )
    yield series(
        "History behind",
        promql(f"max by (stream) (projector_history_behind_seconds{{{PROJECTOR}}})", "stream {{stream}}"),
        unit=units.Seconds,
        text="For how long minutes and hours have lacked the oldest row; up to 75 s is as it should be.",
    )
    yield series(
        "Writing history",
        promql(
            "histogram_quantile(0.99, sum by (le) "
            f"(rate(projector_history_write_seconds_bucket{{{PROJECTOR}}}[$__rate_interval])))",
            "99 of 100",
        ),
        unit=units.Seconds,
        text="Duration of a transaction that writes minutes and hours.",
    )
    yield series(
        "From COMMIT to view",
        promql(f"max(instance:projector_row_delay_seconds:p99_5m{{{PROJECTOR}}})", "99 of 100", "p99"),
        promql(
            "histogram_quantile(0.99, sum by (le) "
            f"(rate(projector_apply_seconds_bucket{{{PROJECTOR}}}[$__rate_interval])))",
            "of that applying",
            "apply",
        ),
        unit=units.Seconds,
        text="How old a row is when Redis shows it.",
    )
    kinds = (("rows_caught_up", "read from PostgreSQL"), ("rows_duplicate", "repeated"), ("gaps", "gaps"))
    yield series(
        "Beside the fast path",
        *(
            promql(f"sum(rate(projector_{name}_total{{{PROJECTOR}}}[$__rate_interval]))", legend, name)
            for name, legend in kinds
        ),
        unit=units.NoUnit,
        text="A second: what the internal topic lost, repeated or reordered, all of it made good.",
    )


def _lost() -> Iterator[SeriesPanel | StatPanel]:
    losses = (  # the broker's own count is the same at each of its gateways
        ("max", "broker_dropped_messages", "dropped by the broker"),
        ("sum", "dropped_qos0", "QoS 0 without room"),
        ("sum", "sessions_lost", "sessions lost"),
        ("sum", "dead_letters_evicted", "dead letters evicted"),
    )
    yield series(
        "Lost",
        *(
            promql(f"{of}(increase(gateway_{name}_total{{{GATEWAY}}}[$__rate_interval]))", legend, name)
            for of, name, legend in losses
        ),
        unit=units.NoUnit,
        text="Each of these has a section in docs/operating.md. Of several brokers, what the worst dropped.",
    )
    yield series(
        "Dropped fields a second",
        promql(
            "sum by (route, field, reason) "
            f"(rate(gateway_dropped_fields_total{{{GATEWAY}}}[$__rate_interval]))",
            "{{field}}, {{reason}} ({{route}})",
        ),
        unit=units.NoUnit,
        text="Left out of messages that were stored, on routes with on_bad_field = drop.",
    )
    yield stat(
        "Broker's drops unknown",
        promql(f"sum(1 - gateway_broker_drops_known{{{GATEWAY}}})", instant=True),
        unit=units.NoUnit,
        text="Gateways that cannot hear how many messages their broker drops.",
        thresholds=((1, ORANGE),),
    ).span(12)
    yield stat(
        "Devices with one key",
        promql(f"sum(gateway_devices_with_one_key_total{{{GATEWAY}}})", instant=True),
        unit=units.NoUnit,
        text="Their message key never changes, so all but their first readings are conflicts. `gateway check`"
        " names them.",
        thresholds=((1, ORANGE),),
    ).span(12)


def _processes() -> Iterator[SeriesPanel]:
    both = 'job=~"gateway|projector"'
    yield series(
        "CPU",
        promql(f"rate(process_cpu_seconds_total{{{both}}}[$__rate_interval])", "{{job}} {{instance}}"),
        unit=units.PercentUnit,
        text="Of one core.",
    )
    yield series(
        "Memory",
        promql(f"process_resident_memory_bytes{{{both}}}", "{{job}} {{instance}}"),
        unit=units.BytesIEC,
        text="Resident.",
    )
