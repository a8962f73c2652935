"""The flood against what is stored already: 0, 10 and 30 million rows; 1,000, 10,000 and 100,000 devices.

The cases take turns in each round, and a case's figure is its ratio to the empty database with 1,000 devices
of the same round. Every device of a case has sent one message, at least, before the clock starts: a fleet
is new once. A case without rows gets a database of its own in every round. The full databases are filled once
and stay with what the rounds add to them, about a million rows each.

Every flood begins after a checkpoint, and PostgreSQL logs a page whole when it first changes after one. Keys
come in random order, so a large index pays for that at once and a small one hardly ever. A flood is to be
long enough for it to pass, as it does between the checkpoints of a database at work.

Filled by the server itself (`sql/growth.sql`): rows by INSERT … SELECT in the order of time, indexes and all;
a dedup key for each row, half of them in either generation, as they are when the window is about to turn, in
the random order of hashes, so that the pages of their index are as full as real ones. Before that a short
flood gives gateway and projector a stream with a cursor, so that neither takes the rows for news.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from redis.asyncio import Redis

from bench.flood import flood
from bench.ingest import memory_line
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant, queries
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from matplotlib.axes import Axes

    from bench.scenario import Result
    from bench.tables import CpuByCase

_TARGET: Final = 0.8
_EMPTY: Final = "0 rows, 1,000 devices"
_DEVICES: Final = 1000
_WARM_MESSAGES: Final = 10_000
_CHUNK_ROWS: Final = 1_000_000


class Options(msgspec.Struct, frozen=True):
    """How long each flood is, how many rows are there, and how many devices."""

    seconds: float = 30.0
    rows: tuple[int, ...] = (10_000_000, 30_000_000)
    devices: tuple[int, ...] = (10_000, 100_000)


class Case(msgspec.Struct, frozen=True):
    """What one case of one round came to.

    Attributes:
        projected_per_s: messages a second until all were in Redis.
        ratio: of it to that of the empty case of the same round.
        cpu_us: µs of CPU a message, by process.
        peak_mb: most resident memory (RSS), by process.
    """

    projected_per_s: float
    ratio: float
    cpu_us: dict[str, float]
    peak_mb: dict[str, float]


class Figures(msgspec.Struct, frozen=True):
    """One round: its cases by name, the empty one first."""

    cases: dict[str, Case]


class Growth:
    """The servers that all rounds share, and the databases in them."""

    def __init__(self, services: LocalServices, options: Options) -> None:
        self._services = services
        self._options = options
        self._redis_databases = iter(range(services.redis.databases))
        self._full: dict[int, dict[str, str]] = {}

    async def fill(self) -> None:
        """Make the full databases."""
        for rows in self._options.rows:
            settings = await self._make_place(f"rows_{rows}")
            async with Plant.open(settings, services=self._services) as plant:
                await flood(plant, Load(messages=_WARM_MESSAGES, shape=Shape(run="warm")))
            dsn = settings["EDGE_POSTGRES_DSN"]
            print(f"filling a database with {rows:,} rows", file=sys.stderr, flush=True)
            await asyncio.gather(_fill_measurements(dsn, rows), _fill_keys(dsn, rows))
            await _run(dsn, queries.vacuum)
            self._full[rows] = settings
        await _run(self._services.postgres_dsn, queries.checkpoint)

    async def measure(self, number: int) -> Figures:
        """Run every case once."""
        floods = {_EMPTY: await self._flood_empty(number, _DEVICES)}
        for rows, settings in self._full.items():
            floods[f"{rows:,} rows"] = await self._flood(number, settings, _DEVICES)
        for devices in self._options.devices:
            floods[f"{devices:,} devices"] = await self._flood_empty(number, devices)
        empty = floods[_EMPTY].projected_per_s
        cases = {
            name: msgspec.structs.replace(case, ratio=case.projected_per_s / empty)
            for name, case in floods.items()
        }
        return Figures(cases)

    async def _flood_empty(self, number: int, devices: int) -> Case:
        settings = await self._make_place(f"devices_{devices}_{number}")
        case = await self._flood(number, settings, devices)
        self._tool("dropdb", settings["EDGE_POSTGRES_DSN"].rpartition("/")[2])
        async with Redis.from_url(settings["EDGE_REDIS_URL"]) as redis:
            await redis.flushdb()
        return case

    async def _flood(self, number: int, settings: dict[str, str], devices: int) -> Case:
        shape = Shape(run=f"r{number}", devices=devices)
        first = Load(messages=max(devices, _WARM_MESSAGES), shape=Shape(run=f"f{number}", devices=devices))
        async with Plant.open(settings, services=self._services) as plant:
            await flood(plant, first)
            await _run(plant.dsn, queries.checkpoint)
            flooded = await flood(plant, Load(seconds=self._options.seconds, shape=shape))
        messages = flooded.sent.messages
        check("committed", flooded.counted.committed, messages)
        return Case(messages / flooded.applied_s, 1.0, flooded.cpu_us, flooded.peak_mb)

    async def _make_place(self, name: str) -> dict[str, str]:
        """An empty database, a Redis database, a topic and its reader's client id, as settings.

        The gateway's client id is the same in all places: a session of its own would go on to queue what the
        broker gets for the others.
        """
        self._tool("createdb", name)
        return {
            "EDGE_POSTGRES_DSN": self._services.postgres.dsn(name),
            "EDGE_REDIS_URL": self._services.redis.url(next(self._redis_databases)),
            "EDGE_EVENTS_TOPIC": f"{name}/events",
            "EDGE_PROJECTOR_CLIENT_ID": f"projector-{name}",
        }

    def _tool(self, tool: str, database: str) -> None:
        postgres = self._services.postgres
        where = ["--host", "127.0.0.1", "--port", str(postgres.port), "--username", "postgres"]
        subprocess.run([postgres.tool(tool), *where, database], check=True)


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Growth]:
    """Start servers and fill the full databases."""
    async with LocalServices(environ={}) as services:
        growth = Growth(services, options)
        await growth.fill()
        yield growth


async def measure(number: int, growth: Growth) -> Figures:
    """Run every case once."""
    return await growth.measure(number)


async def _fill_measurements(dsn: str, rows: int) -> None:
    until = datetime.now(UTC)
    for first in range(0, rows, _CHUNK_ROWS):
        last = min(rows, first + _CHUNK_ROWS)
        await _run(dsn, queries.grow_measurements, first, last, rows, _DEVICES, until)


async def _fill_keys(dsn: str, rows: int) -> None:
    for first in range(0, rows, _CHUNK_ROWS):
        last = min(rows, first + _CHUNK_ROWS)
        middle = (first + last) // 2
        await _run(dsn, queries.grow_keys_0, first, middle)
        await _run(dsn, queries.grow_keys_1, middle, last)


async def _run(dsn: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    speeds = [
        Line(
            name,
            f"{case.projected_per_s:,.0f} messages/s, {case.ratio:.2f} of the empty",
            "" if name == _EMPTY else f"≥ {_TARGET}",
            None if name == _EMPTY else case.ratio >= _TARGET,
        )
        for name, case in median.cases.items()
    ]
    return [
        *speeds,
        *(memory_line(f"peak memory, {name}", case.peak_mb) for name, case in median.cases.items()),
    ]


def cpu(median: Figures) -> CpuByCase:
    """A row a case."""
    return {f"a message, {name}": case.cpu_us for name, case in median.cases.items()}


def plot_throughput(result: Result[Figures], axes: Axes) -> None:
    """Messages a second by case."""
    cases = result.median.cases
    axes.barh(list(cases), [case.projected_per_s for case in cases.values()])
    axes.axvline(
        _TARGET * cases[_EMPTY].projected_per_s, linestyle="--", color="C1", label="0.8 of the empty"
    )
    axes.set(xlabel="messages/s into Redis")
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))  # above the bars, which take all the room


SCENARIO: Scenario[Any] = Scenario(
    name="growth",
    title="Growth",
    text="The flood against databases that hold rows already, and with more devices.",
    options=Options(),
    quick=Options(seconds=1.0, rows=(50_000,), devices=(5000,)),
    figures=Figures,
    measure=measure,
    prepare=prepare,
    lines=lines,
    cpu=cpu,
    plots={"throughput": plot_throughput},
)

if __name__ == "__main__":
    run_alone(SCENARIO)
