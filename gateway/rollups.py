"""History that is too old.

The projector fills these tables and the gateway drops what is too old of them, with the rights that it has
anyway. Nothing of it stays: first `rollups` says since when a resolution is whole, and from then on nothing
older is added to it; then the partitions before that are dropped, and strays of the default partitions
removed in small pieces. So go days of minutes as rows all of which have been packed for an hour: who took a
snapshot before that reads them there. What somebody uses is let be until the next time, and keeps no other.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PIECE_ROWS: Final = 5_000


async def drop_history(connection: Connection, now: datetime, retentions: Mapping[str, timedelta]) -> int:
    """Drop the history that is older than its retention.

    Args:
        connection: of nobody else meanwhile.
        now: by the gateway's clock; the server's counts when it is behind.
        retentions: resolution, `1m` or `1h`, → how long to keep it; those that are not named are kept.

    Returns:
        How many partitions were dropped for their age.
    """
    dropped = 0
    with _postponed("all"):
        for rollup, retention in retentions.items():
            async with connection.transaction():
                await connection.execute(queries.give_way)
                await connection.execute(queries.raise_history_floor, rollup, now - retention, retention)
    for row in await connection.fetch(queries.expired_history_partitions):
        with _postponed(row["name"]):
            await connection.execute(queries.drop_history_partition, *row)
            dropped += 1
            log.info("history_dropped", partition=row["name"])
    with _postponed("rows"):
        async with connection.transaction():
            await connection.execute(queries.give_way)
            await connection.execute(queries.note_packed)
    for row in await connection.fetch(queries.packed_partitions):
        with _postponed(row["name"]):
            if await connection.fetchval(queries.drop_open_minutes, row["name"]):
                log.info("packed_rows_dropped", partition=row["name"])
    while await connection.fetchval(queries.remove_history_strays, _PIECE_ROWS):
        pass
    return dropped


@contextmanager
def _postponed(what: str) -> Iterator[None]:
    """Let be what somebody uses; the rest does not wait for it."""
    try:
        yield
    except asyncpg.LockNotAvailableError:
        log.warning("history_drop_postponed", partition=what, reason="it is in use")
