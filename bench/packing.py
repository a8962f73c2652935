"""What it takes to pack an hour of a fleet's minutes, and to merge what comes for it later.

The minutes are made inside PostgreSQL; packing and merging are the projector's own code. History's lock is
held while late minutes are merged, not while an hour is packed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from gateway.partitions import make_partitions
from projector.history.packing import Packer
from projector.history.store import merge_late
from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.postgres import Connection

_LONGEST_S: Final = 600.0
_METRICS: Final = 2

queries: Final = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many devices report once a minute, and how many of them come late."""

    devices: int = 5000
    late: int = 400


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        minutes: of a metric of a device, packed.
        packed_s: how long that took.
        late: devices, by two metrics.
        hour_s: until an hour of each was merged; `minute_s` a minute of each.
    """

    minutes: int
    packed_s: float
    late: int
    hour_s: float
    minute_s: float


async def measure(_number: int, options: Options) -> Figures:
    """Pack an hour of yesterday on a fresh server."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = today - timedelta(days=1)
    async with LocalServices(["postgres"], environ={}) as services:
        await migrate(services.postgres_dsn)
        async with asyncpg.create_pool(
            services.postgres_dsn, min_size=0, max_size=2, command_timeout=_LONGEST_S
        ) as pool:
            async with lent(pool) as connection:
                await make_partitions(connection, today, max_ahead=timedelta(days=1))
                await connection.execute(queries.make_minutes, hour, options.devices)
                await connection.execute(queries.analyze)
                await connection.execute(queries.hours_are_over)
            began = time.perf_counter()
            check("packed", int(await Packer(pool).turn()), 1)
            packed_s = time.perf_counter() - began
            minutes = await pool.fetchval(queries.count_packed)
            check("minutes", minutes, options.devices * _METRICS * 60)
            async with lent(pool) as connection:
                hour_s = await _merge(connection, hour, options.late, 60)
                minute_s = await _merge(connection, hour, options.late, 1)
    return Figures(minutes, packed_s, options.late, hour_s, minute_s)


async def _merge(connection: Connection, hour: datetime, devices: int, minutes: int) -> float:
    await connection.execute(queries.late_minutes, hour, devices, minutes)
    began = time.perf_counter()
    async with connection.transaction():
        await merge_late(connection)
    return time.perf_counter() - began


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    rows = median.late * _METRICS
    return [
        Line(
            f"{median.minutes:,} minutes packed",
            f"{median.packed_s:.1f} s, {median.packed_s / median.minutes * 1e6:.1f} µs each",
        ),
        Line(
            f"an hour late, of {median.late:,} devices",
            f"{median.hour_s:.2f} s for {60 * rows:,} minutes, {median.hour_s / rows * 1e3:.2f} ms a row",
        ),
        Line(
            f"a minute late, of {median.late:,} devices",
            f"{median.minute_s:.2f} s for {rows:,} minutes, {median.minute_s / rows * 1e3:.2f} ms a row",
        ),
    ]


SCENARIO: Scenario[Any] = Scenario(
    name="packing",
    title="Packing minutes",
    text="An hour of devices that report two metrics once a minute, then what comes late for it.",
    options=Options(),
    quick=Options(devices=50, late=10),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
