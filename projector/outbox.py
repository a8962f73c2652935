"""The outbox in PostgreSQL: where streams stand, their rows, and how far the views have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import msgspec

from contract.events import VERSION, EventBatch, decode_events, format_time
from runtime.errors import Reject, Retry
from runtime.postgres import as_retry, load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projector.views import Cursor

PAGE_ROWS: Final = 256

_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

queries = load_queries("projector")


class Position(NamedTuple):
    """Where a stream stands in PostgreSQL: its history, and the last position committed."""

    epoch: str
    head: int


class Page(NamedTuple):
    """Rows in order, and the stream's position in the same snapshot; None when there is no such stream."""

    rows: list[EventBatch]
    position: Position | None


class Outbox:
    """The outbox's tables.

    Args:
        pool: connections; two at once are enough.
        projection: our name in `projections`.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], projection: str) -> None:
        self._pool = pool
        self._projection = projection

    async def positions(self) -> dict[int, Position]:
        """Read where every stream stands.

        Raises:
            Retry: PostgreSQL is away.
        """
        try:
            records = await self._pool.fetch(queries.read_positions)
        except _ERRORS as error:
            raise _retry(error) from error
        return {record["stream"]: Position(record["epoch"], record["head"]) for record in records}

    async def page(self, stream: int, after: int, max_events: int) -> Page:
        """Read the rows after a position: at least one when there is one, else up to `max_events` events.

        Raises:
            Retry: PostgreSQL is away.
            Reject: a row does not hold events; it names the row.
        """
        try:
            records = await self._pool.fetch(queries.read_rows, stream, after, max_events, PAGE_ROWS)
        except _ERRORS as error:
            raise _retry(error) from error
        if not records:
            return Page([], None)
        position = Position(records[0]["epoch"], records[0]["head"])
        if records[0]["n"] is None:
            return Page([], position)
        return Page([_row(stream, record) for record in records], position)

    async def report(self, cursors: Mapping[int, Cursor]) -> None:
        """Tell the write side how far we have come on each stream. Every cursor must have its epoch.

        Raises:
            Retry: PostgreSQL is away.
        """
        try:
            await self._pool.execute(
                queries.report_cursors,
                self._projection,
                list(cursors),
                [cursor.n for cursor in cursors.values()],
                [cursor.epoch for cursor in cursors.values()],
            )
        except _ERRORS as error:
            raise _retry(error) from error


def _row(stream: int, record: asyncpg.Record) -> EventBatch:
    try:
        events = decode_events(record["payload"])
    except msgspec.DecodeError as error:
        raise Reject("undecodable_row", f"outbox row {record['n']} of stream {stream}: {error}") from error
    return EventBatch(
        VERSION, stream, record["n"], record["epoch"], format_time(record["created_at"]), events
    )


def _retry(error: Exception) -> Exception:
    if isinstance(error, asyncpg.UndefinedTableError):
        return Retry("postgres", "the schema is not there yet: `gateway migrate` makes it")
    return as_retry(error) or error
