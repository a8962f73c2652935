"""Makes the live views anew from PostgreSQL, while readers and projectors go on.

A replica is folded from everything stored, of settled days from what they amount to
(`projector/repair/replica.py`, `truth.py`), brought up to the ends of the
streams, and then put in the place of the live views (`projector/repair/swap.py`). Readers see the old
values until the new ones are in place, and go on reading all the time. Running projectors stand still while
they are put there; then the cursors have moved, forwards or by a few rows backwards, and they go on from
there with the outbox.

A rebuild that dies before the swap leaves the live views as they were; one that dies in it leaves some of
both, marked so that nobody applies anything to them and the next projector rebuilds. The next rebuild removes
the keys that were left. Nothing in Redis is needed for it, so it also mends views that were flushed, damaged
or come from another history.

What may be trimmed meanwhile: `projections` goes on naming the cursor that the views had before they were
lost. Rows up to there may go, because a rebuild reads measurements and not rows. Rows after it stay, and so
do those after the replica's snapshot, for which it reports on its own; once it is in place, the report of
the live views is set back to its cursors before its own is withdrawn. A projector that reports the old
cursor once more in that second at worst causes another rebuild.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog

from contract.views import PROJECTION
from projector.halts import Halt, mismatch, missing_rows
from projector.outbox import Outbox, Position
from projector.repair.replica import open_replica
from projector.repair.swap import Swap
from projector.views import Views
from projector.views.state import MOST_METRICS
from runtime import faults
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis

    from projector.repair.replica import Progress, Replica
    from projector.views import Keys

log = structlog.get_logger()


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild did.

    Attributes:
        views: devices and regions put in place.
        events: measurements folded, not counting those that retention has dropped.
        settled: how many of them by what their days amount to.
        cursors: stream → the last row in the views, as they were put in place.
        swap_ms: for how long there were views of both sets.
    """

    views: int
    events: int
    settled: int
    cursors: dict[int, int]
    seconds: float
    swap_ms: float


class Rebuilder:
    """Rebuilds one set of views.

    Args:
        pool: connections; two at once are enough.
        keys: of the live views.
        now: the time, for `updated_at`.
        most_metrics: of a view.
        make_room: called with the replica's keys before it is put in place; regions may leave it.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        keys: Keys,
        now: Callable[[], datetime],
        *,
        most_metrics: int = MOST_METRICS,
        make_room: Callable[[Keys], Awaitable[None]] | None = None,
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._keys = keys
        self._now = now
        self._most_metrics = most_metrics
        self._make_room = make_room
        self._views = Views(redis, keys)
        self._outbox = Outbox(pool, PROJECTION)
        self._swap = Swap(redis, keys)

    async def rebuild(self, progress: Progress, *, settled: bool = True) -> Rebuilt:
        """Rebuild, whatever the views hold.

        Args:
            progress: called with how many measurements are folded, and about how many there are.
            settled: whether settled days are folded by what they amount to, not by every measurement.

        Raises:
            AlreadyRunningError: a rebuild is under way.
            Retry: a server is away, or the replica was lost; the views are as they were, or unfinished.
        """
        async with self._replica() as replica:
            return await self._rebuild(replica, progress, settled=settled)

    async def mend(self, progress: Progress) -> Rebuilt | None:
        """Rebuild if the views cannot follow a stream, else do nothing.

        That is looked at under the lock, so of several projectors that call for a rebuild one does it; and
        before, so that nobody who wants to rebuild is refused because others look.

        Raises:
            AlreadyRunningError: a rebuild is under way.
            Retry: a server is away, or the replica was lost; the views are as they were, or unfinished.
        """
        if not await self._halts():
            return None
        async with self._replica() as replica:
            halts = await self._halts()
            return await self._rebuild(replica, progress, halts) if halts else None

    def _replica(self) -> AbstractAsyncContextManager[Replica]:
        return open_replica(
            "rebuild",
            self._redis,
            self._pool,
            keys=self._keys,
            now=self._now,
            most_metrics=self._most_metrics,
        )

    async def _rebuild(
        self,
        replica: Replica,
        progress: Progress,
        halts: dict[int, Halt] | None = None,
        *,
        settled: bool = True,
    ) -> Rebuilt:
        loop = asyncio.get_running_loop()
        started = loop.time()
        log.info("rebuild_started", reasons=halts)

        def turn(done: int, estimate: int) -> None:
            faults.point("rebuild")
            progress(done, estimate)

        await replica.build(turn, settled=settled)
        if self._make_room is not None:
            await self._make_room(replica.keys)
        await replica.follow()
        faults.point("rebuild")
        swapped = loop.time()
        views = await self._swap.put_in_place(replica)
        swap_ms = round((loop.time() - swapped) * 1000, 1)
        await self._outbox.report(replica.cursors)
        done = Rebuilt(
            views,
            replica.events,
            replica.settled,
            {stream: cursor.n for stream, cursor in replica.cursors.items()},
            round(loop.time() - started, 3),
            swap_ms,
        )
        log.info("rebuild_finished", **msgspec.structs.asdict(done))
        return done

    async def _halts(self) -> dict[int, Halt]:
        """Why the views, as they are now, cannot follow the streams that they cannot follow."""
        marks = await self._views.marks()
        positions = await self._outbox.positions()
        found = {}
        for stream in marks.keys() | positions.keys():
            mark, position = marks[stream], positions.get(stream, Position("", 0))
            halt = mismatch(mark, position)
            if halt is None and position.head > mark.n and not await self._has_row(stream, mark.n + 1):
                halt = missing_rows(mark)
            if halt is not None:
                found[stream] = halt
        return found

    async def _has_row(self, stream: int, n: int) -> bool:
        try:
            rows, _ = await self._outbox.page(stream, n - 1, 1)
        except Reject:
            return True  # it is there, and unreadable
        return bool(rows) and rows[0].n == n
