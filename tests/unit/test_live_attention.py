from __future__ import annotations

import pytest

from projector.live.attention import FLOOR_MS, UNKNOWN_MS, silent_after_ms, usual_ms

NOW = 1_795_000_000_000
MINUTE = 60_000


@pytest.mark.parametrize(
    ("usual", "limit"),
    [(None, UNKNOWN_MS), (0, FLOOR_MS), (1000, FLOOR_MS), (10 * MINUTE, 40 * MINUTE)],
)
def test_when_a_device_counts_as_silent(usual: int | None, limit: int) -> None:
    """After four of its own intervals, never before a minute; after a quarter of an hour without any."""
    assert silent_after_ms(usual) == limit


def test_usual_interval_is_the_median_of_the_minutes() -> None:
    """An outage, or late messages from long ago, do not change what is usual."""
    assert usual_ms([1, 20, 40, 41, 42, 43], first_seen_ms=None, last_seen_ms=0, samples=6) == MINUTE
    assert usual_ms([0, 30, 60], first_seen_ms=None, last_seen_ms=0, samples=3) == 30 * MINUTE


def test_usual_interval_of_who_sends_seldom() -> None:
    """Without two minutes in the last hour it is that of the device's whole life; one message has none."""
    day = 24 * 60 * MINUTE
    assert usual_ms([7], first_seen_ms=NOW - 10 * day, last_seen_ms=NOW, samples=11) == day
    assert usual_ms([7], first_seen_ms=NOW, last_seen_ms=NOW, samples=1) is None
    assert usual_ms([], first_seen_ms=None, last_seen_ms=NOW, samples=100) is None
