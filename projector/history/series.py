"""One device's series out of history, at any step of whole minutes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from contract.events import format_time
from projector.outbox import answering, queries
from runtime.postgres import lent, open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from runtime.postgres import Connection

MOST_POINTS: Final = 1500
PATIENCE_S: Final = 3.0  # whoever asked for a picture has left by then, and those who wait are not to pile up
HOUR: Final = timedelta(hours=1)
_SETTINGS: Final = {"plan_cache_mode": "force_generic_plan", "jit": "off"}  # planning took longer than asking


class Point(msgspec.Struct, frozen=True):
    """What was measured in one step; `at` is its beginning, ISO 8601 UTC."""

    at: str
    count: int
    avg: float
    min: float
    max: float


class Series(msgspec.Struct, frozen=True):
    """A metric of a device over time. Steps without a measurement have no point.

    Attributes:
        since: begins the first step, ISO 8601 UTC; `until` ends the last.
    """

    device_id: str
    metric: str
    since: str
    until: str
    step_seconds: int
    points: list[Point]


class History:
    """Reads history, over connections of its own that are made when first needed."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def series(
        self, device_id: str, metric: str, since: datetime, until: datetime, step: timedelta
    ) -> Series | None:
        """Read one metric of a device; None when there is no such device.

        Args:
            device_id: of whom.
            metric: of which.
            since: widened to a multiple of the step since 1970,
            until: and so is this.
            step: a multiple of a minute. From whole hours on, hours are read.

        Raises:
            Retry: PostgreSQL is away, or does not answer in time.
        """
        since, until = _floor(since, step), _floor(until + step - timedelta.resolution, step)
        query = queries.read_hours_of if step % HOUR == timedelta() else queries.read_minutes_of
        async with self.asked() as connection:
            rows = await connection.fetch(query, device_id, metric, since, until, step)
            if not rows and not await connection.fetchval(queries.is_known, device_id):
                return None
        points = [
            Point(format_time(row["at"]), row["count"], row["avg"], row["min"], row["max"]) for row in rows
        ]
        return Series(
            device_id, metric, format_time(since), format_time(until), int(step.total_seconds()), points
        )

    @asynccontextmanager
    async def asked(self, turn: asyncio.Semaphore | None = None) -> AsyncIterator[Connection]:
        """A connection for a question that is answered within `PATIENCE_S`, of which it waits for its turn.

        Raises:
            Retry: PostgreSQL is away, or does not answer in time.
        """
        with answering():
            async with (
                asyncio.timeout(PATIENCE_S),
                turn or nullcontext(),
                lent(await self._connected()) as connection,
            ):
                yield connection

    async def aclose(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()

    async def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                name = f"{self._name}-history"
                self._pool = await open_pool(self._dsn, name=name, max_size=2, settings=_SETTINGS)
            return self._pool


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - datetime(1970, 1, 1, tzinfo=UTC)) % step
