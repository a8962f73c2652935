"""Does what one stream's state says, and says what came of it: to the state, the log, health and metrics.

What is to be done, and why, stands in `state`.
"""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from projector.follow.further import Further
from projector.follow.state import Apply, Course
from projector.halts import MENDED_BY_REBUILD
from projector.views import Run
from projector.views.pace import linger_s
from runtime import faults
from runtime.errors import Reject, Retry
from runtime.lifecycle import Waiting
from runtime.logs import is_heard

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from contract.events import EventBatch
    from projector.follow.state import Asked
    from projector.halts import Halt
    from projector.meters import Meters
    from projector.outbox import Outbox, Page, Position
    from projector.views import Cursor, Outcome, Views
    from runtime.http import Health

PAGE_EVENTS: Final = 10_000  # read from PostgreSQL at once
HEARD_AT_ONCE: Final = 4000  # events: some 15 ms
PATIENCE_S: Final = 1.0  # with PostgreSQL in the middle of a run, for which the views of all streams wait

log = structlog.get_logger()


class Follower:
    """Follows one stream. Owned by the consumer, which tells it what it sees.

    Args:
        now: the time, for `updated_at` and for lag.
        heard: told of rows as they come from the topic or are read, for whoever else wants them.

    Attributes:
        course: the stream's state. What is told goes through the follower, so that it is acted on.
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
        self.course = Course()
        self._stream = stream
        self._views = views
        self._outbox = outbox
        self._health = health
        self._applying = Waiting("redis", health)
        self._meters = meters.of(stream)
        self._now = now
        self._heard = heard
        self._told: Halt | None = None
        self._further: asyncio.Task[Page] | None = None
        self._wake = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._over_at = self._clock()  # the last run

    def offer(self, row: EventBatch, size_bytes: int) -> None:
        """Take a row from the topic, with the size of the message that it was."""
        self._heard([row])
        if self.course.cursor is not None and row.n <= self.course.cursor:
            self._meters.duplicates.inc()
        elif not self.course.offer(row, size_bytes, self._now()):
            self._meters.overflows.inc()
        self._wake.set()

    def hint(self) -> None:
        """Note that the topic brought what may be a row, and is not believed."""
        self.course.hint()

    def on_mark(self, mark: Cursor, known: int | None) -> None:
        """Note what Redis holds; `known` is the cursor from before that was read."""
        if self.course.on_mark(mark, known):
            log.warning("views_went_back", stream=self._stream, known=known, cursor=mark.n)
        self._wake.set()

    def on_look(self, asked: Asked, position: Position, *, replaced: bool) -> bool:
        """Note what PostgreSQL holds; whether the views must be given up (`Course.on_look`)."""
        cursor = self.course.cursor
        # Rows that wait, and nothing says since when: the cursor was not known when the stream was looked at.
        if cursor is not None and (position.waiting_since or cursor >= position.head):
            self._meters.position(cursor, position.head, position.waiting_since, self._now())
        given_up = self.course.on_look(asked, position, replaced=replaced)
        self._tell()
        self._wake.set()
        return given_up

    async def run(self) -> NoReturn:
        """Apply rows for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while todo := self.course.step():
                    await (self._apply(todo) if isinstance(todo, Apply) else self._read(todo.after))
                if not self.course.redis_away:
                    self._applying.over()  # another projector may have applied what we waited to
        finally:
            if self._further is not None:
                self._further.cancel()

    async def _read(self, after: int) -> None:
        try:
            page = await self._read_page(after)
        except Retry:
            self.course.may_read = False
            return
        except Reject as error:
            log.error("outbox_row_undecodable", stream=self._stream, detail=error.detail)  # noqa: TRY400  # the detail says it
            self.course.read(after, None)
        else:
            self.course.read(after, page)
        self._tell()

    async def _read_page(self, after: int) -> Page:
        page = await self._outbox.page(self._stream, after, PAGE_EVENTS)
        if page.rows and page.rows[0].n == after + 1:
            self._meters.caught_up.inc(len(page.rows))
            await self._hand_on(page.rows)
        return page

    async def _read_further(self, after: int) -> list[EventBatch]:
        """Read on in the middle of a run, unless that takes long.

        Raises:
            Retry: PostgreSQL is away, or does not answer soon. What it answers later is only heard.
            Reject: a row holds no events.
        """
        if self._further is None or self._further.done():
            self._further = asyncio.create_task(self._read_page(after), name=f"further-{self._stream}")
            self._further.add_done_callback(lambda read: read.cancelled() or read.exception())
            await asyncio.wait((self._further,), timeout=PATIENCE_S)
            if self._further.done():
                return self._further.result().rows
        self.course.may_read = False
        raise Retry("postgres", "it does not answer")

    async def _hand_on(self, rows: list[EventBatch]) -> None:
        """Let others hear rows, and have a turn themselves now and then."""
        events = 0
        for row in rows:
            self._heard([row])
            events += len(row.events)
            if events >= HEARD_AT_ONCE:
                events = 0
                await asyncio.sleep(0)

    async def _apply(self, todo: Apply) -> None:
        rows = todo.rows
        events = list(chain.from_iterable(row.events for row in rows))
        run = Run(
            self._stream,
            rows[0].epoch,
            rows[0].n,
            rows[-1].n,
            events,
            rows[-1].created_at,
            known=self.course.known,
        )
        further = Further(todo, self.course, read=self._read_further, now=self._now)
        faults.point("before_apply")
        try:
            with self._meters.apply_seconds.time():
                outcome = await self._views.apply(run, self._now(), further)
        except Retry as error:
            self._applying.failed(error.reason)
            self.course.redis_away = True
            return
        self._applying.over()
        faults.point("after_apply")
        rows, count = further.up_to(outcome.cursor)
        self._count(rows, count, outcome)
        self.course.applied(rows, outcome)
        self._tell()
        since, self._over_at = self._over_at, self._clock()
        if not todo.is_read and not self.course.is_behind(outcome.cursor):
            await asyncio.sleep(linger_s(count, self._views.changed, self._over_at - since))

    def _count(self, rows: list[EventBatch], events: int, outcome: Outcome) -> None:
        first, last = rows[0].n, rows[-1].n
        if outcome.status == "applied":
            self._meters.applied(rows, self._now(), self.course.arrived_at(last), events=events)
            if is_heard("debug"):
                log.debug("run_applied", stream=self._stream, first=first, last=last, events=events)
        elif outcome.status == "lost":
            log.warning("view_lost", key=outcome.key, stream=self._stream)
        elif outcome.status == "epoch":
            log.warning("epoch_differs", stream=self._stream, epoch=rows[0].epoch, n=first)
        elif outcome.status == "duplicate":
            self._meters.duplicates.inc(len(rows))
        else:
            self._meters.gaps.inc()

    def _tell(self) -> None:
        """Say why the stream is halted, or that it is not any more, once."""
        halt, name = self.course.halt, f"stream_{self._stream}"
        if halt == self._told:
            return
        self._told = halt
        cursor, position = self.course.cursor, self.course.position
        if halt is None:
            self._health.set(name, None)
            log.info("projection_resumed", stream=self._stream, cursor=cursor)
            return
        self._health.set(name, f"rebuild_needed: {halt}" if halt in MENDED_BY_REBUILD else halt)
        head = position.head if position else None
        log.error("projection_halted", stream=self._stream, reason=halt, cursor=cursor, head=head)
