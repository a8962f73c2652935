"""One stream's way into the views: a state machine around its cursor.

The cursor in Redis is authoritative for what the views hold, PostgreSQL for what they should hold; the
topic only saves reading PostgreSQL. The follower applies

1. what the topic brought, as long as it follows the cursor;
2. else what PostgreSQL has, when rows wait behind a gap or the head has been ahead of the cursor for a
   moment, because the tail of a stream can be lost without showing a gap.

What it cannot apply step by step needs a rebuild of the views, and it says so and stands still: another
epoch than the views', a cursor beyond the head, or rows after the cursor that are no longer kept. The
consumer sees to the rebuild. The follower looks again whenever PostgreSQL is looked at, so it goes on by
itself.

A database that was restored to an older state may keep the epoch, and its head may pass the cursor before
anybody looks. So the views' cursor says when its row was written, rows applied are remembered, and at each
look PostgreSQL is asked whether it still has just these. If it has others, the views are given up and made
anew; at a start nothing is applied before that is known. The last row that was confirmed stays in the views
beside the cursor's, because a projector that ends between two looks may have crossed histories.

PostgreSQL away: rows from the topic flow on until there is a gap. Redis away: rows wait in the bounded
backlog. An answer of Redis that was lost leaves the outcome open; the script's guard settles it, as it does
between two projectors.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from projector.follow.backlog import Backlog
from projector.halts import MENDED_BY_REBUILD, TOLD_BY_MARK, UNUSABLE, mismatch, missing_rows
from projector.views import Cursor, Run, Seen
from projector.views.pace import first_run, linger_s
from runtime import faults
from runtime.errors import Reject, Retry
from runtime.lifecycle import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from contract.events import EventBatch
    from projector.halts import Halt
    from projector.meters import Meters
    from projector.outbox import Outbox, Position
    from projector.views import Outcome, Views
    from runtime.http import Health

PAGE_EVENTS: Final = 20_000  # read from PostgreSQL at once
SEEN_ROWS: Final = 10_000  # remembered until PostgreSQL has confirmed them: about 2 MB
BACKLOG_BYTES: Final = 8_000_000  # of JSON, some 40,000 events; in memory four times that

log = structlog.get_logger()


class Follower:
    """Follows one stream. Owned by the consumer, which tells it what it sees.

    Args:
        now: the time, for `updated_at` and for lag.
        heard: told of rows as they come from the topic or are read, for whoever else wants them.

    Attributes:
        mark: what Redis was last seen to hold.
        cursor: the last row known to be in the views; None before Redis was first seen.
        confirmed: the last row of which PostgreSQL has been asked whether it still has it; None before.
        epoch: of the rows in the views; None when they have none of the stream.
        unavailable: set when Redis did not answer; cleared by `on_mark`.
        halt: why it stands still; None while it follows.
    """

    def __init__(
        self,
        stream: int,
        *,
        views: Views,
        outbox: Outbox,
        health: Health,
        meters: Meters,
        now: Callable[[], datetime],
        heard: Callable[[list[EventBatch]], None],
    ) -> None:
        self.mark = Cursor(0, None)
        self.cursor: int | None = None
        self.epoch: str | None = None
        self.confirmed: Seen | None = None
        self.unavailable = False
        self._stream = stream
        self._views = views
        self._outbox = outbox
        self._health = health
        self._applying = Waiting("redis", health)
        self._meters = meters.of(stream)
        self._now = now
        self._heard = heard
        self._backlog = Backlog(BACKLOG_BYTES)
        self._position: Position | None = None
        self._due = 0
        self._may_read = False
        self._hurry = False
        self._trusted = False
        self._read: list[EventBatch] = []
        self._seen: deque[Seen] = deque(maxlen=SEEN_ROWS)
        self._confirmed = False
        self.halt: Halt | None = None
        self._wake = asyncio.Event()

    def offer(self, row: EventBatch, size_bytes: int) -> None:
        """Take a row from the topic, with the size of the message that it was."""
        self._heard([row])
        if self.cursor is not None and row.n <= self.cursor:
            self._meters.duplicates.inc()
        elif not self._backlog.offer(row, size_bytes, self._now()):
            self._meters.overflows.inc()
        self._wake.set()

    def on_mark(self, mark: Cursor, known: int | None) -> None:
        """Note what Redis holds.

        Args:
            mark: as read now.
            known: `cursor` from before the read. Less than that, and Redis has lost what it had.
        """
        self.mark = mark
        if mark.epoch in UNUSABLE:
            return
        if self.cursor is None and mark.confirmed and mark.confirmed.n < mark.n:
            self._seen.append(mark.confirmed)
        if self.cursor is None or known is None or mark.n < known or mark.n >= self.cursor:
            if known is not None and mark.n < known:
                log.warning("views_went_back", stream=self._stream, known=known, cursor=mark.n)
            self.cursor, self.epoch = mark.n, mark.epoch
            self._confirmed |= mark.n == 0
            if mark.written_at and not (self._seen and self._seen[-1].n == mark.n):
                self._seen.append(Seen(mark.n, mark.written_at))
        self.unavailable = False
        self._wake.set()

    def on_position(self, position: Position, mark: Cursor) -> None:
        """Note where the stream stands in PostgreSQL.

        Args:
            position: where it does.
            mark: what Redis was known to hold before that was asked. What came since is no mismatch.
        """
        self._due = self._position.head if self._position else position.head
        self._position = position
        self._may_read = True
        # Rows that wait, and nothing says since when: the cursor was not known when the stream was looked at.
        if self.cursor is not None and (position.waiting_since or self.cursor >= position.head):
            self._meters.position(self.cursor, position.head, position.waiting_since, self._now())
        if halt := mismatch(mark, position):
            self._stand_still(halt)
        elif self.halt in TOLD_BY_MARK or (self.halt is not None and mark.n == position.head):
            self._go_on()
        self._wake.set()

    @property
    def waits_for_look(self) -> bool:
        """Whether nothing is applied before PostgreSQL has been looked at."""
        return self.cursor is not None and not self._confirmed

    def unconfirmed(self) -> list[Seen]:
        """Rows in the views that PostgreSQL should have just as they were; the first it has had before."""
        return [] if self.halt in MENDED_BY_REBUILD else list(self._seen)

    def confirm(self, seen: list[Seen] | None) -> None:
        """Note that PostgreSQL has these rows, or none in their place; None when it was not asked."""
        if seen is None:
            return
        for row in seen[:-1]:  # the last stays: whatever is replaced after it, it is replaced too
            if self._seen and self._seen[0] == row:
                self._seen.popleft()
        if seen:
            self.confirmed = seen[-1]
        self._confirmed = True
        self._wake.set()

    @property
    def crossed(self) -> bool:
        """Whether the views hold rows that PostgreSQL has not, and it may write others in their place."""
        return self.halt == "cursor_beyond_head"

    def contradict(self) -> bool:
        """Note that PostgreSQL has another row; whether the views must be given up for that."""
        self._seen.clear()
        self._read = []
        self._confirmed = False
        return self.halt not in UNUSABLE.values()

    async def run(self) -> NoReturn:
        """Apply rows for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while run := await self._next_run():
                await self._apply(run)

    async def _next_run(self) -> list[EventBatch]:
        if self.cursor is None or self.unavailable or not self._confirmed:
            return []
        self._trusted = False
        if self.halt is None and (run := self._backlog.next_run(self.cursor)):
            self._hurry = self._due > run[-1].n or self._backlog.has_beyond(run[-1].n)
            return run
        self._hurry = True
        if self._read and self._read[0].n == self.cursor + 1:
            return self._read_run()
        missing = self._due > self.cursor or self._backlog.has_gap(self.cursor)
        return await self._read_missing(self.cursor) if missing and self._may_read else []

    async def _read_missing(self, cursor: int) -> list[EventBatch]:
        try:
            rows, position = await self._outbox.page(self._stream, cursor, PAGE_EVENTS)
        except Retry:
            self._may_read = False
            return []
        except Reject as error:
            log.error("outbox_row_undecodable", stream=self._stream, detail=error.detail)  # noqa: TRY400  # the detail says it
            self._stand_still("undecodable_row")
            return []
        if rows and rows[0].n == cursor + 1:
            self._meters.caught_up.inc(len(rows))
            self._heard(rows)
            self._read = rows
            return self._read_run()
        if position and position.head > cursor:
            self._stand_still(missing_rows(self.mark._replace(n=cursor)))
        else:
            self._backlog.clear()  # rows that PostgreSQL does not know are none of ours
            self._due = cursor
        return []

    def _read_run(self) -> list[EventBatch]:
        self._trusted = True
        run = first_run(self._read)
        self._read = self._read[len(run) :]
        return run

    async def _apply(self, rows: list[EventBatch]) -> None:
        events = list(chain.from_iterable(row.events for row in rows))
        run = Run(self._stream, rows[0].epoch, rows[0].n, rows[-1].n, events, rows[-1].created_at)
        faults.point("before_apply")
        try:
            with self._meters.apply_seconds.time():
                outcome = await self._views.apply(run, self._now())
        except Retry as error:
            self._applying.failed(error.reason)
            self.unavailable = True
            return
        except ValueError as error:
            if self._trusted:
                raise
            # Not what PostgreSQL holds, or it is as bad there: whichever, reading the row from there tells.
            log.warning("topic_row_unusable", stream=self._stream, first=rows[0].n, detail=str(error))
            self._backlog.clear()
            self._due = max(self._due, rows[-1].n)
            return
        self._applying.over()
        faults.point("after_apply")
        self._settle(outcome, rows)
        if not self._hurry:
            await asyncio.sleep(linger_s(sum(len(row.events) for row in rows)))

    def _settle(self, outcome: Outcome, rows: list[EventBatch]) -> None:
        self.cursor = outcome.cursor
        if outcome.status == "applied":
            self.epoch = rows[0].epoch
            self._meters.applied(rows, self._now(), self._backlog.arrived_at(rows[-1].n))
            log.debug(
                "run_applied",
                stream=self._stream,
                first=rows[0].n,
                last=rows[-1].n,
                events=sum(len(row.events) for row in rows),
            )
            if self.halt is not None:
                self._go_on()
            self._seen.extend(Seen(row.n, row.created_at) for row in rows)
            self._backlog.forget(outcome.cursor)  # before rows gather for the next run
        elif outcome.status in {"epoch", "lost"}:
            # Strays, another history, or views being replaced: which of them, the next looks tell.
            if outcome.status == "lost":
                log.warning("view_lost", key=outcome.key, stream=self._stream)
            else:
                log.warning("epoch_differs", stream=self._stream, epoch=rows[0].epoch, n=rows[0].n)
            self._backlog.clear()
            self._may_read = False
        elif outcome.status == "duplicate":
            self._meters.duplicates.inc(len(rows))
        else:
            self._meters.gaps.inc()

    def _stand_still(self, halt: Halt) -> None:
        self._may_read = False
        self._backlog.clear()
        self._read = []
        if halt == self.halt:
            return
        self.halt = halt
        needed = f"rebuild_needed: {halt}" if halt in MENDED_BY_REBUILD else halt
        self._health.set(f"stream_{self._stream}", needed)
        position = self._position
        log.error(
            "projection_halted",
            stream=self._stream,
            reason=halt,
            cursor=self.cursor,
            head=position.head if position else None,
        )

    def _go_on(self) -> None:
        if self.halt in MENDED_BY_REBUILD:
            self._seen.clear()  # of views that have been replaced since
        self.halt = None
        self._health.set(f"stream_{self._stream}", None)
        log.info("projection_resumed", stream=self._stream, cursor=self.cursor)
