"""Rows of one stream that the topic brought beyond a gap: they follow once the gap has been read. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import EventBatch

HELD_EVENTS: Final = 8000  # what a flood brings while a page is read, several times


class Ahead:
    """The newest consecutive rows that do not follow yet, up to a number of events; others are read."""

    def __init__(self) -> None:
        self._rows: deque[EventBatch] = deque()
        self._events = 0

    def __bool__(self) -> bool:
        """Whether there is a gap: rows are held, and those before them have not come."""
        return bool(self._rows)

    def hold(self, rows: Iterable[EventBatch]) -> None:
        """Hold rows that do not follow; those before another gap make room, and the oldest."""
        for row in rows:
            if self._rows and row.n <= self._rows[-1].n:
                continue
            if self._rows and row.n > self._rows[-1].n + 1:
                self.clear()
            self._rows.append(row)
            self._events += len(row.events)
        while self._events > HELD_EVENTS:
            self._events -= len(self._rows.popleft().events)

    def after(self, n: int) -> list[EventBatch]:
        """Give the rows that follow that one; they are kept as long as they do not."""
        while self._rows and self._rows[0].n <= n:
            self._events -= len(self._rows.popleft().events)
        if not self._rows or self._rows[0].n != n + 1:
            return []
        rows = list(self._rows)
        self.clear()
        return rows

    def clear(self) -> None:
        """Forget all of them."""
        self._rows.clear()
        self._events = 0
