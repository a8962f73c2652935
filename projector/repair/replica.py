"""A second set of views beside the live one, folded from PostgreSQL. Verifying and rebuilding both need one.

It is made of a fold of everything stored in one snapshot (`projector/repair/truth.py`), with the snapshot's
heads as its cursors, and from there moves on as any views do: rows of the outbox, applied by the same
script. So it can be brought to exactly the cursors that the live views have at some instant, while those
move on.

Only one replica for a purpose is worked on at a time; a lock in Redis sees to that. The lock runs out when
its holder is gone, and may run out under a holder that was merely paused. So every replica has keys of its
own, under an id, whoever comes next removes what others left, and what is done with a replica is done only
while the lock is its own. While it lives it reports to `projections`, as a projection of its own, so that
the rows after the snapshot are not trimmed; a report that is not renewed for ten minutes keeps nothing.

Redis needs room for the second set while it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, cast
from uuid import uuid4

from contract.views import FORMAT, VERSION, VIEWS_FORMAT
from projector.outbox import Outbox
from projector.repair.truth import open_truth
from projector.views import Cursor, Keys, Run, Views, answering
from projector.views.pace import first_part
from projector.views.state import MOST_METRICS
from runtime.errors import Reject, Retry, Stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis
    from redis.asyncio.lock import Lock

    from projector.views.retired import Retired

    Progress = Callable[[int, int], None]  # done, and about how many there are; 0 when nobody knows

Purpose = Literal["verify", "rebuild"]

LOCK_S: Final = 5.0  # so long after its holder died, another may begin
RENEW_S: Final = 1.0
REPORT_S: Final = 60.0
PAGE_EVENTS: Final = 4000
RUN: Final = 20_000  # events and values of rows in one run: a page with four metrics
REMEMBERED: Final = 50_000  # a device comes once or twice, and regions are few


class AlreadyRunningError(Stop):
    """Another process has a replica for this purpose."""


class Replica:
    """A second set of views.

    Attributes:
        keys: its own.
        token: held in the lock as long as it is ours.
        cursors: how far it has come on each stream.
        events: measurements folded into it, not counting those that retention has dropped.
        settled: how many of them by what their days amount to.
        miscounted: as of `Truth`.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        keys: Keys,
        outbox: Outbox,
        lock: Lock,
        now: Callable[[], datetime],
        most_metrics: int,
    ) -> None:
        self.keys = keys
        self.cursors: dict[int, Cursor] = {}
        self.events = self.settled = 0
        self.miscounted: dict[str, tuple[int, int]] = {}
        self._redis = redis
        self._pool = pool
        self._outbox = outbox
        self._lock = lock
        self._now = now
        self._views = Views(redis, keys, remember=REMEMBERED, most_metrics=most_metrics)
        self._calls = 0

    @property
    def token(self) -> bytes:
        """What the lock holds while it is ours."""
        token: bytes = self._lock.local.token
        return token

    async def build(self, progress: Progress, *, settled: bool) -> None:
        """Fold everything stored into it; of days that are settled, if so wanted, what they amount to.

        Raises:
            Retry: a server is away, or the replica was lost.
        """
        async with open_truth(self._pool, settled=settled) as truth:
            self.events, self.settled = await truth.read(self._add, progress), truth.settled
            self.miscounted = truth.miscounted
        self.cursors = {
            stream: Cursor(position.head, position.epoch, position.head_at)
            for stream, position in truth.positions.items()
            if position.head
        }
        with answering():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.delete(self.keys.cursor, self.keys.epoch)
                pipeline.hset(self.keys.epoch, FORMAT, VIEWS_FORMAT)
                pipeline.hset(self.keys.epoch, VERSION, f"replica:{uuid4().hex}")
                for stream, cursor in self.cursors.items():
                    pipeline.hset(self.keys.cursor, str(stream), str(cursor.n))
                    pipeline.hset(self.keys.epoch, str(stream), str(cursor.epoch))
                    pipeline.hset(self.keys.epoch, f"{stream}:written_at", cursor.written_at or "")
                await pipeline.execute()

    async def follow(self) -> None:
        """Apply what has been committed since, to the end of every stream or to its first unreadable row.

        Raises:
            Retry: a server is away, or the replica was lost.
        """
        for stream, position in (await self._outbox.positions()).items():
            with contextlib.suppress(Reject):
                await self.advance(stream, position.head)

    async def advance(self, stream: int, n: int) -> None:
        """Apply a stream's rows up to n, exactly.

        Raises:
            Retry: a server is away, the rows are not there, or the replica was lost.
            Reject: one of them does not hold events.
        """
        while (cursor := self.cursors.get(stream, Cursor(0, None))).n < n:
            page = await self._outbox.page(stream, cursor.n, PAGE_EVENTS)
            rest = [row for row in page.rows if row.n <= n]
            if not rest or rest[0].n != cursor.n + 1 or rest[0].epoch != (cursor.epoch or rest[0].epoch):
                raise Retry("postgres", f"row {cursor.n + 1} of stream {stream} is not there to be applied")
            while rows := first_part(rest, RUN):
                rest = rest[len(rows) :]
                events = [event for row in rows for event in row.events]
                run = Run(stream, rows[0].epoch, rows[0].n, rows[-1].n, events, rows[-1].created_at)
                await self._apply(run)
                self.cursors[stream] = Cursor(run.last, run.epoch, run.written_at)

    async def _add(self, rows: list[Retired]) -> None:
        self._calls += 1
        await self._apply(Run(-1, "", self._calls, self._calls, retired=rows))

    async def _apply(self, run: Run) -> None:
        outcome = await self._views.apply(run, self._now())
        if outcome.status != "applied":  # our keys are gone, or somebody else's now
            raise lost()


@asynccontextmanager
async def open_replica(
    purpose: Purpose,
    redis: Redis,
    pool: asyncpg.Pool[asyncpg.Record],
    *,
    keys: Keys,
    now: Callable[[], datetime],
    most_metrics: int = MOST_METRICS,
) -> AsyncIterator[Replica]:
    """Hold an empty replica beside the views under `keys`; whatever becomes of it is removed in the end.

    Raises:
        AlreadyRunningError: somebody holds one for this purpose.
        Retry: a server is away.
    """
    lock = redis.lock(lock_key(keys, purpose), timeout=LOCK_S, blocking=False, thread_local=False)
    with answering():
        if not await lock.acquire():
            raise AlreadyRunningError(f"another {purpose} of these views is under way; let it finish")
    id_ = uuid4().hex[:12]
    mine = Keys(f"{keys.prefix}projector:{purpose}:{id_}:")
    outbox = Outbox(pool, f"{purpose}-{id_}")
    renewing = [
        asyncio.create_task(_renew(lock), name=f"{purpose}-renew"),
        asyncio.create_task(_report(outbox), name=f"{purpose}-report"),
    ]
    try:
        await remove_keys(redis, f"{keys.prefix}projector:{purpose}:")
        # Before the snapshot: what is trimmed until then, it does not need.
        positions = await outbox.positions()
        await outbox.report({stream: Cursor(at.head, at.epoch) for stream, at in positions.items()})
        yield Replica(redis, pool, keys=mine, outbox=outbox, lock=lock, now=now, most_metrics=most_metrics)
    finally:
        for task in renewing:
            task.cancel()
        await asyncio.gather(*renewing, return_exceptions=True)
        with contextlib.suppress(Retry):
            await remove_keys(redis, mine.prefix)
        with contextlib.suppress(Retry):
            await outbox.retire()
        with contextlib.suppress(Retry), answering():
            await lock.release()


async def remove_keys(redis: Redis, prefix: str) -> None:
    """Remove every key that begins with a prefix.

    Raises:
        Retry: Redis is away.
    """
    with answering():
        async for batch in scan(redis, prefix):
            await redis.unlink(*batch)


async def scan(redis: Redis, prefix: str) -> AsyncIterator[list[bytes]]:
    """The keys that begin with a prefix, in batches that are not empty; some may come twice.

    Raises:
        RedisError: Redis is away.
    """
    pattern = "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in prefix) + "*"
    cursor = 0
    while True:
        cursor, batch = await redis.scan(cursor, match=pattern, count=1000)
        if batch:
            yield cast("list[bytes]", batch)
        if not cursor:
            return


def lock_key(keys: Keys, purpose: Purpose) -> str:
    """The lock that whoever works on a replica holds."""
    return f"{keys.prefix}projector:lock:{purpose}"


def lost() -> Retry:
    """The replica is not ours any more: Redis lost it, or we were paused for so long that another began."""
    return Retry("redis", "the keys being worked on were lost; begin again")


async def _renew(lock: Lock) -> None:
    """Keep the lock; that it was lost is noticed by those whom it guards."""
    while True:
        await asyncio.sleep(RENEW_S)
        with contextlib.suppress(Retry), answering():
            await lock.reacquire()


async def _report(outbox: Outbox) -> None:
    """Keep the rows that are still needed."""
    while True:
        await asyncio.sleep(REPORT_S)
        with contextlib.suppress(Retry):
            await outbox.renew()
