"""Partitions of history: days of minutes and months of hours, made ahead of time and dropped by age.

The projector fills these tables; that they have partitions is seen to here, with the rights that the gateway
has anyway. It goes as with `measurements` (`gateway/retention.py`), but that nothing of what is dropped
stays: first `rollups` says since when a resolution is whole, and from then on nothing older is added to it;
then the partitions before that are dropped, and strays of the default partitions removed in small pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

log = structlog.get_logger()
queries = load_queries("gateway")

_PIECE_ROWS: Final = 5_000


async def make_history_partitions(pool: asyncpg.Pool[asyncpg.Record], now: datetime) -> int:
    """Make the partitions that are missing around now, and say how many."""
    made = 0
    for row in await pool.fetch(queries.missing_history_partitions, now):
        try:
            made += bool(await pool.fetchval(queries.make_history_partition, *row))
        except asyncpg.LockNotAvailableError:
            log.warning("partition_postponed", table=row["parent"], reason="its default partition is in use")
    if made:
        log.info("history_partitions_made", partitions=made)
    return made


async def drop_history(
    pool: asyncpg.Pool[asyncpg.Record], now: datetime, retentions: Mapping[str, timedelta]
) -> int:
    """Drop the history that is older than its retention.

    Args:
        pool: connections.
        now: by the gateway's clock; the server's counts when it is behind.
        retentions: resolution, `1m` or `1h`, → how long to keep it; those that are not named are kept.

    Returns:
        How many partitions were dropped.
    """
    dropped = 0
    try:
        for rollup, retention in retentions.items():
            async with lent(pool) as connection, connection.transaction():
                await connection.execute(queries.give_way)
                await connection.execute(queries.raise_history_floor, rollup, now - retention, retention)
        for row in await pool.fetch(queries.expired_history_partitions):
            await pool.execute(queries.drop_history_partition, *row)
            dropped += 1
            log.info("history_dropped", partition=row["name"])
    except asyncpg.LockNotAvailableError:
        log.warning("history_drop_postponed", reason="history is in use")
    while await pool.fetchval(queries.remove_history_strays, _PIECE_ROWS):
        pass
    return dropped
