"""Keeps edge nodes and held messages in PostgreSQL: writes them with their batch, and reads them.

Everything is written as it is to be, so a transaction that is written again, because its COMMIT got no
answer, leaves the same. Batches write in turns, so the last one counts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

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

_MOST: Final = 50_000  # rows that are read at the start
_MOST_BYTES: Final = 64_000_000
_MOST_STORED: Final = 200_000  # of all gateways of a site
_MOST_STORED_BYTES: Final = 256_000_000
_GONE_AFTER: Final = timedelta(days=90)


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
        rows = [row for row in all_.rows.values() if not row.shared]
        if shared := [row for row in all_.rows.values() if row.shared]:
            rows += await self._beside_others(connection, shared)
        if rows:
            await connection.execute(queries.write_sparkplug_births, *_columns(rows))
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

    @staticmethod
    async def _beside_others(connection: Connection, rows: Sequence[Row]) -> list[Row]:
        """The rows, with what other gateways have stored of the same edge nodes."""
        await connection.execute(queries.begin_sparkplug_births, *_columns(rows))
        nodes, devices = [row.node for row in rows], [row.device for row in rows]
        stored = await connection.fetch(queries.hold_sparkplug_births, nodes, devices)
        others = {(row["node"], row["device"]): Row(*row) for row in stored}
        return [row.beside(others[row.node, row.device]) for row in rows]


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)][:-1]


async def known(pool: Pool) -> list[Row]:
    """What is known of edge nodes, as much as can be kept in mind; those that changed last come last."""
    rows = await pool.fetch(queries.sparkplug_births, _MOST, _MOST_BYTES)
    return [Row(*row) for row in reversed(rows)]


async def known_of(pool: Pool, nodes: Sequence[str]) -> list[Row]:
    """What is known of some edge nodes."""
    return [Row(*row) for row in await pool.fetch(queries.sparkplug_births_of, nodes)]


async def forget(connection: Connection, *, most: int = _MOST_STORED) -> None:
    """Remove what is known of edge nodes and devices that are gone for good, and of too many.

    Should one be back it is asked for a rebirth, as one that was never heard.
    """
    done = await connection.execute(queries.forget_sparkplug_births, most, _MOST_STORED_BYTES, _GONE_AFTER)
    if removed := int(done.rpartition(" ")[2]):
        log.info("sparkplug_births_removed", rows=removed)


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
