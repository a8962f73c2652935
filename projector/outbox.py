"""The outbox in PostgreSQL: where streams stand, their rows, and how far the views have come."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from contract.events import VERSION, EventBatch, decode_events, format_time
from contract.order import check_times
from runtime.errors import Reject, Retry
from runtime.postgres import load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from projector.views import Cursor, Seen
    from runtime.postgres import Connection

PAGE_ROWS: Final = 256
PAGE_BYTES: Final = 8_000_000  # in memory ten times that

_NOT_MIGRATED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)

queries = load_queries("projector")


class Position(NamedTuple):
    """Where a stream stands in PostgreSQL: its history, and the last position committed.

    Attributes:
        waiting_since: when the oldest row after a cursor was written; None without one, or without a cursor.
        head_at: when the row at the head was written, in the contract's form; None when that is not known.
    """

    epoch: str
    head: int
    waiting_since: datetime | None = None
    head_at: str | None = None


class Page(NamedTuple):
    """Rows in order, and the stream's position in the same snapshot; None when there is no such stream."""

    rows: list[EventBatch]
    position: Position | None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn errors of the database inside the block into `Retry` where waiting can help; others pass.

    Raises:
        Retry: instead of an error that may mend itself, a schema that is not there yet among them.
    """
    try:
        with retryable():
            yield
    except _NOT_MIGRATED as error:
        raise Retry("postgres", "the schema is not there yet: `gateway migrate` makes it") from error


class Outbox:
    """The outbox's tables.

    Args:
        pool: connections, or one whose snapshot to read in.
        projection: the name in `projections` under which to report.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record] | Connection, projection: str) -> None:
        self._pool = pool
        self._projection = projection

    async def positions(self) -> dict[int, Position]:
        """Read where every stream stands.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            records = await self._pool.fetch(queries.read_positions)
        return {record["stream"]: as_position(record) for record in records}

    async def keys(self) -> dict[int, bytes]:
        """Read with what the rows of each stream are signed; nothing where gateways do not sign yet.

        Raises:
            Retry: PostgreSQL is away.
            Reject: our role may not read them.
        """
        with retryable():
            try:
                records = await self._pool.fetch(queries.read_keys)
            except _NOT_MIGRATED:
                return {}
            except asyncpg.InsufficientPrivilegeError as error:  # which else is waited for
                raise Reject("keys_unreadable", str(error)) from error
        return {record["stream"]: record["key"] for record in records}

    async def look(self, cursors: Mapping[int, int]) -> dict[int, Position]:
        """Read where every stream stands, and since when rows wait after these cursors, by stream.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            records = await self._pool.fetch(queries.look_at_streams, list(cursors), list(cursors.values()))
        return {
            record["stream"]: Position(record["epoch"], record["head"], record["waiting_since"])
            for record in records
        }

    async def replaced(self, seen: Mapping[int, Sequence[Seen]]) -> set[int]:
        """Find the streams on which a row is there in place of one that was read.

        Raises:
            Retry: PostgreSQL is away.
        """
        rows = [(stream, row.n, row.created_at) for stream, rows in seen.items() for row in rows]
        if not rows:
            return set()
        with answering():
            records = await self._pool.fetch(queries.find_replaced, *map(list, zip(*rows, strict=True)))
        return {record["stream"] for record in records}

    async def page(self, stream: int, after: int, max_events: int) -> Page:
        """Read the rows after a position: at least one when there is one, else up to `max_events` events.

        A row that does not hold events ends the page before it.

        Raises:
            Retry: PostgreSQL is away.
            Reject: the first row does not hold events; it names the row.
        """
        with answering():
            records = await self._pool.fetch(
                queries.read_rows, stream, after, max_events, PAGE_ROWS, PAGE_BYTES
            )
        if not records:
            return Page([], None)
        position = Position(records[0]["epoch"], records[0]["head"])
        if records[0]["n"] is None:
            return Page([], position)
        rows: list[EventBatch] = []
        for record in records:
            try:
                rows.append(_row(stream, record))
            except Reject:
                if not rows:
                    raise
                break
        return Page(rows, position)

    async def report(self, cursors: Mapping[int, Cursor]) -> None:
        """Tell the write side how far we have come on each stream. Every cursor must have its epoch.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            await self._pool.execute(
                queries.report_cursors,
                self._projection,
                list(cursors),
                [cursor.n for cursor in cursors.values()],
                [cursor.epoch for cursor in cursors.values()],
            )

    async def renew(self) -> None:
        """Say that our reports still hold.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            await self._pool.execute(queries.renew_projection, self._projection)

    async def retire(self) -> None:
        """Take our reports back, so that nothing is kept for us any more; stale ones of others like us too.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            await self._pool.execute(queries.retire_projection, self._projection)


def as_position(record: asyncpg.Record) -> Position:
    """One line of `read_positions`."""
    head_at = record["head_at"]
    return Position(record["epoch"], record["head"], head_at=format_time(head_at) if head_at else None)


def _row(stream: int, record: asyncpg.Record) -> EventBatch:
    try:
        events = decode_events(record["payload"])
        check_times(events)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise Reject("undecodable_row", f"outbox row {record['n']} of stream {stream}: {error}") from error
    return EventBatch(
        VERSION, stream, record["n"], record["epoch"], format_time(record["created_at"]), events
    )
