"""What the projector measures, and what it does not say before it knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contract.events import VERSION, Event, EventBatch, format_time
from projector.meters import Meters

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
AT = "2026-11-23T11:59:00.000000Z"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_stream_is_not_called_current_before_it_was_looked_at(registry: CollectorRegistry) -> None:
    """Redis away at the start: nobody knows how far the views are, so nothing says that they lack nothing."""
    meters = Meters(registry)
    stream = meters.of(0)
    told = generate_latest(registry).decode()
    for name in ("cursor", "head", "lag_rows", "behind_seconds", "lag_seconds"):
        assert f"projector_{name}{{" not in told
        assert f"projector_history_{name}{{" not in told
    assert meters.lag().streams == []
    assert meters.lag().views.as_of is None
    stream.position(3, 5, NOW - timedelta(seconds=90), NOW)
    assert 'projector_behind_seconds{stream="0"} 90.0' in generate_latest(registry).decode()
    assert [(each.cursor, each.head) for each in meters.lag().streams] == [(3, 5)]
    stream.history(2, 5, 1.5, NOW, held=7)
    assert 'projector_history_behind_seconds{stream="0"} 1.5' in generate_latest(registry).decode()


def test_a_stream_is_known_by_what_was_applied_too(registry: CollectorRegistry) -> None:
    """Before PostgreSQL was looked at, what the topic brought is in the views."""
    meters = Meters(registry)
    row = EventBatch(VERSION, 0, 4, "e", AT, [Event("d", None, AT, AT, "k", {"t": 1})])
    meters.of(0).applied([row], NOW, None)
    assert [(each.cursor, each.behind_rows) for each in meters.lag().streams] == [(4, 0)]
    assert 'projector_lag_seconds{step="projected",stream="0"} 60.0' in generate_latest(registry).decode()


def test_lag_goes_with_what_was_applied(registry: CollectorRegistry) -> None:
    """A second later at the latest, whether PostgreSQL answers or not; then the newest is told when asked."""
    meters = Meters(registry)

    def lag_after(n: int, ran: timedelta, took_s: int) -> str:
        received = format_time(NOW + ran - timedelta(seconds=took_s))
        event = Event("d", None, received, received, f"{n}", {"t": 1})
        meters.of(0).applied([EventBatch(VERSION, 0, n, "e", received, [event])], NOW + ran, None)
        found = generate_latest(registry).decode()
        return found.partition('projector_lag_seconds{step="projected",stream="0"} ')[2].partition("\n")[0]

    assert lag_after(1, timedelta(0), 60) == "60.0"
    assert lag_after(2, timedelta(seconds=0.5), 50) == "60.0"
    assert lag_after(3, timedelta(seconds=1), 40) == "40.0"
    assert lag_after(4, timedelta(seconds=1.5), 30) == "40.0"
    (stream,) = meters.lag().streams
    assert stream.lag_seconds is not None
    assert stream.lag_seconds["projected"] == 30.0
