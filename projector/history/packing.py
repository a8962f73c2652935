"""Packs minutes of hours that are over: a row of arrays a device, metric and hour, a sixth of their size.

`rollups.packed_until` says which hours are read where they are packed to, and every other as rows: it moves
in one transaction, so a snapshot finds each minute once, and never beyond the newest row. Nothing is removed
here: the gateway drops a day of rows when all of it has been packed for an hour.

An hour of a hundred thousand devices takes about a minute to pack, for which history must not stand still. So
it is packed without history's lock, some metrics in a transaction, where nobody looks yet. From when it
begins, what comes late for that hour is noted beside; at the end, under the lock, devices it came for are
packed again, and the hour counts. Nobody waits for a look that finds nothing to do.
A packing that is killed is begun anew. One packs at a time.

What comes still later is merged into its packed row by whoever adds it (`store.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import structlog

from projector.history.store import LONGEST_S, lock, merge_late
from projector.outbox import answering, queries
from runtime import faults
from runtime.errors import Retry
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    import asyncpg

    from runtime.postgres import Connection

IDLE_S: Final = 20.0
LEAST_PAUSE_S: Final = 0.2  # between hours when many are behind; as long as the last took if that is more
TELL_AGAIN_S: Final = 3600.0
LONG_S: Final = 0.5  # for metrics in one transaction

log = structlog.get_logger()


class Packer:
    """Packs the minutes of one history.

    Args:
        pool: connections.
        behind: is told for how many seconds the oldest hour that is not packed has waited, before each hour.
    """

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], behind: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        self._pool = pool
        self._behind = behind
        self._told_at: float | None = None

    async def run(self) -> NoReturn:
        """Pack what is over until cancelled, half of the time at most (of this projector; others may too)."""
        loop = asyncio.get_running_loop()
        pause_s = IDLE_S
        while True:
            await asyncio.sleep(pause_s)
            started = loop.time()
            try:
                more = await self.turn()
            except Retry as error:
                self._tell(error.what, error.reason)
                more = False
            pause_s = max(LEAST_PAUSE_S, loop.time() - started) if more else IDLE_S

    async def turn(self) -> bool:
        """Pack the next hour that is over, if there is one and nobody else is packing.

        Returns:
            Whether there may be more.

        Raises:
            Busy: history has been another's for long.
            Retry: PostgreSQL is away. What was begun does not count, unless the answer to the end was lost.
        """
        with answering():
            async with self._alone() as (connection, alone):
                async with connection.transaction():
                    await connection.execute(queries.without_jit)
                    hour = await _next_hour(connection)
                self._behind(hour.waits_s if hour else 0.0)
                if hour and not hour.is_ready:
                    if hour.waits_s > TELL_AGAIN_S:
                        self._tell("history", "it is behind, or its hours are not made")
                    return False
                if hour and not alone:
                    return False
                more = hour is not None and await _pack(connection)
        if self._told_at is not None:
            log.info("packing_works_again")
            self._told_at = None
        return more

    def _tell(self, what: str, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now - self._told_at >= TELL_AGAIN_S:
            log.warning("packing_waiting", what=what, reason=reason)
            self._told_at = now

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[tuple[Connection, bool]]:
        async with lent(self._pool) as connection:
            if not await connection.fetchval(queries.take_packing):
                yield connection, False
                return
            try:
                yield connection, True
                await connection.execute(queries.let_packing_go)
            except BaseException:
                connection.terminate()  # and the lock with it
                raise


class _Hour(NamedTuple):
    """The oldest that has rows, when it is time to pack it."""

    hour: datetime
    is_ready: bool
    waits_s: float


async def _next_hour(connection: Connection) -> _Hour | None:
    found = await connection.fetchrow(queries.next_hour)
    return _Hour(*found) if found else None


async def _pack(connection: Connection) -> bool:
    if unfinished := await connection.fetchrow(queries.unfinished_packing):
        await connection.execute(queries.forget_packing, *unfinished, timeout=LONGEST_S)
    async with connection.transaction():
        await connection.execute(queries.without_jit)
        await lock(connection)
        found = await _next_hour(connection)  # something may have come for an hour before
        if found is None or not found.is_ready:
            return False
        number = await connection.fetchval(queries.begin_packing, found.hour)
    rows = await _pack_metrics(connection, found.hour)
    faults.point("packed")
    async with connection.transaction():
        await connection.execute(queries.without_jit)
        await lock(connection, patiently=True)
        if await connection.fetchval(queries.end_packing, number):
            await connection.execute(queries.repack_late, found.hour, timeout=LONGEST_S)
            await merge_late(connection)
    log.debug("minutes_packed", hour=found.hour.isoformat(), rows=rows)
    return True


async def _pack_metrics(connection: Connection, hour: datetime) -> int:
    """Pack an hour's metrics, one or as many as take a second in a transaction; returns how many rows."""
    loop = asyncio.get_running_loop()
    names = [row["metric"] for row in await connection.fetch(queries.metrics_of_day, hour, timeout=LONGEST_S)]
    rows = done = 0
    at_once = 1
    while done < len(names):
        began = loop.time()
        async with connection.transaction():
            await connection.execute(queries.without_jit)
            piece = names[done : done + at_once]
            rows += await connection.fetchval(queries.pack_metrics, hour, piece, timeout=LONGEST_S)
        done += at_once
        at_once = 2 * at_once if loop.time() - began < LONG_S else 1
    return rows
