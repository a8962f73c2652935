"""Packs minutes of hours that are over: a row of arrays a device, metric and hour, a sixth of their size.

`rollups.packed_until` says which hours are read where they are packed to, and every other as rows: it moves
in one transaction, so a snapshot finds each minute once. Nothing is removed here: the gateway drops a day of
rows when all of it is packed.

An hour of a hundred thousand devices takes about a minute to pack, for which history must not stand still. So
it is packed without history's lock, where nobody looks yet. From when it begins, what comes late for that
hour is noted beside; at the end, under the lock, devices it came for are packed again, and the hour counts.
A packing that is killed is begun anew. One packs at a time.

What comes still later is merged into its packed row by whoever adds it (`store.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from projector.history.store import LONGEST_S, lock, merge_late
from projector.outbox import answering, queries
from runtime import faults
from runtime.errors import Retry
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from runtime.postgres import Connection

IDLE_S: Final = 20.0
LEAST_PAUSE_S: Final = 0.2  # between hours when many are behind; as long as the last took if that is more

log = structlog.get_logger()


class Packer:
    """Packs the minutes of one history."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def run(self) -> NoReturn:
        """Pack what is over until cancelled, half of the time at most."""
        loop = asyncio.get_running_loop()
        pause_s, failing = IDLE_S, False
        while True:
            await asyncio.sleep(pause_s)
            started = loop.time()
            try:
                more = await self.turn()
            except Retry as error:
                if not failing:
                    log.warning("packing_waiting", what=error.what, reason=error.reason)
                more, failing = False, True
            else:
                if failing:
                    log.info("packing_works_again")
                failing = False
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
            async with self._alone() as connection:
                return connection is not None and await _pack(connection)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection | None]:
        async with lent(self._pool) as connection:
            if not await connection.fetchval(queries.take_packing):
                yield None
                return
            try:
                yield connection
                await connection.execute(queries.let_packing_go)
            except BaseException:
                connection.terminate()  # and the lock with it
                raise


async def _pack(connection: Connection) -> bool:
    if unfinished := await connection.fetchrow(queries.unfinished_packing):
        await connection.execute(queries.forget_packing, *unfinished, timeout=LONGEST_S)
    async with connection.transaction():
        await lock(connection)
        begun = await connection.fetchrow(queries.begin_packing)
    if begun is None or begun["hour"] is None:
        return False
    number, hour = begun
    async with connection.transaction():
        await connection.execute(queries.without_jit)
        rows = await connection.fetchval(queries.pack_hour, hour, timeout=LONGEST_S)
    faults.point("packed")
    async with connection.transaction():
        await lock(connection)
        if await connection.fetchval(queries.end_packing, number):
            await connection.execute(queries.repack_late, hour, timeout=LONGEST_S)
            await merge_late(connection)
    log.debug("minutes_packed", hour=hour.isoformat(), rows=rows)
    return True
