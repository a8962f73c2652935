"""The pure steps of the projector beside the fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from contract.events import Event, EventBatch, Scalar, format_time
from contract.views import OUTDATED, UNFINISHED
from projector.follow.backlog import Backlog
from projector.follow.state import Apply, Course, Read, State
from projector.halts import mismatch
from projector.lag import Times
from projector.meters import Meters
from projector.outbox import Page, Position
from projector.views import Cursor, Keys, Outcome, Seen
from projector.views.pace import first_part, is_enough, linger_s

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def row(
    n: int, events: int = 1, epoch: str = "e", device: str = "d", metrics: dict[str, Scalar] | None = None
) -> EventBatch:
    """An outbox row."""
    return EventBatch(1, 0, n, epoch, "", [Event(device, None, "", "", "", metrics or {})] * events)


def test_rows_leave_in_order() -> None:
    """Rows that come in any order, some twice, leave in order, and not again behind the cursor."""
    backlog = Backlog(100)
    for n in (3, 1, 2, 2, 5):
        assert backlog.offer(row(n), 1, NOON)
    assert [each.n for each in backlog.next_part(0)] == [1, 2, 3]
    assert not backlog.has_gap(0)
    assert backlog.next_part(3) == []
    assert backlog.has_gap(3)
    assert (len(backlog), backlog.size_bytes) == (1, 1)
    assert (backlog.arrived_at(3), backlog.arrived_at(5)) == (None, NOON)


def test_rows_being_applied_wait_for_their_end() -> None:
    """What is added to a run stays until the cursor has passed it, unless others need the room."""
    backlog = Backlog(10)
    for n in range(1, 5):
        assert backlog.offer(row(n, events=2000), 1, NOON)
    assert [each.n for each in backlog.further(1)] == [2, 3]
    assert [each.n for each in backlog.further(3)] == [4]
    assert [each.n for each in backlog.next_part(0)] == [1, 2]
    for n in (5, 6):
        assert backlog.offer(row(n, events=2000), 1, NOON)
    assert [each.n for each in backlog.further(3)] == [4, 5]
    assert (len(backlog), backlog.has_gap(0)) == (3, True)


def test_part_is_bounded() -> None:
    """A part of a run holds at least one row, else no more events and values than may be."""
    rows = [row(n, events=10) for n in (1, 2, 3)]
    assert [each.n for each in first_part(rows, 20)] == [1, 2]
    assert [each.n for each in first_part(rows, 5)] == [1]
    rows = [row(n, events=2, metrics={"t": 1, "u": 2}) for n in (4, 5, 6)]
    assert [each.n for each in first_part(rows, 11)] == [4]
    assert [each.n for each in first_part(rows, 12)] == [4, 5]
    assert first_part([], 1) == []


@pytest.mark.parametrize(
    ("metrics", "widest", "rows", "seconds", "others", "enough"),
    [
        (249_999, 999, 9999, 3.9, False, False),
        (250_000, 2, 1, 0.1, False, True),
        (2000, 1000, 1, 0.1, False, True),
        (2, 2, 10_000, 0.1, False, True),
        (2, 2, 1, 4.0, False, True),
        (2, 2, 1, 0.9, True, False),
        (2, 2, 1, 1.0, True, True),
    ],
)
def test_run_is_bounded(
    metrics: int, widest: int, rows: int, seconds: float, *, others: bool, enough: bool
) -> None:
    """A run ends when it has changed much, or much of one view, or has many rows, or has lasted."""
    assert is_enough(metrics, widest, rows, seconds, others=others) is enough


@pytest.mark.parametrize(
    ("events", "views", "seconds", "ms"),
    [
        (1, 1, 0.0, 0.0),
        (300, 300, 0.03, 0.0),  # 0.6, which is not worth waking up for
        (7200, 7200, 0.2, 1.7),
        (3000, 20, 0.1, 62.5),
        (12_000, 1000, 0.25, 250.0),
        (40_000, 10, 0.8, 250.0),
        (10_000, 10_000, 0.2, 1.7),
        (3000, 1000, 0.3, 15.6),  # ten thousand a second, and a stall of 0.3 s
        (12_000, 1000, 1.2, 43.4),  # of more than a second
        (6000, 100, 60.0, 0.0),  # after a silence
    ],
)
def test_busy_lingers(events: int, views: int, seconds: float, ms: float) -> None:
    """The faster messages come that share a view, the longer rows may gather, up to a bound."""
    assert round(1000 * linger_s(events, views, seconds), 1) == ms


def test_run_has_one_epoch() -> None:
    """Rows of two histories are never folded together."""
    backlog = Backlog(100)
    backlog.offer(row(1), 1, NOON)
    backlog.offer(row(2, epoch="other"), 1, NOON)
    assert [each.n for each in backlog.next_part(0)] == [1]
    assert [each.n for each in backlog.next_part(1)] == [2]


def test_progress_during_a_look_is_no_mismatch() -> None:
    """PostgreSQL is asked, then a row is committed and applied, then Redis is read: nobody is ahead."""
    course = Course()
    course.on_mark(Cursor(4, "e"), None)
    asked = course.asks()
    position = Position("e", 4)
    course.on_mark(Cursor(5, "e"), 4)
    assert not course.on_look(asked, position, replaced=False)
    assert course.state is State.FOLLOWING
    assert course.on_look(course.asks(), position, replaced=False), (
        "another row may come in place of the fifth"
    )
    assert (course.state, course.halt) == (State.HALTED, "cursor_beyond_head")


def test_views_made_anew_in_front_of_the_head_are_followed() -> None:
    """A cursor beyond the head, views made anew before it, and rows since: nothing is beyond any more."""
    course = Course()
    course.on_mark(Cursor(9, "e"), None)
    assert course.on_look(course.asks(), Position("e", 4), replaced=False)
    course.on_mark(Cursor(4, "e"), 9)
    assert not course.on_look(course.asks(), Position("e", 5), replaced=False)
    assert (course.state, course.halt) == (State.FOLLOWING, None)


def test_a_gap_is_read_at_once() -> None:
    """From the first mark to the topic's rows and past a gap: each state, and what is done in it."""
    course = Course()
    assert (course.state, course.step()) == (State.UNKNOWN, None)
    course.on_mark(Cursor(4, "e", "at 4"), None)
    course.offer(row(5), 1, NOON)
    assert (course.step(), course.state) == (None, State.UNCONFIRMED)
    asked = course.asks()
    assert asked.seen == [Seen(4, "at 4")]
    course.on_look(asked, Position("e", 4), replaced=False)
    assert course.step() == Apply([row(5)], is_read=False)
    course.applied([row(5)], Outcome("applied", 5))
    course.offer(row(7), 1, NOON)
    assert (course.step(), course.state) == (Read(5), State.CATCHING_UP)
    course.read(5, Page([row(6)], Position("e", 6)))
    assert course.step() == Apply([row(6)], is_read=True)
    course.applied([row(6)], Outcome("applied", 6))
    assert (course.step(), course.state) == (Apply([row(7)], is_read=False), State.FOLLOWING)


def test_views_made_anew_by_another_are_followed_while_rows_flow() -> None:
    """A row that was not kept any more is passed by another's rebuild: the head need not wait for us."""
    course = Course()
    course.on_mark(Cursor(4, "e"), None)
    course.on_look(course.asks(), Position("e", 9), replaced=False)
    assert course.step() == Read(4)
    course.read(4, Page([row(8), row(9)], Position("e", 9)))
    halts = [course.halt]
    course.on_look(course.asks(), Position("e", 12), replaced=False)
    halts.append(course.halt)
    course.on_mark(Cursor(12, "e"), 4)
    course.on_look(course.asks(), Position("e", 20), replaced=False)
    halts.append(course.halt)
    assert halts == ["cursor_too_old", "cursor_too_old", None]
    assert course.state is State.FOLLOWING
    course.offer(row(13), 1, NOON)
    assert course.step() == Apply([row(13)], is_read=False)


def test_what_is_not_believed_is_read_at_the_next_look() -> None:
    """A hint makes the head due at once, which is due a look later otherwise; it holds for one look."""
    course = Course()
    course.on_mark(Cursor(4, "e"), None)
    course.on_look(course.asks(), Position("e", 4), replaced=False)
    course.hint()
    course.on_look(course.asks(), Position("e", 5), replaced=False)
    assert course.step() == Read(4)
    course.read(4, Page([row(5)], Position("e", 5)))
    course.applied([row(5)], Outcome("applied", 5))
    course.on_mark(Cursor(5, "e"), 5)
    course.on_look(course.asks(), Position("e", 6), replaced=False)
    assert course.step() is None
    course.on_look(course.asks(), Position("e", 6), replaced=False)
    assert course.step() == Read(5)


def test_what_was_under_way_ends_no_halt() -> None:
    """A run that Redis takes while a look finds the views beyond the head does not let them go on."""
    course = Course()
    course.on_mark(Cursor(4, "e"), None)
    course.on_look(course.asks(), Position("e", 4), replaced=False)
    course.offer(row(5), 1, NOON)
    run = course.step()
    assert isinstance(run, Apply)
    assert course.on_look(course.asks(), Position("e", 2), replaced=False)
    course.applied(run.rows, Outcome("applied", 5))
    assert (course.state, course.halt, course.step()) == (State.HALTED, "cursor_beyond_head", None)


def test_a_page_that_was_asked_for_before_is_left() -> None:
    """Another projector went on and rows were trimmed, or PostgreSQL has another row: no reason to halt."""
    for replaced in (False, True):
        course = Course()
        course.on_mark(Cursor(4, "e"), None)
        course.on_look(course.asks(), Position("e", 6), replaced=False)
        assert course.step() == Read(4)
        if replaced:
            assert course.on_look(course.asks(), Position("e", 6), replaced=True)
        else:
            course.on_mark(Cursor(5, "e"), 4)
        course.read(4, Page([row(6)], Position("e", 6)))
        assert (course.state, course.step()) == (
            (State.UNCONFIRMED, None) if replaced else (State.CATCHING_UP, Read(5))
        )


def test_a_full_backlog_takes_no_more() -> None:
    """Memory is bounded: what does not fit is left to PostgreSQL, what is held leaves in its turn."""
    backlog = Backlog(25)
    assert backlog.offer(row(1), 40, NOON), "a row by itself is taken, however large"
    assert not backlog.offer(row(2), 1, NOON)
    assert backlog.next_part(1) == []
    assert (len(backlog), backlog.size_bytes) == (0, 0)
    assert backlog.offer(row(3), 20, NOON)
    assert backlog.offer(row(3), 24, NOON), "in place of itself"
    assert backlog.offer(row(4), 1, NOON)
    assert not backlog.offer(row(5), 1, NOON)
    assert [each.n for each in backlog.next_part(2)] == [3, 4]
    assert [each.n for each in backlog.next_part(3)] == [4]
    assert not backlog.offer(row(6), 1, NOON), "after a gap there would be another"
    assert not backlog.has_gap(3)
    assert backlog.has_gap(4), "it came, and is to be read"
    assert (backlog.has_beyond(5), backlog.has_beyond(6)) == (True, False)
    assert backlog.next_part(4) == []
    assert backlog.offer(row(7), 1, NOON)
    assert backlog.has_gap(4)


def test_a_row_far_ahead_does_not_close_the_backlog() -> None:
    """What is held behind the first gap makes room, or a stray would hold up all that follows."""
    backlog = Backlog(10)
    assert backlog.offer(row(1000), 1, NOON)
    for n in range(1, 10):
        assert backlog.offer(row(n), 1, NOON)
    assert not backlog.offer(row(10), 1, NOON)
    assert backlog.offer(row(9), 2, NOON), "it is here already"
    backlog.forget(9)
    assert (len(backlog), backlog.size_bytes) == (0, 0)
    assert backlog.offer(row(11), 1, NOON)
    assert backlog.has_gap(9)


@pytest.mark.parametrize(
    ("mark", "position", "halt"),
    [
        (Cursor(3, "e"), Position("e", 5), None),
        (Cursor(5, "e"), Position("e", 5), None),
        (Cursor(0, None), Position("e", 5), None),
        (Cursor(3, "e"), Position("other", 5), "epoch_changed"),
        (Cursor(6, "e"), Position("e", 5), "cursor_beyond_head"),
        (Cursor(6, "e"), Position("", 0), "cursor_beyond_head"),
        (Cursor(3, UNFINISHED), Position("e", 5), "swap_unfinished"),
        (Cursor(0, UNFINISHED), Position("", 0), "swap_unfinished"),
        (Cursor(3, OUTDATED), Position("e", 5), "views_outdated"),
    ],
)
def test_mismatch(mark: Cursor, position: Position, halt: str | None) -> None:
    """Views of another history, or ahead of it, cannot follow the stream step by step."""
    assert mismatch(mark, position) == halt


def test_keys_are_the_documented_ones() -> None:
    """Dashboards and scripts name these keys; a prefix goes before every one of them."""
    keys = Keys("{edge}:")
    assert keys.device("d-1") == "{edge}:device:stats:d-1"
    assert keys.region("north") == "{edge}:region:stats:north"
    assert keys.last_seen == "{edge}:devices:last_seen"
    assert keys.cursor == "{edge}:projector:cursor"


def seconds_after(seconds: float) -> datetime:
    """A time past noon."""
    return NOON + timedelta(seconds=seconds)


def stored(n: int, committed: float) -> EventBatch:
    """A row of which the newest event happened at noon and was received a second later."""
    events = [
        Event("d", None, format_time(seconds_after(late)), format_time(seconds_after(1)), "k", {})
        for late in (-60, 0, -3600)
    ]
    return EventBatch(1, 0, n, "e", format_time(seconds_after(committed)), events)


def test_lag_of_each_step() -> None:
    """Each step's lag is what the newest event of the last row took from the step before."""
    meters = Meters(CollectorRegistry())
    stream = meters.of(0)
    stream.applied([stored(1, 1.25)], seconds_after(2), seconds_after(1.5))
    (lag,) = meters.lag().streams
    assert lag.lag_seconds == {"received": 1.0, "committed": 0.25, "published": 0.25, "projected": 0.5}
    assert lag.newest == Times(*(format_time(seconds_after(at)) for at in (0, 1, 1.25, 1.5, 2)))
    stream.applied([stored(2, 1.25)], seconds_after(3), None)
    (lag,) = meters.lag().streams
    assert lag.lag_seconds == {"received": 1.0, "committed": 0.25, "published": None, "projected": 1.75}


def test_behind_since_the_oldest_row_lacking() -> None:
    """A stream is behind for as long as its oldest missing row is there, however lately that was noticed."""
    meters = Meters(CollectorRegistry())
    stream = meters.of(0)
    stream.applied([stored(1, 1)], seconds_after(2), None)
    stream.position(1, 1, None, seconds_after(3600))
    assert (stream.behind_rows, stream.behind_s) == (0, 0.0)
    stream.position(1, 3, seconds_after(600), seconds_after(3601))
    assert (stream.behind_rows, stream.behind_s) == (2, 3001.0)
    stream.applied([stored(2, 600)], seconds_after(3604), None)
    stream.position(2, 3, seconds_after(3602), seconds_after(3604))
    assert (stream.behind_rows, stream.behind_s) == (1, 2.0)
    (lag,) = meters.lag().streams
    assert (lag.behind_rows, lag.behind_seconds) == (1, 2.0)
    stream.position(2, 3, seconds_after(3605), seconds_after(3604))
    assert stream.behind_s == 0.0, "clocks differ"
