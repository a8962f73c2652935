"""Both sides of the house, played: rows committed as the gateway does, and applied as the projector does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec

from contract.events import Event, RawEvent, Scalar, encode_events, format_time
from projector.fold import fold
from projector.rebuild import Rebuilder
from projector.verify import Verification, Verifier
from projector.views import Keys, Run, Views

if TYPE_CHECKING:
    import asyncpg
    from redis.asyncio import Redis

    from projector.replica import Progress

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = Keys("p*:")  # a prefix that a pattern would take for something else


class Side:
    """A database and the views of it.

    Attributes:
        now: the time by which views are changed.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], redis: Redis) -> None:
        self.pool = pool
        self.redis = redis
        self.views = Views(redis, KEYS)
        self.rebuilder = Rebuilder(redis, pool, KEYS, lambda: self.now)
        self.now = NOW
        self.head = 0
        self._epoch = ""

    async def commit(self, *events: Event) -> None:
        """Commit a row of stream 0 with its measurements."""
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
            self._epoch = await connection.fetchval(
                """INSERT INTO streams (stream, head) VALUES (0, 1)
                ON CONFLICT (stream) DO UPDATE SET head = streams.head + 1 RETURNING epoch::text"""
            )
            self.head += 1
            await connection.execute(
                "INSERT INTO outbox VALUES (0, $1, $2, $3, now())",
                *(self.head, len(events), encode_events(raw)),
            )

    async def apply(self, *events: Event) -> None:
        """Commit a row and apply it."""
        await self.commit(*events)
        written_at = format_time(self.now)
        run = Run(0, self._epoch, self.head, self.head, fold(events), written_at)
        await self.views.apply(run, self.now)

    async def verify(self, folding: Progress | None = None, limit: int = 20) -> Verification:
        """Verify the views."""
        verifier = Verifier(self.redis, self.pool, KEYS, lambda: self.now, limit=limit)
        return await verifier.verify(folding or quiet, quiet)

    async def keys(self) -> set[str]:
        """Every key but those of the live views."""
        live = (KEYS.devices, KEYS.regions, *KEYS.fixed)
        found = {raw.decode() for raw in cast("list[bytes]", await self.redis.keys())}
        return {key for key in found if not key.startswith(live)}


def event(device: str, second: int, *, region: str | None = "north", **metrics: Scalar) -> Event:
    """An event at a second past nine."""
    ts = f"2026-11-23T09:00:{second:02d}.250000Z"
    return Event(device, region, ts, "2026-11-23T09:01:00.000000Z", f"k\\{second}", metrics)


def encoded(each: Event) -> bytes:
    """An event's metrics as JSON."""
    return msgspec.json.encode(each.metrics)


def quiet(_done: int, _of: int) -> None:
    """Show no progress."""
