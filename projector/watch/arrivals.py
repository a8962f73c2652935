"""Asks PostgreSQL when the newest messages of devices came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projector.outbox import answering, queries
from projector.watch.pace import ARRIVALS
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg


async def newest_arrivals(pool: asyncpg.Pool[asyncpg.Record], ids: Sequence[str]) -> dict[str, list[int]]:
    """Device → when its newest messages came, epoch seconds ascending, as `pace` takes them.

    Args:
        pool: of the site's database.
        ids: some dozens; a device that is not known has none.

    Raises:
        Retry: PostgreSQL is away, or that took too long.
    """
    with answering():
        async with lent(pool) as connection, connection.transaction(readonly=True):
            await connection.execute(queries.walk_backwards)
            records = await connection.fetch(queries.newest_arrivals, ids, ARRIVALS)
            often = [each["device_id"] for each in records if _is_cut_short(each)]
            if often:
                records += await connection.fetch(queries.newest_minutes, often, ARRIVALS)
    found = {record["device_id"]: record["arrivals"] or [] for record in records}
    return {id_: found.get(id_, []) for id_ in ids}


def _is_cut_short(record: asyncpg.Record) -> bool:
    """Whether there are more messages than were asked for, and these are of few minutes."""
    return record["messages"] == ARRIVALS and len(record["arrivals"]) < ARRIVALS // 2
