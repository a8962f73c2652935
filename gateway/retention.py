"""Measurements that are too old: added up, removed, and their partitions dropped, beside a running path.

A piece of a day is added to `retired_statistics` by the very transaction that removes it, so whoever reads
both in one snapshot sees each measurement once, and what a gateway that is killed has done stays done. A
piece is a run of blocks, from one end of the partition to the other, long enough for some seconds of work:
each device has a line in the statistics for each piece.

A partition that lies wholly before the retention is dropped once it is empty. That takes a moment, locks
everything, and therefore gives up after 100 ms and is tried again. `DETACH … CONCURRENTLY` is of no use here:
it cannot stand beside a default partition. Rows of the default partition leave by age.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PIECE_ROWS: Final = 5_000
_FIRST_BLOCKS: Final = 1_000
_FEWEST_BLOCKS: Final = 50
_SHORT_S, _LONG_S, _LONGEST_S = 4.0, 20.0, 300.0
_SMALL_BLOCKS: Final = 2_000  # read in some ten milliseconds
_VACUUM_S: Final = 6 * 3600.0
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.5


async def retire(connection: Connection, now: datetime, retention: timedelta) -> int:
    """Retire the measurements that are older than the retention.

    Whole days only: a partition stays until its last instant is old enough.

    Args:
        connection: of nobody else meanwhile; one gateway at a time.
        now: by the gateway's clock; the server's counts when it is behind.
        retention: how long to keep measurements.

    Returns:
        How many were retired now, not counting a piece whose answer came too late.
    """
    retired = 0
    for row in await connection.fetch(queries.expired_partitions, now - retention, retention):
        rows = await _retire_blocks(connection, row["name"])
        retired += rows
        await _drop(connection, row["name"], rows)
    midnight = datetime.combine((now - retention).astimezone(UTC).date(), time_of_day(), UTC)
    return retired + await _retire_strays(connection, midnight, retention)


async def _retire_blocks(connection: Connection, name: str) -> int:
    """Go through a partition once; rows that come behind are found by the drop, and wait a turn."""
    retired = block = 0
    step = _FIRST_BLOCKS
    end = await connection.fetchval(queries.partition_blocks, name) or 0
    while block < end:
        began = time.monotonic()
        try:
            rows = await connection.fetchval(
                queries.retire_blocks, name, block, block + step, timeout=_LONGEST_S
            )
        except TimeoutError:
            if step <= _FEWEST_BLOCKS:
                raise
            step = max(_FEWEST_BLOCKS, step // 4)
            continue
        retired += rows or 0
        block += step
        took_s = time.monotonic() - began
        step = step * 2 if took_s < _SHORT_S else max(_FEWEST_BLOCKS, step // 2) if took_s > _LONG_S else step
    return retired


async def _drop(connection: Connection, name: str, rows: int) -> None:
    if (await connection.fetchval(queries.partition_blocks, name) or 0) > _SMALL_BLOCKS:
        await connection.execute(await connection.fetchval(queries.vacuum_partition, name), timeout=_VACUUM_S)
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        try:
            async with connection.transaction():
                await connection.execute(queries.look_for_a_second)
                dropped = await connection.fetchval(queries.drop_empty_partition, name)
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            reason = "measurements is in use"
        else:
            if dropped:
                log.info("partition_retired", partition=name, measurements=rows)
                return
            reason = "rows came late"
            break
    log.info("retirement_postponed", partition=name, measurements=rows, reason=reason)


async def _retire_strays(connection: Connection, before: datetime, retention: timedelta) -> int:
    """Rows of the default partition, a piece a transaction, from the oldest on."""
    retired = 0
    since = datetime.min.replace(tzinfo=UTC)
    while True:
        async with connection.transaction():
            rows = await connection.fetch(queries.next_strays, before, retention, since, _PIECE_ROWS)
            if not rows:
                return retired
            retired += await connection.fetchval(queries.retire_strays, [row["place"] for row in rows])
        since = rows[-1]["ts"]
