"""Whose clock is wrong, told from who stores and forwards."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from projector.watch.drift import AHEAD, BEHIND, CLOCKS, MINUTES, RIGHT, WINDOW_S, Drift, claimed_s

if TYPE_CHECKING:
    from collections.abc import Iterable

START = 1_795_945_200
MINUTE, HOUR, DAY = 60, 3600, 86_400
TOLERANCE = 300


def judged(messages: Iterable[tuple[int, int]], drift: Drift | None = None) -> list[str]:
    """The levels one after another, without repetition, of messages that came at a second, so late."""
    drift = Drift() if drift is None else drift
    levels, minute = [drift.level], None
    for at, lag in messages:
        if minute != (minute := (START + at) // MINUTE):
            drift.level = drift.next_minute(START + at, TOLERANCE)
            if drift.level != levels[-1]:
                levels.append(drift.level)
        drift.add(lag)
    return [CLOCKS[level] for level in levels]


def each(interval: int, lag: int, *, since: int = 0, until: int = DAY) -> list[tuple[int, int]]:
    """A message each so many seconds, each so late."""
    return [(at, lag) for at in range(since, until, interval)]


@pytest.mark.parametrize("interval", [1, 10, 60, 900, HOUR])
@pytest.mark.parametrize(
    ("lag", "level"),
    [
        (0, RIGHT),
        (TOLERANCE, RIGHT),
        (-TOLERANCE, RIGHT),
        (TOLERANCE + 1, BEHIND),
        (-TOLERANCE - 1, AHEAD),
        (56 * 365 * DAY, BEHIND),
        (-73 * 365 * DAY, AHEAD),
    ],
)
def test_a_clock_that_is_wrong_all_the_time(interval: int, lag: int, level: int) -> None:
    """Ahead or behind by more than the tolerance, or hopelessly, however often it sends."""
    drift = Drift()
    assert judged(each(interval, lag), drift) == list(dict.fromkeys(["right", CLOCKS[level]]))
    assert drift.error_s == (None if level == RIGHT else -lag)


def test_it_takes_two_windows() -> None:
    """Of ten minutes for who sends each minute, of three messages for who sends each hour."""
    for interval, needed in ((MINUTE, 2 * WINDOW_S), (HOUR, 2 * MINUTES * HOUR)):
        assert judged(each(interval, HOUR, until=needed)) == ["right"]
        assert judged(each(interval, HOUR, until=needed + 1)) == ["right", "behind"]


def test_three_messages_at_boot_say_nothing() -> None:
    """A device that has not set its clock yet sends some with the time of its build."""
    assert judged([*each(1, 300 * DAY, until=3), *each(MINUTE, 2, since=60)]) == ["right"]
    assert judged([*each(20, 300 * DAY, until=180), *each(MINUTE, 2, since=180)]) == ["right"]


@pytest.mark.parametrize("lag", [-20 * HOUR, 20 * 365 * DAY, -20 * 365 * DAY])
def test_one_glitch_says_nothing(lag: int) -> None:
    """One message with a wrong time makes no clock wrong, one with a right time none right."""
    glitch = [(12 * HOUR + 30, lag)]
    assert judged(sorted([*each(MINUTE, 1), *glitch])) == ["right"]
    drift = Drift()
    assert judged(sorted([*each(MINUTE, HOUR), (12 * HOUR + 30, 0)]), drift) == ["right", "behind"]


def test_the_clock_is_set_right() -> None:
    """It is right once two windows are within half the tolerance; what is between changes nothing."""
    wrong = each(MINUTE, HOUR, until=HOUR)
    assert judged([*wrong, *each(MINUTE, 1, since=HOUR)]) == ["right", "behind", "right"]
    assert judged([*wrong, *each(MINUTE, TOLERANCE // 2, since=HOUR)]) == ["right", "behind", "right"]
    assert judged([*wrong, *each(MINUTE, TOLERANCE // 2 + 1, since=HOUR)]) == ["right", "behind"]
    assert judged([*wrong, *each(MINUTE, -HOUR, since=HOUR)]) == ["right", "behind", "ahead"]


def test_a_clock_about_the_tolerance_does_not_flap() -> None:
    """Some seconds more and less than the tolerance, for a day."""
    lags = [TOLERANCE - 20, TOLERANCE + 20]
    assert len(judged([(at, lags[at // HOUR % 2]) for at in range(0, DAY, MINUTE)])) <= 2


@pytest.mark.parametrize("uploads_s", [1, 120, 1800, 4 * HOUR])
@pytest.mark.parametrize("interval", [MINUTE, 15 * MINUTE])
def test_store_and_forward_is_no_drift(uploads_s: int, interval: int) -> None:
    """What was measured in twelve hours comes within a time, the oldest first, and so each twelve hours."""
    messages = []
    for burst in range(12 * HOUR, 10 * DAY, 12 * HOUR):
        stored = range(burst - 12 * HOUR + interval, burst + 1, interval)
        for n, measured in enumerate(stored):
            at = burst + uploads_s * n // len(stored)
            messages.append((at, at - measured))
    assert judged(messages) == ["right"]


def test_a_store_and_forward_device_with_a_wrong_clock_is_known() -> None:
    """Its newest message is as late as its clock is behind."""
    messages = [
        (burst, HOUR + late) for burst in range(HOUR, 3 * DAY, HOUR) for late in range(HOUR, 0, -MINUTE)
    ]
    drift = Drift()
    assert judged(messages, drift) == ["right", "behind"]
    assert drift.error_s == -HOUR - MINUTE


@pytest.mark.parametrize("pace", [1.06, 1.1, 1.25, 2, 5, 100])
def test_a_backlog_is_no_drift(pace: float) -> None:
    """Somebody catches up on half a day, by so much faster than he measures; then he sends as usual."""
    over = int(DAY / 2 / (pace - 1))
    catching = [(at, 1 + DAY // 2 - int(at * (pace - 1))) for at in range(0, over, 10)]
    assert judged([*catching, *each(MINUTE, 1, since=over, until=over + DAY)]) == ["right"]


def test_it_takes_little_room() -> None:
    """Hundreds of thousands are kept."""
    tracemalloc.start()
    try:
        drifts = [Drift() for _ in range(1000)]
        for n, drift in enumerate(drifts):
            judged(each(MINUTE, 1000 + n, until=HOUR), drift)
        assert tracemalloc.get_traced_memory()[0] < 1000 * 160
    finally:
        tracemalloc.stop()


def test_a_clock_that_stands_still_is_behind() -> None:
    """Its lag grows as time goes on."""
    assert judged([(at, at) for at in range(0, DAY, MINUTE)]) == ["right", "behind"]


def test_what_was_found_out_before_is_known_until_two_windows_say_otherwise() -> None:
    """A restart begins with what was told; how wrong the clock is shows with the first message."""
    drift = Drift()
    drift.level = BEHIND
    errors = [drift.error_s]
    drift.add(HOUR)
    errors.append(drift.error_s)
    assert errors == [None, -HOUR]
    assert judged(each(MINUTE, 1, until=2 * WINDOW_S), drift) == ["behind"]


def test_a_gateways_clock_that_is_set_back_ends_a_window() -> None:
    """Time that goes back holds nothing up."""
    back = [(at - DAY, lag) for at, lag in each(MINUTE, HOUR, until=HOUR)]
    assert judged([*each(MINUTE, 1, until=HOUR), *back]) == ["right", "behind"]


@pytest.mark.parametrize(
    ("claimed", "seconds"),
    [
        ("0", 0),
        ("1795945200", START),
        ("1795945200.5", START + 0.5),
        ("1795945200000", START),
        ("1795945200000000", START),
        ("1795945200000000000", START),
        ("1970-01-01T00:00:07Z", 7),
        ("1970-01-01 00:00:07", 7),
        ("2099-01-01T00:00:00+01:00", 4_070_905_200),
        ("n/a", None),
        ("", None),
        ("-1", None),
        ("9" * 21, None),
        ("٣", None),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200),
    ],
)
def test_times_that_were_not_believed(claimed: str, seconds: float | None) -> None:
    """Those that are plain are read; what is none says nothing."""
    assert claimed_s(claimed) == seconds
