"""How fast `projector rebuild` makes the views anew, for few devices and for many.

Measurements are made in PostgreSQL, in the order in which the load would have brought them: the devices in
turn, so that a page of them has as many devices as it can. The command then runs alone; its own figures count
from its first query to the views in place. It runs twice: once from every measurement, and once more when all
days but the last are settled, as the gateway does it when they are over.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from redis.asyncio import Redis

from bench import meter
from bench.scenario import PlantError, Scenario, check, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from gateway.settling import settle
from projector.repair.rebuild import Rebuilt
from runtime.postgres import lent, load_queries, open_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase

_TARGET_PER_S: Final = 100_000
_PER_EVENT: Final = 1e6
_LONG_S: Final = 3600.0
_LATE: Final = 50_000
_SOON_S: Final = 180.0
_SOON_EVENTS: Final = 100_000_000

queries = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many events on how many days, of how many devices each time."""

    events: int = 2_000_000
    days: int = 10
    devices: tuple[int, ...] = (1000, 100_000)


class Settled(msgspec.Struct, frozen=True):
    """A rebuild when all days but the last are settled.

    Attributes:
        events: of these days; 0 where their statistics would be hardly fewer rows than their measurements.
        seconds: that the rebuild took.
        events_per_s: put in place, all of them.
        statistics: rows that were read instead.
        settle_us: µs of PostgreSQL's CPU that settling took, a measurement.
        late_us: how much more a measurement of a settled day takes than one of today, folded in the end.
    """

    events: int
    seconds: float
    events_per_s: float
    statistics: int
    settle_us: float
    late_us: float


class Rebuild(msgspec.Struct, frozen=True):
    """One rebuild.

    Attributes:
        views: hashes made, of devices and regions.
        events_per_s: folded and put in place.
        swap_ms: for how long views of both sets existed, at the end; Redis answered meanwhile.
        redis_bytes: of Redis's memory that a device takes, all keys counted, history's sparklines not.
        cpu_us: µs of CPU an event, by process.
        settled: when most of the same is settled; None in results of before that was.
    """

    views: int
    events_per_s: float
    swap_ms: float
    redis_bytes: float
    cpu_us: dict[str, float]
    settled: Settled | None = None


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        rebuilds: by number of devices.
    """

    rebuilds: dict[str, Rebuild]


async def measure(_number: int, options: Options) -> Figures:
    """Rebuild for each number of devices, on fresh servers."""
    return Figures({str(devices): await _rebuild(options, devices) for devices in options.devices})


async def _rebuild(options: Options, devices: int) -> Rebuild:
    events = options.events
    async with LocalServices(("postgres", "redis"), environ={}) as services:
        await migrate(services.postgres_dsn)
        await _fill(services.postgres_dsn, options, devices)
        before, empty_bytes = _cpu_s(services), await _redis_bytes(services.redis_url)
        rebuilt = await _run(services.environment(), "measurements")
        used = {name: after - before[name] for name, after in _cpu_s(services).items()}
        redis_bytes = (await _redis_bytes(services.redis_url) - empty_bytes) / devices
        check("events folded", rebuilt.events, events)
        settled = await _settled(services, options, devices)
    cpu_us = {name: seconds / events * _PER_EVENT for name, seconds in used.items()}
    return Rebuild(rebuilt.views, events / rebuilt.seconds, rebuilt.swap_ms, redis_bytes, cpu_us, settled)


async def _settled(services: LocalServices, options: Options, devices: int) -> Settled:
    def cpu_us(events: int) -> float:
        return _cpu_s(services)["postgres"] / events * _PER_EVENT

    events = options.events
    async with await open_pool(services.postgres_dsn, name="bench") as pool, lent(pool) as connection:
        before = cpu_us(_past(options))
        await settle(connection, datetime.now(UTC), None)
        settle_us = cpu_us(_past(options)) - before
        await connection.execute(queries.vacuum, timeout=_LONG_S)
        await connection.execute(queries.checkpoint, timeout=_LONG_S)
        statistics = await connection.fetchval(queries.count_settled)
        rebuilt = await _run(services.environment(), "settled")
        check("events folded, settled", rebuilt.events, events)
        marks = [cpu_us(_LATE)]
        await connection.execute(queries.fill_today, 0, _LATE, devices, timeout=_LONG_S)
        marks.append(cpu_us(_LATE))
        first, hour = _midnight() - timedelta(days=options.days), timedelta(hours=1)
        await connection.execute(queries.fill_past_days, _LATE, devices, first, hour, timeout=_LONG_S)
        await settle(connection, datetime.now(UTC), None)
        marks.append(cpu_us(_LATE))
        late_us = marks[2] - 2 * marks[1] + marks[0]
    return Settled(rebuilt.settled, rebuilt.seconds, events / rebuilt.seconds, statistics, settle_us, late_us)


async def _fill(dsn: str, options: Options, devices: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(queries.make_partitions, options.days)
    first, past = _midnight() - timedelta(days=options.days), _past(options)
    days = timedelta(days=options.days - 1)
    await connection.execute(queries.fill_past_days, past, devices, first, days)
    await connection.execute(queries.fill_today, past, options.events, devices)
    await connection.execute(queries.vacuum)
    await connection.execute(queries.checkpoint)
    await connection.close()


def _past(options: Options) -> int:
    """How many are of the days before."""
    return options.events * (options.days - 1) // options.days


def _midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def _run(environment: dict[str, str], source: str) -> Rebuilt:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "projector",
            "rebuild",
            "--only",
            "views",
            "--from",
            source,
            "--json",
            "--log-level",
            "warning",
        ),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise PlantError(f"projector rebuild ended with {process.returncode}")
    return msgspec.json.decode(output, type=Rebuilt)


async def _redis_bytes(url: str) -> int:
    async with Redis.from_url(url) as redis:
        return int((await redis.info("memory"))["used_memory"])


def _cpu_s(services: LocalServices) -> dict[str, float]:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    servers = {name: meter.cpu_s(pids) for name, pids in services.pids().items()}
    return {"projector": ended.ru_utime + ended.ru_stime, **servers}


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    speeds = [
        Line(
            f"{int(devices):,} devices",
            f"{each.events_per_s:,.0f} events/s, put in place within {each.swap_ms:.0f} ms",
            f"≥ {_TARGET_PER_S:,} events/s",
            each.events_per_s >= _TARGET_PER_S,
        )
        for devices, each in median.rebuilds.items()
    ]
    sizes = [
        Line(f"memory of Redis a device, of {int(devices):,}", f"{each.redis_bytes:,.0f} bytes")
        for devices, each in median.rebuilds.items()
    ]
    return [*speeds, *sizes, *_of_settled(median)]


def _of_settled(median: Figures) -> Sequence[Line]:
    found = []
    for devices, each in median.rebuilds.items():
        settled = each.settled
        if settled and settled.events:
            large = settled.events >= _SOON_EVENTS * 0.9
            found += [
                Line(
                    f"{int(devices):,} devices, {settled.events:,} events of settled days",
                    f"{settled.seconds:.1f} s, {settled.events_per_s:,.0f} events/s, "
                    f"{settled.statistics:,} statistics",
                    f"≤ {_SOON_S:g} s" if large else "",
                    settled.seconds <= _SOON_S if large else None,
                ),
                Line(
                    "settling them once, CPU of PostgreSQL",
                    f"{settled.settle_us:.1f} µs a measurement, {settled.late_us:.1f} one that comes late",
                ),
            ]
    return found


def cpu(median: Figures) -> CpuByCase:
    """By number of devices."""
    return {f"rebuild, {int(devices):,} devices": each.cpu_us for devices, each in median.rebuilds.items()}


SCENARIO: Scenario[Any] = Scenario(
    name="rebuild",
    title="Rebuild",
    text="`projector rebuild` by itself, from measurements that came from the devices in turn; once more, "
    "when all days but the last are settled, unless that has few measurements a device and day.",
    options=Options(),
    quick=Options(events=20_000, days=3, devices=(100,)),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
