"""The flood with a database far away: how much of it is committed, and in what batches."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench.flood import flood
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant, queries
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_TARGET_PER_S: Final = 5000
_ROOT: Final = Path(__file__).parents[1]


class Options(msgspec.Struct, frozen=True):
    """How long the way to PostgreSQL is in each direction, and for how long devices flood."""

    ms: float = 50.0
    seconds: float = 20.0
    devices: int = 1000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        committed_per_s: messages a second until all were committed.
        a_batch: messages, on the average.
        cpu_us: µs of CPU a message, by process.
    """

    messages: int
    committed_per_s: float
    a_batch: float
    cpu_us: dict[str, float]


async def measure(number: int, options: Options) -> Figures:
    """Flood a plant whose processes have their PostgreSQL at the end of a long way."""
    shape = Shape(run=f"r{number}", devices=options.devices)
    async with LocalServices(environ={}) as services, far(services.postgres.port, options.ms) as port:
        dsn = services.postgres_dsn.replace(f":{services.postgres.port}/", f":{port}/")
        async with Plant.open({"EDGE_POSTGRES_DSN": dsn}, services=services) as plant:
            flooded = await flood(plant, Load(seconds=options.seconds, shape=shape))
            rows = await plant.fetch_count(queries.count_outbox)
    messages = flooded.sent.messages
    check("committed", flooded.counted.committed, messages)
    return Figures(messages, messages / flooded.settled_s, messages / rows, flooded.cpu_us)


@asynccontextmanager
async def far(target: int, ms: float) -> AsyncIterator[int]:
    """A long way to a port (`bench/far.py`); gives where it begins."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "bench.far", "--target", str(target), "--ms", str(ms)]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=_ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line(
            "committed in PostgreSQL",
            f"{median.committed_per_s:,.0f} messages/s",
            f"≥ {_TARGET_PER_S:,}",
            median.committed_per_s >= _TARGET_PER_S,
        ),
        Line("messages a batch", f"{median.a_batch:.0f}"),
    ]


SCENARIO: Scenario[Any] = Scenario(
    name="distance",
    title="Distance",
    text="The flood with the default settings, and PostgreSQL 50 ms away in each direction.",
    options=Options(),
    quick=Options(seconds=2.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
