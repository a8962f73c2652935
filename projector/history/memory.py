"""What of one stream is in memory: the rows after history's cursor, folded; the minute not over lies apart.

A minute is over when a row of a later one has come, by when rows were written: PostgreSQL's clock, which no
device moves. Rows written until then leave together, so that a device's minute is written once, but for what
was under way at its end, or comes late; that is added to it later. Whatever time a message claims, it leaves
with its row: nobody's clock holds up the cursor, which always stands between two rows.

What is in memory is also written when nothing has come for `QUIET_S`, when it is `LONGEST_S` old (a clock was
set back), and early when it has grown to `FLUSH_SIZE` or `FLUSH_ROWS`.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from projector.ahead import Ahead
from projector.history.minutes import Minutes
from projector.history.store import Span
from projector.views import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.events import EventBatch
    from projector.history.store import Stand
    from projector.meters import StreamMeters
    from runtime.http import Health

QUIET_S: Final = 15.0
LONGEST_S: Final = 90.0
FLUSH_SIZE: Final = 330_000  # a minute of a hundred thousand devices with two metrics
FLUSH_ROWS: Final = 10_000  # about 2 MB: rows without numbers have no size
MOST_SIZE: Final = 420_000  # about 45 MB: beyond that rows are left to the outbox
MOST_ROWS: Final = 15_000

_MINUTE: Final = len("2026-11-23T09:00")

log = structlog.get_logger()


class _Portion:
    """Consecutive rows.

    Attributes:
        minutes: what they amount to.
        seen: the rows.
        written: the newest minute in which one was written, by its text; the empty one before the first.
        oldest: when the first was written.
        since: when the first came, in seconds of the loop's clock.
    """

    def __init__(self) -> None:
        self.minutes = Minutes()
        self.seen: list[Seen] = []
        self.written = ""
        self.oldest: datetime | None = None
        self.since: float | None = None

    def add(self, row: EventBatch, now_s: float) -> None:
        """Add the next row."""
        self.minutes.add(row.events)
        self.seen.append(Seen(row.n, row.created_at))
        self.written = max(self.written, row.created_at[:_MINUTE])
        if self.since is None:
            self.since, self.oldest = now_s, datetime.fromisoformat(row.created_at)

    def absorb(self, later: _Portion) -> None:
        """Add the rows that follow; `later` is of no use any more."""
        self.minutes.absorb(later.minutes)
        self.seen += later.seen
        self.written = max(self.written, later.written)
        if self.since is None:
            self.since, self.oldest = later.since, later.oldest


class StreamMemory:
    """One stream's cursor, and what of it is in memory.

    Args:
        number: of the stream.
        at_once: whether the first rows are written as soon as they are there, their minute over or not.

    Attributes:
        cursor: the last row in PostgreSQL.
        end: the last row in memory.
        due: a row that had been committed a turn ago, so that waiting for it any longer is of no use.
        head: the last row committed, when last looked.
    """

    def __init__(self, number: int, meters: StreamMeters, now: datetime, *, at_once: bool) -> None:
        self.number = number
        self.meters = meters
        self.epoch = ""
        self.cursor = self.end = self.due = self.head = 0
        self._halted = False
        self._at_once = at_once
        self._looked_at = now
        self._over = _Portion()
        self._open = _Portion()
        self._leaving = _Portion()
        self._ahead = Ahead()
        self._news_s = 0.0
        self._waiting_since: datetime | None = None

    def stands(self, stand: Stand, cursor: int, now: datetime) -> None:
        """Note where the stream and history stand in PostgreSQL."""
        if (stand.epoch, cursor) != (self.epoch, self.cursor):
            self.epoch, self.cursor = stand.epoch, cursor
            self.end = cursor
            self._over, self._open, self._leaving = _Portion(), _Portion(), _Portion()
            self._ahead.clear()
            self.head = stand.head
        if stand.head <= self.end:
            self._ahead.clear()  # rows that PostgreSQL does not know are none of ours
        self.due, self.head = min(self.head, stand.head), stand.head
        self._looked_at = now
        self._waiting_since = stand.waiting_since
        self._note_lag()

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Fold the rows that follow `end`, as long as there is room; some that do not are kept for later."""
        if rows[0].epoch != self.epoch:
            return
        if rows[0].n > self.end + 1:
            self._ahead.hold(rows)
            return
        self._fold(rows)
        self._fold(self._ahead.after(self.end))

    @property
    def is_full(self) -> bool:
        """Whether it is time to write, the minute over or not."""
        return self._size >= FLUSH_SIZE or self._rows >= FLUSH_ROWS

    @property
    def is_due(self) -> bool:
        """Whether it is time to write anything."""
        return bool(self._over.seen) or self._leaves_whole

    @property
    def has_gap(self) -> bool:
        """Whether rows have come that do not follow: those before them will not come by themselves."""
        return bool(self._ahead)

    def hand_over(self, *, everything: bool) -> tuple[Span, Minutes]:
        """What is to be written: minutes that are over, or all if there are none or it has waited enough."""
        if everything or not self._over.seen or self._leaves_whole:
            self._close()
        leaving, self._over = self._over, _Portion()
        self._leaving = leaving
        self._waiting_since = leaving.oldest or self._waiting_since
        self._at_once = False
        last = leaving.seen[-1].n if leaving.seen else self.cursor
        return Span(self.number, self.epoch, self.cursor, last, leaving.seen), leaving.minutes

    def written(self, last: int) -> None:
        """Note that history has come to a row."""
        self.cursor = last
        self._leaving = _Portion()
        oldest = self._over.oldest or self._open.oldest
        self._waiting_since = oldest or self._waiting_since  # or later: the next look tells
        self._note_lag()

    def of_device(
        self, device_id: str, since: str, until: str
    ) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        """What the rows after the cursor say of a device (`Minutes.of_device`), those being written too."""
        portions = (self._leaving, self._over, self._open)
        return [row for each in portions for row in each.minutes.of_device(device_id, since, until)]

    def halt(self, detail: str, health: Health) -> None:
        """Stand still at a row that holds no events."""
        if not self._halted:
            log.error("history_halted", stream=self.number, cursor=self.cursor, detail=detail)
        self._halted = True
        health.set(f"history_{self.number}", "undecodable_row")

    def go_on(self, health: Health) -> None:
        """Note that nothing is in the way."""
        if self._halted:
            log.info("history_resumed", stream=self.number, cursor=self.cursor)
            self._halted = False
            health.set(f"history_{self.number}", None)

    def _fold(self, rows: Sequence[EventBatch]) -> None:
        now_s = asyncio.get_running_loop().time()
        for row in rows:
            if row.n <= self.end:
                continue
            if self._is_over_full:
                return
            if self._open.seen and row.created_at[:_MINUTE] > self._open.written:
                self._close()
            self._open.add(row, now_s)
            self.end, self._news_s = row.n, now_s

    @property
    def _leaves_whole(self) -> bool:
        if self._open.since is None:
            return False
        now_s = asyncio.get_running_loop().time()
        quiet, old = now_s >= self._news_s + QUIET_S, now_s >= self._open.since + LONGEST_S
        return self._at_once or quiet or old or (self.is_full and not self._over.seen)

    def _close(self) -> None:
        self._over.absorb(self._open)
        self._open = _Portion()

    @property
    def _size(self) -> int:
        return self._over.minutes.size + self._open.minutes.size

    @property
    def _rows(self) -> int:
        return len(self._over.seen) + len(self._open.seen)

    @property
    def _is_over_full(self) -> bool:
        return self._size >= MOST_SIZE or self._rows >= MOST_ROWS

    def _note_lag(self) -> None:
        head = max(self.head, self.cursor)
        behind_s = 0.0
        if head > self.cursor and self._waiting_since:
            behind_s = max(0.0, (self._looked_at - self._waiting_since).total_seconds())
        self.meters.history(self.cursor, head, behind_s, self._looked_at, held=self._size)
