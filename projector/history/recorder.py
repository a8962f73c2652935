"""Keeps history up with the streams, lazily, within bounds.

Rows come by themselves as the topic brings them (`take`); what does not come within a turn is read from the
outbox. Both are folded into memory and written when their minute is over (`memory.py`). What is in
memory is worth nothing: whenever anything goes wrong (PostgreSQL away, an answer lost, the cursor moved by
another projector, a rebuild or a restored backup), it is forgotten, and the stream goes on from its cursor
with the outbox, whose rows stay until history has them.

So history waits while PostgreSQL is away, and the views go on; while Redis is away, it is the other way
round. While somebody else changes history it waits too, and keeps what is in memory; that is said
when it takes longer than a minute, as when history is made anew.
A history that cannot go on from its cursor is mended as a whole (`audit.py`). What cannot be added, as of a
row that was edited by hand, holds up its stream alone, until the row is right.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NoReturn

import asyncpg
import structlog

from projector.history.memory import StreamMemory
from projector.history.store import Busy, add
from runtime.errors import Reject
from runtime.lifecycle import Waiting, keep_trying, next_turn_s
from runtime.postgres import is_data_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from contract.events import EventBatch
    from projector.history.audit import Auditor
    from projector.history.store import Mean, Stand, Store
    from projector.meters import Meters
    from projector.outbox import Outbox
    from runtime.http import Health

TURN_S: Final = 1.0
HOURS_S: Final = 30.0  # how often it is asked whether hours are to be made
MADE_UP_S: Final = 600.0  # as often as they are made anyway: of a large site it takes half a minute
PATIENCE_S: Final = 60.0  # for another who changes history: two projectors at a large site take turns
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
        self._streams: dict[int, StreamMemory] = {}
        self._met: set[int] = set()
        self._refused: set[int] = set()
        self._hours_at = 0.0
        self._made_up, self._made_up_at = False, -MADE_UP_S
        self._busy_since: float | None = None
        self._waiting = Waiting("history", health)
        self._wake = asyncio.Event()

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream; what does not follow what is there is left to the outbox."""
        stream = self._streams.get(rows[0].stream)
        if stream is None:
            return
        stream.take(rows)
        if stream.is_full:
            self._wake.set()

    def memory(self, number: int) -> StreamMemory | None:
        """What of a stream is in memory; to be read at once, for it changes whenever something is awaited."""
        return self._streams.get(number)

    async def run(self) -> NoReturn:
        """Record until cancelled."""
        while True:
            await keep_trying("postgres", self.turn, self._health)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_turn_s(TURN_S)):
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
                stream = self._stream(number, now)
                stream.stands(stand, stand.cursor, now)
                try:
                    await self._catch_up(stream)
                    if self._streams.get(number) is stream and (flush or stream.is_due):
                        await self._flush(stream, everything=flush)
                except (asyncpg.PostgresError, ValueError) as error:
                    if isinstance(error, asyncpg.PostgresError) and not is_data_error(error):
                        raise
                    self._refuse(stream, error)
            await self._make_hours()
            self._busy_since = None
            if not self._refused:
                self._waiting.over()
        except Busy as error:  # what is in memory stays there; what does not fit is left to the outbox
            now_s = asyncio.get_running_loop().time()
            self._busy_since = now_s if self._busy_since is None else self._busy_since
            if now_s >= self._busy_since + PATIENCE_S:
                self._waiting.failed(error.reason)
        except BaseException:  # cancelled or not: what was handed over may be written or not
            self._streams.clear()
            raise

    def _refuse(self, stream: StreamMemory, error: Exception) -> None:
        rows = f"rows {stream.cursor + 1} to {stream.end} of stream {stream.number}"
        self._waiting.failed(f"what {rows} add up to cannot be added: {error}")
        self._refused.add(stream.number)
        del self._streams[stream.number]

    def _stream(self, number: int, now: datetime) -> StreamMemory:
        if number not in self._streams:
            at_once = number not in self._met  # what an earlier projector left behind is not to wait for more
            self._streams[number] = StreamMemory(number, self._meters.of(number), now, at_once=at_once)
            self._met.add(number)
        return self._streams[number]

    async def _begin(self, number: int, stand: Stand) -> None:
        self._streams.pop(number, None)
        if stand.cursor is not None or not await self._store.begin(number):
            await self._mend("cursor_beyond_head" if stand.cursor else "cursor_missing")

    async def _catch_up(self, stream: StreamMemory) -> None:
        up_to = stream.head if stream.end < stream.due or stream.has_gap else 0
        while stream.end < up_to:
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
                self._made_up = True
            if stream.end <= after or self._streams.get(stream.number) is not stream:
                return  # another history, or history has been moved: the next turn looks again
        stream.go_on(self._health)
        if stream.has_gap:  # more has come meanwhile than is held
            self._wake.set()

    async def _flush(self, stream: StreamMemory, *, everything: bool = False) -> None:
        if stream.end == stream.cursor:
            return
        with stream.meters.history_write_seconds.time():
            async with self._store.turn() as connection:
                span, minutes = stream.hand_over(everything=everything)
                means = await add(connection, span, minutes)
        if means is None:
            log.info("history_moved", stream=span.stream, cursor=span.after, last=span.last)
            self._streams.pop(span.stream, None)
            return
        stream.written(span.last)
        self._refused.discard(stream.number)
        log.debug("history_written", stream=span.stream, last=span.last, size=minutes.size)
        await self._shown(means)

    async def _make_hours(self) -> None:
        """When they are due, and once what had waited is read: of an open hour its first minute is all."""
        now_s = asyncio.get_running_loop().time()
        made_up = self._made_up and now_s >= self._made_up_at + MADE_UP_S
        if made_up or now_s >= self._hours_at:
            if made_up or await self._store.hours_due():
                await self._store.make_hours(if_due=not made_up)
                self._made_up = False
            self._hours_at = now_s + HOURS_S
            self._made_up_at = now_s if made_up else self._made_up_at

    async def _mend(self, reason: str) -> None:
        self._streams.clear()
        self._health.set("history", "rebuilding")
        try:
            await self._auditor.mend(reason)
        finally:
            self._health.set("history", None)
