"""Keeps history up with the streams, lazily, within bounds.

Rows come by themselves when the views have been given them (`take`); what does not come within a turn is read
from the outbox. Both are folded into memory and written when the oldest of it is `FLUSH_S` old or it grows
large. What is in memory is worth nothing: whenever anything goes wrong (PostgreSQL away, an answer lost, the
cursor moved by another projector, a rebuild or a restored backup), it is forgotten, and the stream goes on
from its cursor with the outbox, whose rows stay until history has them.

So history waits while PostgreSQL is away, and the views go on; while Redis is away, it is the other way
round. While somebody makes history anew it waits too, and keeps what is in memory.
A history that cannot go on from its cursor is mended as a whole (`audit.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

import asyncpg
import structlog

from projector.history.minutes import Minutes
from projector.history.store import Rebuilding, Span, add
from projector.views import Seen
from runtime.errors import Reject
from runtime.lifecycle import Waiting, keep_trying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from contract.events import EventBatch
    from projector.history.audit import Auditor
    from projector.history.store import Mean, Stand, Store
    from projector.meters import Meters, StreamMeters
    from projector.outbox import Outbox
    from runtime.http import Health

TURN_S: Final = 1.0
FLUSH_S: Final = 10.0
FLUSH_CELLS: Final = 50_000  # ten thousand devices with two metrics fit
FLUSH_ROWS: Final = 10_000  # about 2 MB: rows without numbers have no cells
MOST_ROWS: Final = 15_000
MOST_CELLS: Final = 60_000  # about 25 MB: beyond that rows are left to the outbox
PAGE_EVENTS: Final = 4000

log = structlog.get_logger()


class Recorder:
    """Records every stream into one history.

    Args:
        outbox: for what does not come by itself.
        auditor: mends what cannot be followed.
        shown: told the minutes of the last hour that were written; may take its time.
        now: the time, for saying how current history is.
    """

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        *,
        auditor: Auditor,
        shown: Callable[[list[Mean]], Awaitable[None]],
        health: Health,
        meters: Meters,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._auditor = auditor
        self._shown = shown
        self._health = health
        self._meters = meters
        self._now = now
        self._streams: dict[int, _Stream] = {}
        self._waiting = Waiting("history", health)
        self._wake = asyncio.Event()

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream; what does not follow what is there is left to the outbox."""
        stream = self._streams.get(rows[0].stream)
        if stream is not None:
            stream.take(rows)
            if stream.is_full:
                self._wake.set()

    async def run(self) -> NoReturn:
        """Record until cancelled."""
        while True:
            await keep_trying("postgres", self.turn, self._health)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._wake.wait()
            self._wake.clear()

    async def turn(self, *, flush: bool = False) -> None:
        """Read what did not come by itself, and write what is due, or all with `flush`.

        Raises:
            Retry: PostgreSQL is away.
        """
        try:
            for number, stand in (await self._store.look()).items():
                if stand.cursor is None or stand.cursor > stand.head:
                    await self._begin(number, stand)
                    continue
                now = self._now()
                stream = self._streams.setdefault(number, _Stream(number, self._meters.of(number), now))
                stream.stands(stand, stand.cursor, now)
                await self._catch_up(stream)
                if self._streams.get(number) is stream and (flush or stream.is_due()):
                    await self._flush(stream)
            self._waiting.over()
        except asyncpg.DataError as error:  # of a row that the topic brought; the outbox's are looked at
            self._waiting.failed(f"postgres refuses what is to be added: {error}")
            self._streams.clear()
        except Rebuilding as error:  # what is in memory stays there; what does not fit is left to the outbox
            self._waiting.failed(error.reason)
        except BaseException:  # cancelled or not: what was handed over may be written or not
            self._streams.clear()
            raise

    async def _begin(self, number: int, stand: Stand) -> None:
        self._streams.pop(number, None)
        if stand.cursor is not None or not await self._store.begin(number):
            await self._mend("cursor_beyond_head" if stand.cursor else "cursor_missing")

    async def _catch_up(self, stream: _Stream) -> None:
        while stream.end < stream.due:
            after = stream.end
            try:
                page = await self._outbox.page(stream.number, after, PAGE_EVENTS)
            except Reject as error:
                stream.halt(error.detail, self._health)
                return
            if not page.rows or page.rows[0].n != after + 1:
                await self._mend("cursor_too_old")
                return
            stream.take(page.rows)
            if stream.is_full:
                await self._flush(stream)
            if stream.end <= after or self._streams.get(stream.number) is not stream:
                return  # another history, or history has been moved: the next turn looks again
        stream.go_on(self._health)

    async def _flush(self, stream: _Stream) -> None:
        if stream.end == stream.cursor:
            return
        with stream.meters.history_write_seconds.time():
            async with self._store.turn() as connection:
                span, minutes = stream.hand_over()
                means = await add(connection, span, minutes)
        if means is None:
            log.warning("history_moved", stream=span.stream, cursor=span.after, last=span.last)
            self._streams.pop(span.stream, None)
            return
        stream.written(span.last)
        log.debug("history_written", stream=span.stream, last=span.last, cells=minutes.cells)
        await self._shown(means)

    async def _mend(self, reason: str) -> None:
        self._streams.clear()
        self._health.set("history", "rebuilding")
        try:
            await self._auditor.mend(reason)
        finally:
            self._health.set("history", None)


class _Stream:
    """One stream's cursor, and what of it is in memory.

    Attributes:
        cursor: the last row in PostgreSQL.
        end: the last row in memory.
        due: a row that had been committed a turn ago, so that waiting for it any longer is of no use.
        minutes: what the rows between amount to.
    """

    def __init__(self, number: int, meters: StreamMeters, now: datetime) -> None:
        self.number = number
        self.meters = meters
        self.minutes = Minutes()
        self.epoch = ""
        self.cursor = self.end = self.due = 0
        self._head = 0
        self._halted = False
        self._at_once = True
        self._since: float | None = None
        self._looked_at = now
        self._seen: list[Seen] = []
        self._oldest: datetime | None = None  # when the first row in memory was written
        self._waiting_since: datetime | None = None

    def stands(self, stand: Stand, cursor: int, now: datetime) -> None:
        """Note where the stream and history stand in PostgreSQL."""
        if (stand.epoch, cursor) != (self.epoch, self.cursor):
            self.epoch, self.cursor = stand.epoch, cursor
            self._forget(cursor)
            self._head = stand.head
            self._at_once = True
        self.due, self._head = min(self._head, stand.head), stand.head
        self._looked_at = now
        self._waiting_since = stand.waiting_since
        self._note_lag()

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Fold the rows that follow `end`, when they do."""
        if rows[0].n > self.end + 1 or rows[0].epoch != self.epoch or self._is_over_full:
            return
        fresh = [row for row in rows if row.n > self.end]
        if fresh:
            self.minutes.add(event for row in fresh for event in row.events)
            self.end = fresh[-1].n
            self._seen += [Seen(row.n, row.created_at) for row in fresh]
            self._since = self._since or asyncio.get_running_loop().time()
            self._oldest = self._oldest or datetime.fromisoformat(fresh[0].created_at)

    @property
    def is_full(self) -> bool:
        """Whether it is time to write, however young it is."""
        return self.minutes.cells >= FLUSH_CELLS or len(self._seen) >= FLUSH_ROWS

    @property
    def _is_over_full(self) -> bool:
        return self.minutes.cells >= MOST_CELLS or len(self._seen) >= MOST_ROWS

    def is_due(self) -> bool:
        """Whether it is time to write; at once what had been missing when the stream was first looked at."""
        return self._since is not None and (
            self._at_once or self.is_full or asyncio.get_running_loop().time() >= self._since + FLUSH_S
        )

    def hand_over(self) -> tuple[Span, Minutes]:
        """What is in memory; what comes from now on is for the next time."""
        span, minutes = Span(self.number, self.epoch, self.cursor, self.end, self._seen), self.minutes
        self._waiting_since = self._oldest or self._waiting_since
        self._forget(self.end)
        self._at_once = False
        return span, minutes

    def written(self, last: int) -> None:
        """Note that history has come to a row."""
        self.cursor = last
        self._waiting_since = self._oldest or self._waiting_since  # or later: the next look tells
        self._note_lag()

    def halt(self, detail: str, health: Health) -> None:
        """Stand still at a row that holds no events."""
        if not self._halted:
            log.error("history_halted", stream=self.number, cursor=self.end, detail=detail)
        self._halted = True
        health.set(f"history_{self.number}", "undecodable_row")

    def go_on(self, health: Health) -> None:
        """Note that nothing is in the way."""
        if self._halted:
            log.info("history_resumed", stream=self.number, cursor=self.end)
            self._halted = False
            health.set(f"history_{self.number}", None)

    def _note_lag(self) -> None:
        head = max(self._head, self.cursor)
        behind_s = 0.0
        if head > self.cursor and self._waiting_since:
            behind_s = max(0.0, (self._looked_at - self._waiting_since).total_seconds())
        self.meters.history(self.cursor, head, behind_s, self._looked_at)

    def _forget(self, end: int) -> None:
        self.minutes, self.end, self._since, self._oldest = Minutes(), end, None, None
        self._seen = []
