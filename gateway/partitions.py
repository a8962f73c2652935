"""Partitions over time, of measurements by the day, of history by the day and the month, made ahead of it.

Rows without a partition of their own go to the default one, where they are read like any, and stay: days that
it holds rows of get no partition any more. So partitions are made for everything that a device may send: the
past week, for devices that come back with a backlog, and as far ahead as `max_ahead` lets a device's clock
be, and a week more, which a gateway may be away for.

Attaching one reads the default partition while nobody can write to it, unless the server knows already that
nothing of that time is there. A default partition of more than a moment is therefore shut for the days ahead
first: a constraint that refuses their rows, proved while everybody goes on, dropped when they are attached.
No row can be of these days yet. For days that rows may be of already nothing can be proved without refusing
them: while the default partition is so large they are left to it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import structlog

from runtime.errors import Retry
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

BEHIND: Final = timedelta(days=7)
AHEAD: Final = timedelta(days=7)  # beyond `max_ahead`

_MOMENT_BYTES: Final = 32_000_000  # read in some ten milliseconds
_LONGEST_S: Final = 6 * 3600.0  # reading a default partition of terabytes
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.5


class Table(NamedTuple):
    """A table over time.

    Attributes:
        kept: what of history it holds, by which it is known since when; None for measurements.
    """

    name: str
    time_column: str
    monthly: bool = False
    kept: str | None = None


MEASUREMENTS: Final = Table("measurements", "ts")
HISTORY: Final = (
    Table("open_minutes", "bucket", kept="open"),
    Table("packed_minutes", "hour", kept="1m"),
    Table("regions_1m", "bucket", kept="1m"),
    Table("measurements_1h", "bucket", monthly=True, kept="1h"),
    Table("regions_1h", "bucket", monthly=True, kept="1h"),
)


class _Range(NamedTuple):
    """From the first instant to the one after the last."""

    since: datetime
    until: datetime


async def make_partitions(
    connection: Connection, now: datetime, *, max_ahead: timedelta, retention: timedelta | None = None
) -> list[str]:
    """Make the partitions that are missing around now.

    Args:
        connection: of nobody else meanwhile.
        now: by the gateway's clock.
        max_ahead: how far ahead of `now` a row may be.
        retention: of measurements; no days are made that would be dropped.

    Returns:
        The table and the first day of those made now.

    Raises:
        Retry: some could not be made; it says which and what to do. The others were.
    """
    floors = {row["kept"]: row["since"] for row in await connection.fetch(queries.history_kept_since)}
    floors[None] = None if retention is None else _midnight(now - retention)
    made: list[str] = []
    failed: list[str] = []
    for table in (MEASUREMENTS, *HISTORY):
        wanted = [
            each
            for each in _ranges(now - BEHIND, now + max_ahead + AHEAD, monthly=table.monthly)
            if (floor := floors[table.kept]) is None or each.until > floor
        ]
        maker = _Maker(connection, table, now + max_ahead)
        await maker.make(wanted)
        made += [f"{table.name} {since:%Y-%m-%d}" for since in maker.made]
        failed += maker.failed
    if made:
        log.info("partitions_made", partitions=len(made), newest=made[0])
    if failed:
        raise Retry("partitions", "; ".join(failed))
    return made


class _Maker:
    """Makes partitions of one table; `reach` is the latest time that a row may have."""

    def __init__(self, connection: Connection, table: Table, reach: datetime) -> None:
        self.made: list[datetime] = []
        self.failed: list[str] = []
        self._connection = connection
        self._table = table
        self._reach = reach

    async def make(self, wanted: Sequence[_Range]) -> None:
        """Make those that are missing, the latest first."""
        name, column = self._table.name, self._table.time_column
        try:
            await self._connection.execute(queries.open_default_partition, name)
            rows = await self._connection.fetch(queries.missing_partitions, name, column, *_columns(wanted))
            missing = [_Range(*row) for row in rows]
            if not missing:
                return
            if await self._connection.fetchval(queries.default_bytes, name) <= _MOMENT_BYTES:
                await self._attach(missing)
                return
            ahead = [each for each in missing if each.since > self._reach]
            if left := len(missing) - len(ahead):
                log.info("partitions_left_to_default", table=name, partitions=left)
            if ahead:
                await self._attach_unread(ahead)
        except asyncpg.LockNotAvailableError:
            self.failed.append(f"{name}_default is in use: looked at again in a minute")

    async def _attach_unread(self, ahead: Sequence[_Range]) -> None:
        name, column = self._table.name, self._table.time_column
        await self._connection.execute(queries.shut_default_partition, name, column, *_columns(ahead))
        try:
            await self._connection.execute(queries.validate_default_partition, name, timeout=_LONGEST_S)
            await self._attach(ahead)
        except asyncpg.CheckViolationError:
            self.failed.append(
                f"{name}_default has rows of {ahead[-1].since:%F} to {ahead[0].until:%F} by now"
            )
        finally:
            await self._open()

    async def _attach(self, ranges: Sequence[_Range]) -> None:
        for each in ranges:
            try:
                if await self._connection.fetchval(
                    queries.attach_partition, self._table.name, self._table.time_column, *each
                ):
                    self.made.append(each.since)
            except asyncpg.LockNotAvailableError:
                self.failed.append(
                    f"{self._table.name}_default is in use: {each.since:%F} is made in a minute"
                )
            except (asyncpg.DuplicateTableError, asyncpg.InvalidObjectDefinitionError) as error:
                self.failed.append(f"no partition of {self._table.name} for {each.since:%F}: {error}")

    async def _open(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._connection.execute(queries.open_default_partition, self._table.name)
            except asyncpg.LockNotAvailableError:  # a reader of all; there is a week's time
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return


def _columns(ranges: Sequence[_Range]) -> tuple[list[datetime], list[datetime]]:
    return [each.since for each in ranges], [each.until for each in ranges]


def _ranges(first: datetime, last: datetime, *, monthly: bool) -> list[_Range]:
    """The days, or months, that hold any instant from first to last, both included."""
    since = _midnight(first)
    if monthly:
        since = since.replace(day=1)
    ranges = []
    while since <= last:
        until = since + timedelta(days=32 if monthly else 1)
        until = until.replace(day=1) if monthly else until
        ranges.append(_Range(since, until))
        since = until
    return ranges


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
