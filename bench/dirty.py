"""The flood of a bad day: arrays of 20 readings, 30 % of the messages sent before, 5 % no JSON at all.

A repeat is byte for byte a message sent a little earlier, so each of its readings is a duplicate; garbage is
one dead letter. Every one of them must turn up in the books.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bench.flood import flood
from bench.ingest import memory_line
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant, queries
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase


class Options(msgspec.Struct, frozen=True):
    """For how long, and what the messages are like; see `bench.packets.Shape`."""

    seconds: float = 15.0
    devices: int = 1000
    readings: int = 20
    repeats: float = 0.3
    garbage: float = 0.05


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        messages: sent; of their readings `committed` were new and `duplicate` were not, and so many of the
            messages were `dead_lettered`.
        readings_per_s: readings of every kind, until their fate was stored and what was new was in Redis.
        cpu_us: µs of CPU a reading, by process.
        peak_mb: most resident memory (RSS), by process.
    """

    messages: int
    committed: int
    duplicate: int
    dead_lettered: int
    readings_per_s: float
    cpu_us: dict[str, float]
    peak_mb: dict[str, float]


async def measure(number: int, options: Options) -> Figures:
    """Flood a fresh plant and check its books."""
    shape = Shape(
        run=f"r{number}",
        devices=options.devices,
        readings=options.readings,
        repeats=options.repeats,
        garbage=options.garbage,
    )
    async with Plant.open() as plant:
        flooded = await flood(plant, Load(seconds=options.seconds, shape=shape))
        stored = await plant.fetch_count(queries.count_measurements)
    contents, counted = flooded.sent.contents, flooded.counted
    check("committed", counted.committed, contents.good)
    check("duplicates", counted.duplicate, contents.repeated)
    check("dead letters", counted.dead_lettered, contents.garbage)
    check("rows", stored, contents.good)
    per_message = contents.readings / flooded.sent.messages
    return Figures(
        messages=flooded.sent.messages,
        committed=counted.committed,
        duplicate=counted.duplicate,
        dead_lettered=counted.dead_lettered,
        readings_per_s=contents.readings / flooded.applied_s,
        cpu_us={name: us / per_message for name, us in flooded.cpu_us.items()},
        peak_mb=flooded.peak_mb,
    )


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line("readings of every kind", f"{median.readings_per_s:,.0f} readings/s"),
        Line(
            "books",
            f"{median.committed:,} committed, {median.duplicate:,} duplicate, {median.dead_lettered:,} "
            f"dead letters",
            "exactly what was sent",
            met=True,  # a round whose books do not balance raises
        ),
        memory_line("peak memory", median.peak_mb),
    ]


def cpu(median: Figures) -> CpuByCase:
    """The flood's, a reading."""
    return {"a reading": median.cpu_us}


SCENARIO: Scenario[Any] = Scenario(
    name="dirty",
    title="Dirty",
    text="Arrays of 20 readings a message; 30 % of the messages are repeats, 5 % are garbage.",
    options=Options(),
    quick=Options(seconds=1.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
