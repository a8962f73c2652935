"""What a gateway commits, played: measurements with their outbox row, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from contract.events import VERSION, Event, EventBatch, RawEvent, encode_events, format_time

if TYPE_CHECKING:
    import asyncpg


class Committed:
    """The write side of one database.

    Attributes:
        rows: everything committed, in order of commit.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.pool = pool
        self.rows: list[EventBatch] = []

    @property
    def events(self) -> list[Event]:
        """Every event committed."""
        return [event for row in self.rows for event in row.events]

    async def commit(self, *events: Event, stream: int = 0) -> EventBatch:
        """Commit a row; returns it as a reader would see it."""
        raw = [
            RawEvent(e.device_id, e.region, e.ts, e.received_at, e.key, msgspec.Raw(encoded(e)))
            for e in events
        ]
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                """INSERT INTO measurements (device_id, region, ts, received_at, message_key, metrics)
                VALUES ($1, $2, $3::text::timestamptz, $4::text::timestamptz, $5, $6)""",
                [(e.device_id, e.region, e.ts, e.received_at, e.key, encoded(e).decode()) for e in events],
            )
            at = await connection.fetchrow(
                """INSERT INTO stream_leases AS l (stream, head) VALUES ($1, 1)
                ON CONFLICT (stream) DO UPDATE SET head = l.head + 1 RETURNING epoch::text, head""",
                stream,
            )
            assert at is not None
            written_at = await connection.fetchval(
                "INSERT INTO outbox VALUES ($1, $2, $3, $4, now()) RETURNING created_at",
                *(stream, at["head"], len(events), encode_events(raw)),
            )
        row = EventBatch(VERSION, stream, at["head"], at["epoch"], format_time(written_at), [*events])
        self.rows.append(row)
        return row


def encoded(event: Event) -> bytes:
    """An event's metrics as JSON."""
    return msgspec.json.encode(event.metrics)
