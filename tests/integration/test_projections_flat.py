"""What it costs to move and to find a cursor does not grow with how often it was moved."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from projector.outbox import queries
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from uuid import UUID

MOVES = 1500


async def test_moves_under_an_open_snapshot(database: str) -> None:
    """A dump that is open for 1,500 moves: each statement reads as many pages after them as before."""
    connection, dump = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        epoch: UUID = await connection.fetchval(
            "INSERT INTO stream_leases (stream, head) VALUES (0, 1000000) RETURNING epoch"
        )
        for name in ("history", "redis"):
            await connection.execute("SELECT move_projection($1, 0, 0, $2)", name, epoch)
        await connection.execute("ANALYZE projections")
        async with dump.transaction(isolation="repeatable_read", readonly=True):
            await dump.execute("SELECT count(*) FROM projections")
            before = await pages(connection, 0, epoch)
            for n in range(1, MOVES + 1):
                for name in ("history", "redis"):
                    await connection.execute("SELECT move_projection($1, 0, $2, $3)", name, n, epoch)
            await connection.execute("ANALYZE projections")  # as autovacuum does at a moment of its own
            size = await connection.fetchval("SELECT pg_relation_size('projections') / 8192")
            after = await pages(connection, MOVES, epoch)
        assert size > 20, "the old versions are still there"
        assert {name: (before[name], after[name]) for name in before if after[name] > before[name] + 12} == {}
    finally:
        await connection.close()
        await dump.close()


async def pages(connection: asyncpg.Connection[asyncpg.Record], n: int, epoch: UUID) -> dict[str, int]:
    """Pages that each statement touches, by its name; twice, as the first time fills caches."""
    gateway = load_queries("gateway")
    asked: dict[str, tuple[str, list[Any]]] = {
        "report": (queries.report_cursors, ["redis", [0], [n + 1], [epoch]]),
        "look": (queries.look_at_history, []),
        "move": (queries.move_history, [0, n, n + 1, str(epoch)]),
        "trim": (gateway.trim_outbox, [0, timedelta(), 0, 1000]),
        "projected": (gateway.projected, [0]),
    }
    found = {}
    for name, (query, arguments) in asked.items():
        for _ in range(2):
            transaction = connection.transaction()
            await transaction.start()
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments)
            await transaction.rollback()
            found[name] = msgspec.json.decode(plan)[0]["Plan"]["Shared Hit Blocks"]
    return found
