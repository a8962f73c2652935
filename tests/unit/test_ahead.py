"""Rows beyond a gap: consecutive, bounded, given once they follow."""

from __future__ import annotations

from contract.events import VERSION, Event, EventBatch
from projector.ahead import HELD_EVENTS, Ahead

AT = "2026-11-23T09:00:00.000000Z"


def rows(*numbers: int, events: int = 1) -> list[EventBatch]:
    """Rows of one stream."""
    return [
        EventBatch(VERSION, 0, n, "e", AT, [Event("a", None, AT, AT, "k", {"t": 1})] * events)
        for n in numbers
    ]


def given(ahead: Ahead, n: int) -> list[int]:
    """The numbers of the rows that follow one."""
    return [row.n for row in ahead.after(n)]


def test_kept_until_they_follow() -> None:
    """What was read up to them, or beyond some of them, makes them follow; they are given once."""
    ahead = Ahead()
    ahead.hold(rows(5, 6))
    ahead.hold(rows(7, 8))
    assert given(ahead, 3) == []
    assert given(ahead, 6) == [7, 8]
    assert given(ahead, 6) == []


def test_one_gap_only() -> None:
    """Rows that come twice are kept once; behind another gap the newer ones are worth more."""
    ahead = Ahead()
    ahead.hold(rows(5, 6, 6, 5))
    assert given(ahead, 4) == [5, 6]
    ahead.hold(rows(5, 6, 9))
    assert given(ahead, 4) == []
    assert given(ahead, 8) == [9]


def test_the_oldest_make_room() -> None:
    """So many events are held; a row that has more than that by itself is read."""
    ahead = Ahead()
    ahead.hold(rows(*range(1, 12), events=HELD_EVENTS // 10))
    assert given(ahead, 0) == []
    assert given(ahead, 1) == list(range(2, 12))
    ahead.hold(rows(20, events=HELD_EVENTS + 1))
    assert given(ahead, 19) == []


def test_nothing_is_left_after_clear() -> None:
    """Rows of another history are forgotten."""
    ahead = Ahead()
    ahead.hold(rows(2, 3))
    ahead.clear()
    assert given(ahead, 1) == []
