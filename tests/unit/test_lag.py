"""How long messages take to reach each step, as the books tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from gateway.ledger import Ledger
from gateway.transaction import Appended, Outcome
from tests.support.write_side import decode

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def ledger(registry: CollectorRegistry, clock: Clock) -> Ledger:
    return Ledger(registry, now=lambda: NOW, monotonic=clock)


def stored(n: int, events: int = 1) -> Outcome:
    return Outcome(Appended(n, events, b"", NOW + timedelta(seconds=n)), events, 0, events, [])


def test_event_lag_is_the_median_of_those_that_state_a_time(ledger: Ledger) -> None:
    """Neither a device with a wrong clock, nor a few of a backlog, nor readings without time move it."""
    times = ["2026-11-23T08:59:58Z", "2026-11-23T08:59:59Z", "2001-01-01T00:00:00Z"]
    ledger.time_events(decode(*(f'{{"ts":"{ts}"}}'.encode() for ts in times), b'{"x":1}', b'{"x":2}')[0])
    assert ledger.lag_s()["event"] == 2.0
    ledger.time_events(decode(b'{"x":1}')[0])
    assert ledger.lag_s()["event"] == 2.0


def test_event_lag_of_clocks_that_are_ahead_is_negative(ledger: Ledger) -> None:
    """Two clocks meet here, and it is not hidden when they disagree."""
    ledger.time_events(decode(b'{"ts":"2026-11-23T09:00:05Z"}')[0])
    assert ledger.lag_s()["event"] == -5.0


def test_lag_is_told_by_the_last_batch_and_row(
    ledger: Ledger, clock: Clock, registry: CollectorRegistry
) -> None:
    """From receipt to COMMIT, and from there to the broker's acknowledgement, both by one fine clock."""
    ledger.receive(1)
    clock.now += 0.0123
    ledger.settle(stored(1), 0.0123)
    clock.now += 0.0007
    ledger.publish(NOW + timedelta(seconds=1))
    assert ledger.lag_s() == pytest.approx({"event": 0.0, "committed": 0.0123, "published": 0.0007})
    gauge = registry.get_sample_value("gateway_lag_seconds", {"step": "published"})
    assert gauge == pytest.approx(0.0007)
    assert registry.get_sample_value("gateway_publish_seconds_count") == 1


def test_what_is_stuck_counts(ledger: Ledger, clock: Clock) -> None:
    """While PostgreSQL or the broker is away the lag grows, though nothing arrives to be measured."""
    ledger.receive(2)
    ledger.settle(stored(1), 0.01)
    clock.now += 60
    assert ledger.lag_s()["committed"] == 60.0
    assert ledger.lag_s()["published"] == 60.0
    ledger.settle(stored(2), 60.0)
    ledger.publish(NOW + timedelta(seconds=2))
    clock.now += 60
    assert ledger.lag_s() == {"event": 0.0, "committed": 60.0, "published": 0.0}


def test_a_predecessors_row_is_timed_by_the_time_of_day(ledger: Ledger) -> None:
    """A row that another process stored has no reading of our clock."""
    ledger.publish(NOW - timedelta(seconds=7))
    assert ledger.lag_s()["published"] == 7.0


def test_unkeyed_and_evicted_are_counted(ledger: Ledger, registry: CollectorRegistry) -> None:
    """Neither a reading without a key nor a dead letter that made room goes unseen."""
    ledger.settle(stored(1, events=3), 0.0)
    ledger.evict(5)
    assert ledger.unkeyed == 3
    assert registry.get_sample_value("gateway_dead_letters_evicted_total") == 5
