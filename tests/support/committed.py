"""What a gateway commits, played: measurements with their outbox row, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from contract.events import VERSION, Event, EventBatch, RawEvent, encode_events, format_time
from contract.order import said_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from runtime.postgres import Connection
    from tests.support.roles import Pools


class Committed:
    """The write side of one database.

    Attributes:
        pools: to it; rows are committed with a gateway's rights.
        pool: its owner's.
        rows: everything committed, in order of commit.
    """

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.pool = pools.owner
        self.rows: list[EventBatch] = []

    @property
    def events(self) -> list[Event]:
        """Every event committed."""
        return [event for row in self.rows for event in row.events]

    async def commit(self, *events: Event, stream: int = 0, at: datetime | None = None) -> EventBatch:
        """Commit a row; returns it as a reader would see it.

        Args:
            events: of the row.
            stream: on which.
            at: when it is written; now, unless said.
        """
        async with self.pools.gateway.acquire() as connection, connection.transaction():
            await connection.executemany(
                """INSERT INTO measurements (device_id, region, ts, received_at, message_key, metrics, tags)
                VALUES ($1, $2, $3::text::timestamptz, $4::text::timestamptz, $5, $6, $7)""",
                [
                    (e.device_id, e.region, e.ts, e.received_at, e.key, encoded(e).decode(), tags_of(e))
                    for e in events
                ],
            )
            events = await noted(connection, events)
            place = await connection.fetchrow(
                """INSERT INTO stream_leases AS l (stream, head) VALUES ($1, 1)
                ON CONFLICT (stream) DO UPDATE SET head = l.head + 1 RETURNING epoch::text, head""",
                stream,
            )
            assert place is not None
            written_at = await connection.fetchval(
                "INSERT INTO outbox VALUES ($1, $2, $3, $4, coalesce($5, now())) RETURNING created_at",
                *(stream, place["head"], len(events), encode_events([raw(e) for e in events]), at),
            )
        row = EventBatch(VERSION, stream, place["head"], place["epoch"], format_time(written_at), [*events])
        self.rows.append(row)
        return row


def raw(e: Event) -> RawEvent:
    """An event as the write side encodes it."""
    fields = msgspec.structs.asdict(e) | {"metrics": msgspec.Raw(encoded(e))}
    return RawEvent(**fields)


async def noted(connection: Connection, events: Sequence[Event]) -> tuple[Event, ...]:
    """The events, those that change whether their device is online with the time since when it is so."""
    said = [n for n, event in enumerate(events) if event.online is not None]
    changing = await connection.fetch(
        "SELECT note_presence($1, $2::text[]::timestamptz[], $3::text[]::timestamptz[], $4, $5, $6)",
        [events[n].device_id for n in said],
        [events[n].ts for n in said],
        [events[n].received_at for n in said],
        [events[n].key for n in said],
        [events[n].online for n in said],
        [False for _ in said],
    )
    found = list(events)
    for (place,) in changing:
        n = said[place - 1]
        since = said_time(events[n].ts, events[n].received_at)
        found[n] = msgspec.structs.replace(events[n], online_since=since)
    return tuple(found)


def tags_of(event: Event) -> str | None:
    """An event's tags as JSON."""
    return msgspec.json.encode(event.tags).decode() if event.tags else None


def encoded(event: Event) -> bytes:
    """An event's metrics as JSON."""
    return msgspec.json.encode(event.metrics)
