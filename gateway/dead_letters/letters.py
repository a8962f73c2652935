"""Dead letters as they lie in the table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from runtime.errors import Stop
from runtime.postgres import load_queries, open_pool, retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from gateway.dead_letters.selection import Selection

queries = load_queries("gateway")

_NOT_MIGRATED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


class Letter(msgspec.Struct, frozen=True):
    """A dead letter without its bytes.

    Attributes:
        size: of the payload, in bytes.
        replayed_at: when what it holds was stored; None while it waits.
        stands_for: of a message of several devices, those of them that it stands for; None for all of it.
        gateway: the client id of the gateway that was told it; None of what came before that was noted.
    """

    id: int
    received_at: datetime
    reason: str
    device_id: str | None
    topic: str
    size: int
    error: str
    replayed_at: datetime | None
    stands_for: list[str] | None = None
    gateway: str | None = None


@contextlib.asynccontextmanager
async def database(
    dsn: str, settings: Mapping[str, str] | None = None, name: str = "gateway-dead-letters"
) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Open a pool for one command.

    Raises:
        Retry: PostgreSQL is away.
        Stop: it has no schema, or an older one.
    """
    async with await open_pool(dsn, name=name, max_size=2, settings=settings) as pool:
        try:
            with retryable():
                yield pool
        except _NOT_MIGRATED as error:
            raise Stop("the database's schema is not this program's: run `gateway migrate`") from error


async def listed(pool: asyncpg.Pool[asyncpg.Record], selection: Selection, limit: int) -> list[Letter]:
    """Read the newest letters of a selection, the newest first."""
    rows = await pool.fetch(queries.list_dead_letters, *selection, limit)
    return [Letter(**row) for row in rows]


async def count(dsn: str, selection: Selection) -> int:
    """How many letters are selected.

    Raises:
        Retry: PostgreSQL is away.
    """
    async with database(dsn) as pool:
        row = await pool.fetchrow(queries.count_dead_letters, *selection)
        return row["letters"] if row else 0


async def shown(pool: asyncpg.Pool[asyncpg.Record], letter_id: int) -> tuple[Letter, bytes]:
    """Read one letter and its bytes.

    Raises:
        Stop: there is none with this id.
    """
    row = await pool.fetchrow(queries.show_dead_letter, letter_id)
    if row is None:
        raise Stop(f"there is no dead letter {letter_id}")
    fields = dict(row)
    payload: bytes = fields.pop("payload")
    return Letter(**fields), payload
