"""Measurements that are too old: added up, removed, and their partitions dropped, beside a running path.

Of a day that is settled (`gateway/settling.py`) it is known what it amounts to. From when it is marked as one
that leaves, its rows do not count for anybody any more, its statistics and late rows do; those move to
`retired_statistics`, and the partition is dropped as it is. It leaves whatever becomes of the retention.

Any other day is added up now. A piece of it is added to `retired_statistics` by the very transaction that
removes it. A piece is a run of blocks, from one end of the partition to the other, long enough for some
seconds of work: each device has a line in the statistics for each piece. Its partition is dropped once it is
empty.

Either way whoever reads all in one snapshot sees each measurement once, and what a gateway that is killed
has done stays done. Dropping takes a moment, locks everything, and therefore gives up after 100 ms and is
tried again. `DETACH … CONCURRENTLY` is of no use here: it cannot stand beside a default partition. Rows of
the default partition leave by age.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from gateway.days import Days, in_pieces
from gateway.stride import LONGEST_S, Stride
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PIECE_ROWS: Final = 5_000
_PIECE_STATISTICS: Final = 50_000
_SMALL_BLOCKS: Final = 2_000  # read in some ten milliseconds
_VACUUM_S: Final = 6 * 3600.0
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.5


async def retire(connection: Connection, now: datetime, retention: timedelta | None) -> int:
    """Retire the measurements that are older than the retention, and days that have begun to leave.

    Whole days only: a partition stays until its last instant is old enough.

    Args:
        connection: of nobody else meanwhile; one gateway at a time.
        now: by the gateway's clock; the server's counts when it is behind.
        retention: how long to keep measurements; None for ever.

    Returns:
        How many were retired now, not counting a piece whose answer came too late, nor what comes to a
        settled day while it leaves.

    Raises:
        Retry: some days could not be retired, which the log names; all others were.
    """
    retired = 0
    days = Days("retirement")
    before = None if retention is None else now - retention
    for row in await connection.fetch(queries.expired_partitions, before, retention):
        retired += await days.work(row["name"], _retire_day(connection, row["name"]))
    if before is not None:
        midnight = datetime.combine(before.astimezone(UTC).date(), time_of_day(), UTC)
        retired += await _retire_strays(connection, midnight, retention)
    days.end()
    return retired


async def _retire_day(connection: Connection, name: str) -> int:
    settled: int | None = await connection.fetchval(queries.begin_leaving, name)
    if settled is None:
        rows = await _retire_blocks(connection, name)
        await _give_room_back(connection, name)
        await _drop(connection, name, rows, queries.drop_empty_partition)
        return rows
    await in_pieces(connection, queries.retire_statistics, name, _PIECE_STATISTICS)
    return settled if await _drop(connection, name, settled, queries.drop_leaving_partition) else 0


async def _retire_blocks(connection: Connection, name: str) -> int:
    """Go through a partition once; rows that come behind are found by the drop, and wait a turn."""
    retired = block = 0
    stride = Stride()
    end = await connection.fetchval(queries.partition_blocks, name) or 0
    while block < end:
        began = time.monotonic()
        try:
            rows = await connection.fetchval(
                queries.retire_blocks, name, block, block + stride.blocks, timeout=LONGEST_S
            )
        except TimeoutError:
            if not stride.shorten():
                raise
            continue
        retired += rows or 0
        block += stride.blocks
        stride.took(time.monotonic() - began)
    return retired


async def _give_room_back(connection: Connection, name: str) -> None:
    """So that finding a partition empty takes a moment."""
    if (await connection.fetchval(queries.partition_blocks, name) or 0) > _SMALL_BLOCKS:
        vacuum = await connection.fetchval(queries.vacuum_partition, name)
        if vacuum is not None:
            await connection.execute(vacuum, timeout=_VACUUM_S)


async def _drop(connection: Connection, name: str, rows: int, query: str) -> bool:
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        # So that few are left for the transaction that others wait for.
        await in_pieces(connection, queries.fold_late_measurements, name, _PIECE_ROWS)
        try:
            async with connection.transaction():
                await connection.execute(queries.look_for_a_second)
                dropped = await connection.fetchval(query, name)
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            reason = "measurements is in use"
        else:
            if dropped:
                log.info("partition_retired", partition=name, measurements=rows)
                return True
            reason = "rows came late"
            break
    log.info("retirement_postponed", partition=name, measurements=rows, reason=reason)
    return False


async def _retire_strays(connection: Connection, before: datetime, retention: timedelta | None) -> int:
    """Rows of the default partition, a piece a transaction, from the oldest on."""
    retired = 0
    since: datetime | None = datetime.min.replace(tzinfo=UTC)
    while since is not None:
        row = await connection.fetchrow(queries.retire_strays, since, before, retention, _PIECE_ROWS)
        assert row is not None
        retired += row["retired"]
        since = row["through"]
    return retired
