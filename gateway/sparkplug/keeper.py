"""Keeps edge nodes and held messages in PostgreSQL: writes them with their batch, and reads them.

Everything is written as it is to be, so a transaction that is written again, because its COMMIT got no
answer, leaves the same. Batches write in turns, so the last one counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from contract.events import format_time
from gateway.sparkplug.changes import Changes, Row
from runtime.postgres import keep_asking, load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from gateway.decode import Received
    from gateway.sparkplug.host import Host
    from runtime.http import Health
    from runtime.postgres import Connection

    Pool = asyncpg.Pool[asyncpg.Record]

log = structlog.get_logger()
queries = load_queries("gateway")

_MOST: Final = 50_000
_MOST_BYTES: Final = 64_000_000


class Keeper:
    """Writes what batches change.

    Args:
        stream: of the gateway.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream

    async def write(self, connection: Connection, changes: Sequence[Changes]) -> None:
        """Write what the chunks of a batch have changed, in its transaction."""
        all_ = Changes()
        for each in changes:
            all_.add(each)
        rows = list(all_.rows.values())
        if rows:
            await connection.execute(queries.write_sparkplug_births, *map(list, zip(*rows, strict=True)))
        held = [each for each in all_.held.values() if each is not None]
        if held:
            await connection.execute(
                queries.hold_sparkplug,
                self._stream,
                [each.id for each in held],
                [each.at for each in held],
                [each.topic for each in held],
                [each.payload for each in held],
            )
        freed = [id_ for id_, message in all_.held.items() if message is None]
        if freed:
            await connection.execute(queries.free_sparkplug, freed)


async def known(pool: Pool) -> list[Row]:
    """What is known of edge nodes, as much as can be kept in mind; those that changed last come last."""
    rows = await pool.fetch(queries.sparkplug_births, _MOST, _MOST_BYTES)
    return [Row(*row) for row in reversed(rows)]


async def known_of(pool: Pool, nodes: Sequence[str]) -> list[Row]:
    """What is known of some edge nodes."""
    return [Row(*row) for row in await pool.fetch(queries.sparkplug_births_of, nodes)]


async def recall(host: Host, pool: Pool, stream: int, received: Received, health: Health) -> None:
    """Let a host know what is stored, and go on holding what the stream's last gateway held."""
    host.learn(await keep_asking(lambda: known(pool), health))
    held = await keep_asking(lambda: resumed(pool, stream), health)
    host.resume(held, received)
    log.info("sparkplug_ready", nodes=len(host.nodes), held=len(held))


async def resumed(pool: Pool, stream: int) -> list[tuple[str, str, bytes, str]]:
    """Messages that were held when the last gateway of a stream ended: id, topic, payload and arrival."""
    rows = await pool.fetch(queries.resume_sparkplug, stream)
    return [(row["id"], row["topic"], row["payload"], format_time(row["received_at"])) for row in rows]
