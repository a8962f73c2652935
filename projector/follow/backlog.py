"""Rows of one stream that the topic brought and that wait to be applied. Pure.

The topic is a hint: whatever is not held here is read from PostgreSQL instead. So the backlog may lose
everything, but it never grows beyond its bound and never gives rows out of order. What it had no room
for leaves a gap, so it takes nothing more until what it holds is gone: one gap is read at once, many one by
one.
"""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING, NamedTuple

from projector.views.pace import first_part

if TYPE_CHECKING:
    from datetime import datetime

    from contract.events import EventBatch


class _Held(NamedTuple):
    """A row with the size that it came with, and when it came first."""

    row: EventBatch
    size_bytes: int
    arrived_at: datetime


class Backlog:
    """Rows by position.

    Args:
        max_bytes: most bytes held, as the rows came; a row by itself is held whatever its size.

    Attributes:
        size_bytes: held now.
        newest: of the rows that came, held or not.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: dict[int, _Held] = {}
        self.newest = 0
        self._closed = False
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def offer(self, row: EventBatch, size_bytes: int, now: datetime) -> bool:
        """Hold a row until its turn; False when there is no room for it."""
        known = self._rows.get(row.n)
        grown = self.size_bytes + size_bytes - (known.size_bytes if known else 0)
        self.newest = max(self.newest, row.n)
        closed = bool(self._rows) and (self._closed or grown > self._max_bytes)
        if closed and known:
            return True
        if closed and not self._closed:
            self._drop([n for n in self._rows if n > row.n])  # behind the gap: they would keep it closed
        self._closed = closed
        if closed:
            return False
        self.size_bytes = grown
        self._rows[row.n] = _Held(row, size_bytes, known.arrived_at if known else now)
        return True

    def arrived_at(self, n: int) -> datetime | None:
        """When a row that is held came first; None for one that is not."""
        held = self._rows.get(n)
        return held.arrived_at if held else None

    def next_part(self, cursor: int) -> list[EventBatch]:
        """The rows that follow the cursor without a gap, as many as are added at once.

        They stay here until the cursor has passed them.
        """
        self.forget(cursor)
        return self._part(cursor)

    def further(self, after: int) -> list[EventBatch]:
        """The same of those that follow a row that is being applied.

        It and those before it stay too, unless they take half of the room that others need.
        """
        if self.size_bytes > self._max_bytes // 2:
            self.forget(after)
        return self._part(after)

    def has_gap(self, cursor: int) -> bool:
        """Whether rows after the cursor have come, and the one that follows it is not here."""
        return self.has_beyond(cursor) and cursor + 1 not in self._rows

    def has_beyond(self, n: int) -> bool:
        """Whether a row after that one has come."""
        return self.newest > n

    def forget(self, cursor: int) -> None:
        """Make room: rows up to the cursor have been applied."""
        self._drop([n for n in self._rows if n <= cursor])

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self.newest = self.size_bytes = 0

    def _part(self, after: int) -> list[EventBatch]:
        return first_part(self._rows[n].row for n in takewhile(self._rows.__contains__, count(after + 1)))

    def _drop(self, rows: list[int]) -> None:
        for n in rows:
            self.size_bytes -= self._rows.pop(n).size_bytes
