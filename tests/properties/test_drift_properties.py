"""Whatever a device does with its messages, a right clock is not called wrong, and a wrong one is."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from projector.watch.drift import AHEAD, BEHIND, RIGHT, Drift

START = 1_795_945_200
MINUTE, HOUR, DAY = 60, 3600, 86_400
TOLERANCE = 300
SPAN = 3 * DAY


class Way(NamedTuple):
    """How a device's messages come.

    Attributes:
        interval: from one reading to the next, seconds.
        burst: readings are kept for so long and sent at once, the oldest first; 0 for none.
        delay: of each, at most.
        boots: at the start, how many come with a time from before the clock was set.
        glitch: at some second one message claims a time that is wrong by so much; None for none.
    """

    interval: int
    burst: int
    delay: int
    boots: int
    glitch: tuple[int, int] | None


ways = st.builds(
    Way,
    st.sampled_from([10, 60, 300, 900]),
    st.sampled_from([0, 0, 1800, 6 * HOUR]),
    st.integers(0, 60),
    st.integers(0, 3),
    st.none() | st.tuples(st.integers(0, SPAN), st.integers(-20 * DAY, 20 * 365 * DAY)),
)
backlogs = st.lists(st.tuples(st.integers(0, SPAN), st.sampled_from([600, HOUR, 9 * HOUR])), max_size=3)


def messages(way: Way, backlogs: list[tuple[int, int]], error: int) -> list[tuple[int, int]]:
    """When they come, and how late each is by a clock that is ahead by `error`."""
    found = []
    for n, measured in enumerate(range(way.interval, SPAN, way.interval)):
        at = measured + (n * 7) % (way.delay + 1)
        if way.burst:
            at = max(at, -(-measured // way.burst) * way.burst)
        for since, length in sorted(backlogs):
            if since <= at < since + length:
                at = since + length + (at - since) // 60  # all that waited, within a sixtieth of the time
        claimed = measured + error - (300 * DAY if n < way.boots else 0)
        found.append((at, at - claimed))
    if way.glitch:
        found.append(way.glitch)
    return sorted(found)


def levels(way: Way, backlogs: list[tuple[int, int]], error: int) -> list[int]:
    """What is said of the clock, one after another."""
    drift, said, minute = Drift(), [RIGHT], None
    for at, lag in messages(way, backlogs, error):
        if minute != (minute := (START + at) // MINUTE):
            drift.level = drift.next_minute(START + at, TOLERANCE)
            if drift.level != said[-1]:
                said.append(drift.level)
        drift.add(lag)
    return said


@settings(max_examples=150)
@given(ways, backlogs, st.integers(-TOLERANCE // 2, TOLERANCE // 2))
def test_a_clock_that_is_right_is_never_called_wrong(
    way: Way, backlogs: list[tuple[int, int]], error: int
) -> None:
    """Nor one that is off by half the tolerance, however its messages come."""
    assert levels(way, backlogs, error) == [RIGHT]


@settings(max_examples=150)
@given(ways, backlogs, st.sampled_from([-1, 1]), st.integers(2 * TOLERANCE, 365 * DAY))
def test_a_clock_that_is_wrong_is_called_so_once(
    way: Way, backlogs: list[tuple[int, int]], sign: int, error: int
) -> None:
    """However its messages come, and it stays so."""
    assert levels(way, backlogs, sign * error) == [RIGHT, AHEAD if sign > 0 else BEHIND]
