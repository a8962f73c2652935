"""The pure steps of the projector beside the fold."""

from __future__ import annotations

import pytest

from contract.events import Event, EventBatch
from projector.backlog import Backlog
from projector.follower import mismatch
from projector.outbox import Position
from projector.views import Cursor, Keys


def row(n: int, events: int = 1, epoch: str = "e") -> EventBatch:
    """An outbox row."""
    return EventBatch(1, 0, n, epoch, "", [Event("d", None, "", "", "", {})] * events)


def test_rows_leave_in_order() -> None:
    """Rows that come in any order, some twice, leave in order, and not again behind the cursor."""
    backlog = Backlog(100)
    for n in (3, 1, 2, 2, 5):
        assert backlog.offer(row(n))
    assert [each.n for each in backlog.next_run(0, 100)] == [1, 2, 3]
    assert not backlog.has_gap(0)
    assert backlog.next_run(3, 100) == []
    assert backlog.has_gap(3)
    assert (len(backlog), backlog.events) == (1, 1)


def test_run_is_bounded() -> None:
    """A run holds at least one row, else no more events than asked for."""
    backlog = Backlog(100)
    for n in (1, 2, 3):
        backlog.offer(row(n, events=10))
    assert [each.n for each in backlog.next_run(0, 20)] == [1, 2]
    assert [each.n for each in backlog.next_run(0, 5)] == [1]


def test_run_has_one_epoch() -> None:
    """Rows of two histories are never folded together."""
    backlog = Backlog(100)
    backlog.offer(row(1))
    backlog.offer(row(2, epoch="other"))
    assert [each.n for each in backlog.next_run(0, 100)] == [1]
    assert [each.n for each in backlog.next_run(1, 100)] == [2]


def test_full_backlog_is_thrown_away() -> None:
    """Memory is bounded: what does not fit empties the backlog; a single large row is still taken."""
    backlog = Backlog(25)
    assert backlog.offer(row(1, events=40))
    assert not backlog.offer(row(2, events=1))
    assert (len(backlog), backlog.events) == (0, 0)
    assert backlog.offer(row(3, events=20))
    assert backlog.has_gap(0)


@pytest.mark.parametrize(
    ("mark", "position", "halt"),
    [
        (Cursor(3, "e"), Position("e", 5), None),
        (Cursor(5, "e"), Position("e", 5), None),
        (Cursor(0, None), Position("e", 5), None),
        (Cursor(3, "e"), Position("other", 5), "epoch_changed"),
        (Cursor(6, "e"), Position("e", 5), "cursor_beyond_head"),
        (Cursor(6, "e"), Position("", 0), "cursor_beyond_head"),
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
