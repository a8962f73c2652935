"""What a site needs: cores, memory and disk at steady rates, of each process, for `docs/site.md`.

CPU is what the kernel counts for a process and its children. Memory is what they have alone and their part of
what they share (PSS), at the end. Disk is by how much tables grew for the messages of the load, indexes
included; what maintenance (history's minutes, packing, vacuum) adds later is measured by
`bench.history_storage`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from bench import meter
from bench.generator import Generator
from bench.load import Load
from bench.packets import Shape
from bench.plant import PROCESSES, SERVERS, Plant, queries
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

_GB: Final = 1e9
_DAY_S: Final = 86_400
_SETTLE_S: Final = 2.0


class Options(msgspec.Struct, frozen=True):
    """Messages a second, of so many devices in turn, and for how long at each rate."""

    rates: tuple[int, ...] = (100, 1000, 5000)
    devices: int = 1000
    seconds: float = 30.0


class Need(msgspec.Struct, frozen=True):
    """What one rate takes.

    Attributes:
        cores: of CPU, by process; 1.0 is one core all the time.
        mb: of memory, by process.
        bytes: of disk a message: `measurements`, `keys`, `outbox`, and `log`, the write-ahead log.
    """

    cores: dict[str, float]
    mb: dict[str, float]
    bytes: dict[str, float]


class Figures(msgspec.Struct, frozen=True):
    """One round: by messages a second."""

    rates: dict[str, Need]


async def measure(_number: int, options: Options) -> Figures:
    """Measure each rate on a plant of its own, as memory never shrinks."""
    return Figures({str(rate): await _at_rate(rate, options) for rate in options.rates})


async def _at_rate(rate: int, options: Options) -> Need:
    load = Load(rate=rate, seconds=options.seconds, shape=Shape(devices=options.devices))
    async with Plant.open() as plant:
        before = await _sizes(plant)
        async with Generator(plant.mqtt_port, load) as generator:
            started, used = time.monotonic(), plant.cpu_s()
            generator.go()
            sent = (await generator.result()).messages
            took, after = time.monotonic() - started, plant.cpu_s()
        await asyncio.sleep(_SETTLE_S)
        check("committed", (await plant.counters()).committed, sent)
        sizes = await _sizes(plant)
        return Need(
            {name: (after[name] - used[name]) / took for name in (*PROCESSES, *SERVERS)},
            {name: sum(map(meter.pss_mb, pids)) for name, pids in _pids(plant).items()},
            {name: (sizes[name] - before[name]) / sent for name in sizes},
        )


def _pids(plant: Plant) -> dict[str, list[int]]:
    return {**{name: [plant.pid(name)] for name in PROCESSES}, **plant.services.pids()}


async def _sizes(plant: Plant) -> dict[str, int]:
    connection = await asyncpg.connect(plant.dsn)
    try:
        found = await connection.fetchrow(queries.sizes)
    finally:
        await connection.close()
    assert found is not None
    return dict(found)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    found = []
    for rate, need in median.rates.items():
        name = f"{int(rate):,} messages/s"
        cores = ", ".join(f"{process} {value:.2f}" for process, value in need.cores.items())
        memory = ", ".join(f"{process} {value:.0f}" for process, value in need.mb.items())
        disk = ", ".join(f"{of} {value:.0f}" for of, value in need.bytes.items())
        a_day = need.bytes["measurements"] * int(rate) * _DAY_S / _GB
        found += [
            Line(f"cores, {name}", f"{sum(need.cores.values()):.2f}: {cores}"),
            Line(f"memory, {name}", f"{sum(need.mb.values()):.0f} MB: {memory}"),
            Line(f"disk, {name}", f"{a_day:.1f} GB a day of measurements; bytes a message: {disk}"),
        ]
    return found


SCENARIO: Scenario[Any] = Scenario(
    name="sizing",
    title="Sizing",
    text="An open-loop load at steady rates: cores, memory and disk of every process.",
    options=Options(),
    quick=Options(rates=(200,), seconds=1.0),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
