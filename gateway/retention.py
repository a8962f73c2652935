"""Day partitions of `measurements`: made ahead of time, dropped behind it, beside a running path.

Made: the past week, for devices that come back with a backlog, and three days ahead. A day that is missing
when a row of it comes (the gateway was down and the clock has moved on) goes to the default partition and
stays there; the days after it get partitions of their own.

Dropped: a partition that lies wholly before the retention. What its rows amounted to is added to
`retired_statistics` by the very transaction that drops it, so whoever reads both in one snapshot sees each
measurement once. Adding up may take minutes and locks nothing; dropping takes a moment and locks everything,
and therefore gives up after 100 ms and is tried again. `DETACH … CONCURRENTLY` is of no use here: it can
neither be part of a transaction nor stand beside a default partition. Rows of the default partition leave by
age in small pieces.

Several gateways may do all of this at once: an advisory lock lets one at a time retire, and the others find
nothing left to do.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from datetime import date

log = structlog.get_logger()
queries = load_queries("gateway")

DAYS_BEHIND: Final = 7
DAYS_AHEAD: Final = 3

_PIECE_ROWS: Final = 5_000
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.5
_LONGEST_S: Final = 6 * 3600.0  # adding up a day of a billion rows


class _RowsCame(Exception):  # noqa: N818  # no error: the partition is retired at the next turn
    """A partition took a late row while it was being retired."""


async def make_partitions(
    pool: asyncpg.Pool[asyncpg.Record], now: datetime, retention: timedelta | None
) -> list[date]:
    """Make the day partitions that are missing around now.

    Returns:
        The days made now, the latest first.
    """
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=DAYS_BEHIND)
    if retention is not None:
        first = max(first, (now - retention).astimezone(UTC).date())
    made = []
    for row in await pool.fetch(queries.missing_days, first, today + timedelta(days=DAYS_AHEAD)):
        try:
            if await pool.fetchval(queries.make_partition, row["day"]):
                made.append(row["day"])
        except asyncpg.LockNotAvailableError:
            log.warning("partition_postponed", day=str(row["day"]), reason="measurements_default is in use")
    if made:
        log.info("partitions_made", first=str(made[-1]), last=str(made[0]), days=len(made))
    return made


async def retire(pool: asyncpg.Pool[asyncpg.Record], now: datetime, retention: timedelta) -> int:
    """Retire the measurements that are older than the retention.

    Whole days only: a partition stays until its last instant is old enough.

    Returns:
        How many were retired now.
    """
    retired = 0
    for row in await pool.fetch(queries.expired_partitions, now - retention, retention):
        retired += await _retire_partition(pool, row["name"])
    midnight = datetime.combine((now - retention).astimezone(UTC).date(), time(), UTC)
    while rows := await _retire_strays(pool, midnight, retention):
        retired += rows
    return retired


async def _retire_partition(pool: asyncpg.Pool[asyncpg.Record], name: str) -> int:
    try:
        async with lent(pool) as connection, connection.transaction():
            if not await connection.fetchval(queries.lock_retention):
                return 0
            rows: int | None = await connection.fetchval(queries.retire_partition, name, timeout=_LONGEST_S)
            if rows is None:
                return 0
            for attempt in range(_ATTEMPTS):
                try:
                    async with connection.transaction():
                        if not await connection.fetchval(queries.drop_partition, name, rows):
                            raise _RowsCame  # both transactions roll back
                    break
                except asyncpg.LockNotAvailableError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(_PAUSE_S)
    except asyncpg.LockNotAvailableError:
        log.warning("retirement_postponed", partition=name, reason="measurements is in use")
        return 0
    except _RowsCame:
        log.info("retirement_postponed", partition=name, reason="rows came late")
        return 0
    log.info("partition_retired", partition=name, measurements=rows)
    return rows


async def _retire_strays(pool: asyncpg.Pool[asyncpg.Record], before: datetime, retention: timedelta) -> int:
    async with lent(pool) as connection, connection.transaction():
        if not await connection.fetchval(queries.lock_retention):
            return 0
        rows: int = await connection.fetchval(queries.retire_strays, before, retention, _PIECE_ROWS)
    return rows
