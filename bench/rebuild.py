"""How fast `projector rebuild` makes the views anew, for few devices and for many.

Measurements are made in PostgreSQL, in the order in which the load would have brought them: the devices in
turn, so that a page of them has as many devices as it can. The command then runs alone; its own figures count
from its first query to the views in place.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from redis.asyncio import Redis

from bench import meter
from bench.scenario import PlantError, Scenario, check, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from projector.repair.rebuild import Rebuilt
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase

_TARGET_PER_S: Final = 100_000
_PER_EVENT: Final = 1e6

queries = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many events, of how many devices each time."""

    events: int = 2_000_000
    devices: tuple[int, ...] = (1000, 100_000)


class Rebuild(msgspec.Struct, frozen=True):
    """One rebuild.

    Attributes:
        views: hashes made, of devices and regions.
        events_per_s: folded and put in place.
        swap_ms: for how long views of both sets existed, at the end; Redis answered meanwhile.
        redis_bytes: of Redis's memory that a device takes, all keys counted, history's sparklines not.
        cpu_us: µs of CPU an event, by process.
    """

    views: int
    events_per_s: float
    swap_ms: float
    redis_bytes: float
    cpu_us: dict[str, float]


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        rebuilds: by number of devices.
    """

    rebuilds: dict[str, Rebuild]


async def measure(_number: int, options: Options) -> Figures:
    """Rebuild for each number of devices, on fresh servers."""
    return Figures({str(devices): await _rebuild(options.events, devices) for devices in options.devices})


async def _rebuild(events: int, devices: int) -> Rebuild:
    async with LocalServices(("postgres", "redis"), environ={}) as services:
        await migrate(services.postgres_dsn)
        await _fill(services.postgres_dsn, events, devices)
        before, empty_bytes = _cpu_s(services), await _redis_bytes(services.redis_url)
        rebuilt = await _run(services.environment())
        used = {name: after - before[name] for name, after in _cpu_s(services).items()}
        redis_bytes = (await _redis_bytes(services.redis_url) - empty_bytes) / devices
    check("events folded", rebuilt.events, events)
    cpu_us = {name: seconds / events * _PER_EVENT for name, seconds in used.items()}
    return Rebuild(rebuilt.views, events / rebuilt.seconds, rebuilt.swap_ms, redis_bytes, cpu_us)


async def _fill(dsn: str, events: int, devices: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(queries.make_partitions)
    await connection.execute(queries.grow_measurements, 0, events, events, devices, datetime.now(UTC))
    await connection.execute(queries.vacuum)
    await connection.execute(queries.checkpoint)
    await connection.close()


async def _run(environment: dict[str, str]) -> Rebuilt:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "projector",
            "rebuild",
            "--only",
            "views",
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
    return speeds + sizes


def cpu(median: Figures) -> CpuByCase:
    """By number of devices."""
    return {f"rebuild, {int(devices):,} devices": each.cpu_us for devices, each in median.rebuilds.items()}


SCENARIO: Scenario[Any] = Scenario(
    name="rebuild",
    title="Rebuild",
    text="`projector rebuild` by itself, from measurements that came from the devices in turn.",
    options=Options(),
    quick=Options(events=20_000, devices=(1000,)),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
