from __future__ import annotations

import pytest

from gateway.simulate.pace import TICK_S, Pace


def test_falls_due_by_the_clock() -> None:
    """The first message is due at once and each next one a period later."""
    pace = Pace(100)
    assert [pace.due(t) for t in (0, 0.0099, 0.0101, 1.0001)] == [1, 1, 2, 101]


def test_a_number_of_messages_is_exact() -> None:
    """With a number of messages no more than that fall due, and it is over when they are made."""
    pace = Pace(100, messages=50)
    assert pace.due(3600) == 50
    assert not pace.over(3600, 49)
    assert pace.over(0, 50)


@pytest.mark.parametrize("seconds", [0.5, 0.505, 1, 7])
def test_seconds_times_rate_messages(seconds: float) -> None:
    """With a duration exactly rate x seconds messages fall due, however late the clock is looked at."""
    pace = Pace(100, seconds=seconds)
    assert max(pace.due(seconds * step / 1000) for step in range(1001)) == round(100 * seconds)
    assert pace.due(seconds) == pace.due(seconds + 60) == round(100 * seconds)
    assert pace.over(seconds, 0)
    assert not pace.over(seconds - 0.01, round(100 * seconds) - 1)


def test_waits_for_the_next_message_and_no_longer() -> None:
    """The wait ends with the next message's time or the end, and never spins."""
    pace = Pace(10, seconds=1)
    assert pace.next_in(0.0, 1) == pytest.approx(0.1)
    assert pace.next_in(0.95, 10) == pytest.approx(0.05)
    assert pace.next_in(0.5, 2) == TICK_S
