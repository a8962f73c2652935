"""The reference: the same flood through what a good engineer would write in a day (`bench/naive.py`).

The same broker, databases and load; fewer messages, because it takes longer. The load is over long before
the reference is, so that unlike ours it has the machine to itself for most of the time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
from redis.asyncio import Redis

from bench import meter
from bench.generator import Generator
from bench.load import Load
from bench.naive import APPLIED
from bench.scenario import Scenario, run_alone
from bench.tables import Line
from deploy.local.children import Children
from deploy.local.services import LocalServices
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase
    from deploy.local.children import Child

_PER_MESSAGE = 1e6
_POLL_S = 0.05
_TIMEOUT_S = 120.0

queries = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many messages to send."""

    messages: int = 30_000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        projected_per_s: messages a second, from the first one sent until all are in Redis.
        cpu_us: µs of CPU a message, by process.
    """

    projected_per_s: float
    cpu_us: dict[str, float]


async def measure(_number: int, options: Options) -> Figures:
    """Flood the reference once, on fresh servers."""
    async with LocalServices(environ={}) as services:
        connection = await asyncpg.connect(services.postgres_dsn)
        await connection.execute(queries.naive_tables)
        await connection.close()
        where = ["--mqtt-port", str(services.mqtt_port), "--dsn", services.postgres_dsn]
        where += ["--redis", services.redis_url]
        with (
            tempfile.TemporaryDirectory(prefix="edge-bench-") as folder,
            Children(Path(folder), {}) as children,
        ):
            halves = {
                half: children.start(half, "bench.naive", half, *where) for half in ("ingest", "project")
            }
            await _ready(children, halves)
            return await _flood(services, children, halves, options.messages)


async def _ready(children: Children, halves: dict[str, Child]) -> None:
    while not all(child.output.stat().st_size for child in halves.values()):
        children.check()
        await asyncio.sleep(_POLL_S)


async def _flood(
    services: LocalServices, children: Children, halves: dict[str, Child], messages: int
) -> Figures:
    def cpu_s() -> dict[str, float]:
        own = {half: meter.cpu_s([child.pid]) for half, child in halves.items()}
        return own | {name: meter.cpu_s(pids) for name, pids in services.pids().items()}

    async with (
        Redis.from_url(services.redis_url) as redis,
        Generator(services.mqtt_port, Load(messages=messages)) as generator,
        asyncio.timeout(_TIMEOUT_S),
    ):
        before, started = cpu_s(), time.monotonic()
        generator.go()
        while int(await redis.get(APPLIED) or 0) < messages:
            children.check()
            await asyncio.sleep(_POLL_S)
        took_s, after = time.monotonic() - started, cpu_s()
    return Figures(
        messages / took_s, {name: (after[name] - before[name]) / messages * _PER_MESSAGE for name in after}
    )


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    own_us = median.cpu_us["ingest"] + median.cpu_us["project"]
    return [
        Line("end to end into Redis", f"{median.projected_per_s:,.0f} messages/s"),
        Line("CPU of its two processes", f"{own_us:.0f} µs a message"),
    ]


def cpu(median: Figures) -> CpuByCase:
    """The flood's."""
    return {"reference": median.cpu_us}


SCENARIO: Scenario[Any] = Scenario(
    name="reference",
    title="Reference",
    text="The same flood through what a good engineer would write in a day: `aiomqtt`, `executemany` with "
    "`ON CONFLICT`, an outbox row and a publish an event ([`bench/naive.py`](../bench/naive.py)).",
    options=Options(),
    quick=Options(messages=1_000),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
