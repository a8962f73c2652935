"""Rows of one stream that the topic brought and that wait to be applied. Pure.

The topic is a hint: whatever is thrown away here is read from PostgreSQL instead. So the backlog may lose
everything, but it never grows beyond its bound and never gives rows out of order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from projector.pace import first_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from contract.events import EventBatch


class Backlog:
    """Rows by position.

    Args:
        max_events: most events held; one more empties the backlog.

    Attributes:
        events: events held now.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._rows: dict[int, EventBatch] = {}
        self._arrived_at: dict[int, datetime] = {}
        self.events = 0

    def __len__(self) -> int:
        return len(self._rows)

    def offer(self, row: EventBatch, now: datetime) -> bool:
        """Hold a row until its turn; False when the backlog was full and was emptied, without the row too."""
        if self.events + len(row.events) > self._max_events and self._rows:
            self.clear()
            return False
        known = self._rows.get(row.n)
        self.events += len(row.events) - (len(known.events) if known else 0)
        self._rows[row.n] = row
        self._arrived_at.setdefault(row.n, now)
        return True

    def arrived_at(self, n: int) -> datetime | None:
        """When a row that is held came first; None for one that is not."""
        return self._arrived_at.get(n)

    def next_run(self, cursor: int) -> list[EventBatch]:
        """The rows that follow the cursor without a gap, as many as go into one call.

        They stay here until the cursor has passed them.
        """
        self._forget(cursor)
        return first_run(self._following(cursor))

    def has_gap(self, cursor: int) -> bool:
        """Whether rows wait, but not the one that follows the cursor."""
        self._forget(cursor)
        return bool(self._rows) and cursor + 1 not in self._rows

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._arrived_at.clear()
        self.events = 0

    def _following(self, cursor: int) -> Iterator[EventBatch]:
        n = cursor + 1
        while row := self._rows.get(n):
            yield row
            n += 1

    def _forget(self, cursor: int) -> None:
        for n in [n for n in self._rows if n <= cursor]:
            self.events -= len(self._rows.pop(n).events)
            del self._arrived_at[n]
