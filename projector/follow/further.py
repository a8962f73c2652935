"""The rows of a run: those it begins with, and those that are there when these have been added.

The further the views are behind, the more rows there are, and the more messages share what it costs to write
the view of a device. Rows that are read for that are handed on like all others. What fails here is left: the
run is written as it is, and the next step (`state`) finds out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from runtime.errors import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from contract.events import EventBatch
    from projector.follow.state import Apply, Course


class Further:
    """Gives a run's rows beyond the first, and notes all of them.

    Args:
        first: what the run begins with.
        read: reads rows after one from PostgreSQL, and hands them on; none when the next is not there.
        now: the time.

    Attributes:
        rows: of the run, of which only the last ones have their events still.
    """

    def __init__(
        self,
        first: Apply,
        course: Course,
        *,
        read: Callable[[int], Awaitable[list[EventBatch]]],
        now: Callable[[], datetime],
    ) -> None:
        self.rows = first.rows[:]
        self._events = [len(row.events) for row in first.rows]
        self._course = course
        self._read = read
        self._now = now
        self._last = len(first.rows)

    async def __call__(self, after: int) -> tuple[list[EventBatch], datetime]:
        """Give some rows that follow one, none when none are there; and the time."""
        found = self._course.following(after)
        if not found.rows and self._course.lacks(after):
            try:
                self._course.go_on(after, await self._read(after))
            except (Retry, Reject):
                return [], self._now()
            found = self._course.following(after)
        if not found.rows or found.rows[0].epoch != self.rows[0].epoch:
            return [], self._now()
        self.rows[-self._last :] = [replace(row, events=[]) for row in self.rows[-self._last :]]
        self.rows += found.rows
        self._events += [len(row.events) for row in found.rows]
        self._last = len(found.rows)
        return found.rows, self._now()

    def up_to(self, cursor: int) -> tuple[list[EventBatch], int]:
        """Those up to a row, at least the first, and how many events they had."""
        rows = [row for row in self.rows if row.n <= cursor] or self.rows[:1]
        return rows, sum(self._events[: len(rows)])
