"""What history takes on disk, and writes to the log, beside the measurements that it is made of.

Devices report in turn, each at its pace, by two metrics. Their measurements go into the table as a gateway
puts them there; their rows go through what the projector keeps in memory, on the clock of the rows, and what
leaves it is written by the projector's own code to a real PostgreSQL. A checkpoint every five minutes of that
clock makes the server log whole pages as it does in life. The log is counted around the writing alone. At the
end all of it is packed, as the projector does it when an hour is over.

Beside it stands what the same code takes for the same rows when it writes every ten seconds, as it once did.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from prometheus_client import CollectorRegistry

from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from contract.events import VERSION, Event, EventBatch, format_time
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from gateway.partitions import make_partitions
from projector.history.memory import StreamMemory
from projector.history.packing import Packer
from projector.history.store import Stand, Store, add
from projector.meters import Meters
from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runtime.postgres import Connection

_TABLES: Final = (
    "measurements",
    "open_minutes",
    "packed_minutes",
    "measurements_1h",
    "regions_1m",
    "regions_1h",
)
_METRICS: Final = 2
_UNDER_WAY: Final = timedelta(milliseconds=100)  # from a device to its row
_JITTER_MS: Final = 90  # of when a device measures
_SECOND: Final = timedelta(seconds=1)
_CHECKPOINT_S: Final = 300
_EARLY_S: Final = 10
_HOURS_S: Final = 600
_HOURS_AT_S: Final = 121  # past the hour too, when it is made for good
_MIB: Final = 1024 * 1024
_A_DAY_H: Final = 24
_WAL_TARGET: Final = 0.2
_SIZE_TARGET: Final = 0.5

queries: Final = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many devices, and how many hours of their clock are played."""

    devices: int = 100
    hours: float = 2.0


class Storage(msgspec.Struct, frozen=True):
    """What one pace came to.

    Attributes:
        values: minutes of a metric of a device. What empty partitions take is no part of what follows.
        raw_bytes: of the measurements, index and all.
        open_bytes: of the minutes by device as rows, indexes and all.
        packed_bytes: of the same packed.
        hours_bytes: of the hours.
        region_bytes: of the regions' minutes and hours.
        wal_bytes: written to the log for history.
        packing_wal_bytes: written to it for packing.
        packing_s: how long that took.
        writes: transactions.
    """

    values: int
    raw_bytes: int
    open_bytes: int
    packed_bytes: int
    hours_bytes: int
    region_bytes: int
    wal_bytes: int
    packing_wal_bytes: int
    packing_s: float
    writes: int


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        hours: that were played.
        minute: devices that report once a minute, `busy` every ten seconds.
        minute_compressed: with `wal_compression`.
        minute_early: written every ten seconds.
    """

    hours: float
    minute: Storage
    minute_compressed: Storage
    minute_early: Storage
    busy: Storage
    busy_compressed: Storage
    busy_early: Storage


async def measure(_number: int, options: Options) -> Figures:
    """Play each pace on fresh servers."""
    played: dict[str, Storage] = {}
    for name, every_s in (("minute", 60), ("busy", 10)):
        played[name] = await _play(options, every_s)
        played[f"{name}_compressed"] = await _play(options, every_s, compressed=True)
        played[f"{name}_early"] = await _play(options, every_s, early=True)
    return Figures(options.hours, **played)


async def _play(options: Options, every_s: int, *, early: bool = False, compressed: bool = False) -> Storage:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = round(options.hours * 3600)
    shape = (options.devices, every_s, seconds, today - timedelta(days=1))
    async with LocalServices(["postgres"], environ={}) as services:
        await migrate(services.postgres_dsn)
        async with asyncpg.create_pool(services.postgres_dsn, min_size=1, max_size=2) as pool:
            async with lent(pool) as connection:
                await make_partitions(connection, today, max_ahead=timedelta(days=1))
                epoch = await connection.fetchval(queries.make_stream, seconds)
                await connection.execute(queries.begin_history_at_once)
                empty = {name: await connection.fetchval(queries.size_of, name) for name in _TABLES}
                if compressed:
                    await connection.execute(queries.compress_log)
                    await connection.execute(queries.reload)
            writer = _Writer(pool, epoch)
            for row in _rows(*shape, epoch):
                await writer.take(row, early=early)
            await writer.flush()
            async with lent(pool) as connection:
                await _copy(connection, _rows(*shape, epoch))
                before = await connection.fetchval(queries.count_minutes)
            await writer.pack()
            async with lent(pool) as connection:
                sizes = {
                    name: await connection.fetchval(queries.size_of, name) - empty[name] for name in _TABLES
                }
                values = await connection.fetchval(queries.count_minutes)
    check("minutes before they were packed", before, options.devices * _METRICS * math.ceil(seconds / 60))
    check("minutes", values, before)
    return Storage(
        values=values,
        raw_bytes=sizes["measurements"],
        open_bytes=sizes["open_minutes"],
        packed_bytes=sizes["packed_minutes"],
        hours_bytes=sizes["measurements_1h"],
        region_bytes=sizes["regions_1m"] + sizes["regions_1h"],
        wal_bytes=writer.wal_bytes,
        packing_wal_bytes=writer.packing_wal_bytes,
        packing_s=writer.packing_s,
        writes=writer.writes,
    )


def _rows(devices: int, every_s: int, seconds: int, start: datetime, epoch: str) -> Iterator[EventBatch]:
    """A row for each second, with the devices whose turn it is."""
    for second in range(seconds):
        at = start + second * _SECOND
        received = format_time(at + _UNDER_WAY)
        events = [
            Event(
                f"device-{device:05d}",
                f"region-{device % 4}",
                format_time(at + timedelta(milliseconds=(second * 7 + device * 31) % _JITTER_MS)),
                received,
                f"{second}-{device}",
                {
                    "temperature": 20 + (second + device) % 90 / 10,
                    "humidity": 40 + (second * device) % 37 / 4,
                },
            )
            for device in range(second % every_s, devices, every_s)
        ]
        yield EventBatch(VERSION, 0, second + 1, epoch, received, events)


class _Writer:
    """Writes history as the projector does, on the rows' clock."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], epoch: str) -> None:
        self._pool = pool
        self._store = Store(pool)
        now = datetime.now(UTC)
        meters = Meters(CollectorRegistry()).of(0)
        self._memory = StreamMemory(0, meters, now, at_once=False)
        self._memory.stands(Stand(epoch, 0, 0, None), 0, now)
        self.wal_bytes = 0
        self.writes = 0
        self.packing_wal_bytes = 0
        self.packing_s = 0.0

    async def take(self, row: EventBatch, *, early: bool) -> None:
        """Take a row, and write what is due then."""
        self._memory.take([row])
        if row.n % _CHECKPOINT_S == 0:
            async with lent(self._pool) as connection:
                await connection.execute(queries.checkpoint)
        if not early and row.n % _HOURS_S == _HOURS_AT_S:
            await self._make_hours(datetime.fromisoformat(row.created_at))
        if early and row.n % _EARLY_S == 0:
            await self.flush()
        elif self._memory.is_due:
            await self._write(everything=False)

    async def flush(self) -> None:
        """Write everything."""
        if self._memory.end > self._memory.cursor:
            await self._write(everything=True)

    async def pack(self) -> None:
        """Pack all that was written."""
        await self._store.make_hours()
        before, began = await self._pool.fetchval(queries.log_position), time.perf_counter()
        while await Packer(self._pool).turn():
            pass
        self.packing_s = time.perf_counter() - began
        self.packing_wal_bytes = await self._pool.fetchval(queries.logged_since, before)

    async def _make_hours(self, now: datetime) -> None:
        before = await self._pool.fetchval(queries.log_position)
        await self._store.make_hours()
        await self._pool.execute(queries.open_hours_at, now)
        self.wal_bytes += await self._pool.fetchval(queries.logged_since, before)

    async def _write(self, *, everything: bool) -> None:
        span, minutes = self._memory.hand_over(everything=everything)
        before = await self._pool.fetchval(queries.log_position)
        async with self._store.turn() as connection:
            added = await add(connection, span, minutes)
        self.wal_bytes += await self._pool.fetchval(queries.logged_since, before)
        self.writes += 1
        check("refused", int(added is None), 0)
        self._memory.written(span.last)


async def _copy(connection: Connection, rows: Iterator[EventBatch]) -> None:
    await connection.copy_records_to_table(
        "measurements",
        records=(
            (
                each.device_id,
                datetime.fromisoformat(each.ts),
                datetime.fromisoformat(each.received_at),
                each.key,
                each.region,
                msgspec.json.encode(each.metrics).decode(),
                None,
            )
            for row in rows
            for each in row.events
        ),
        columns=["device_id", "ts", "received_at", "message_key", "region", "metrics", "tags"],
    )


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        *_sizes("once a minute", median.hours, median.minute, f"≤ {_SIZE_TARGET}"),
        *_sizes("every 10 s", median.hours, median.busy, ""),
        *_logs("once a minute", median.minute, median.minute_compressed, median.minute_early),
        *_logs("every 10 s", median.busy, median.busy_compressed, median.busy_early),
    ]


def _sizes(pace: str, hours: float, of: Storage, target: str) -> Sequence[Line]:
    days = hours / _A_DAY_H
    history = of.packed_bytes + of.hours_bytes + of.region_bytes
    ratio, rows = of.packed_bytes / of.raw_bytes, of.open_bytes / of.raw_bytes
    a_day = 60 * _A_DAY_H / of.values
    return [
        Line(f"a day of measurements, sent {pace}", f"{of.raw_bytes / days / _MIB:,.0f} MiB"),
        Line(
            f"a day of history, sent {pace}",
            f"{history / days / _MIB:,.0f} MiB, of which minutes {of.packed_bytes / days / _MIB:,.0f}",
        ),
        Line(
            f"minutes to measurements, sent {pace}",
            f"{ratio:.2f}; as rows, before they are packed, {rows:.2f}",
            target,
            ratio <= _SIZE_TARGET if target else None,
        ),
        Line(
            f"a day of minutes of a device's metric, sent {pace}",
            f"{of.packed_bytes * a_day:,.0f} bytes; as rows {of.open_bytes * a_day:,.0f}",
        ),
        Line(
            f"packing a minute of a metric, sent {pace}",
            f"{of.packing_s / of.values * 1e6:.1f} µs, {of.packing_wal_bytes / of.values:.0f} bytes of log",
        ),
    ]


def _logs(pace: str, once: Storage, compressed: Storage, early: Storage) -> Sequence[Line]:
    now, small, before = (each.wal_bytes / each.values for each in (once, compressed, early))
    return [
        Line(
            f"log for a minute of a metric, sent {pace}", f"{now:,.0f} bytes; pages compressed {small:,.0f}"
        ),
        Line(
            f"to that of being written every 10 s, {before:,.0f} bytes",
            f"{now / before:.2f}; pages compressed {small / before:.2f}",
            f"≤ {_WAL_TARGET}",
            now / before <= _WAL_TARGET,
        ),
    ]


SCENARIO: Scenario[Any] = Scenario(
    name="history_storage",
    title="History on disk",
    text="Devices with two metrics each, their rows through the projector's history into a PostgreSQL that "
    "makes a checkpoint every five minutes.",
    options=Options(),
    quick=Options(devices=10, hours=0.1),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
