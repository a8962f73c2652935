"""What history and sparklines cost beside the flood: the same flood with and without them, in turn.

History is written a little after Redis, some of it when the flood is over: CPU is taken once it is complete.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from bench.flood import flood
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant, queries
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.plant import Process
    from bench.tables import CpuByCase

_TARGET = 0.10
_POLL_S = 0.5
_CAUGHT_UP_S = 60.0


class Options(msgspec.Struct, frozen=True):
    """For how long devices flood, and how many there are."""

    seconds: float = 30.0
    devices: int = 1000


class Flood(msgspec.Struct, frozen=True):
    """One flood.

    Attributes:
        projected_per_s: messages a second until all were in Redis.
        cpu_us: µs of CPU a message, by process.
        peak_mb: most resident memory (RSS), by process.
    """

    projected_per_s: float
    cpu_us: dict[str, float]
    peak_mb: dict[str, float]


class Figures(msgspec.Struct, frozen=True):
    """One round."""

    without: Flood
    beside: Flood


class _HistoryPlant(Plant):
    """A plant whose history can be waited for."""

    async def history_caught_up(self) -> None:
        """Wait until history has everything that is committed."""
        async with asyncio.timeout(_CAUGHT_UP_S):
            while await self.fetch_count(queries.history_lacks):  # noqa: ASYNC110  # another process writes it
                await asyncio.sleep(_POLL_S)


class _BarePlant(_HistoryPlant):
    """A plant whose projector has no history."""

    def module(self, name: Process) -> str:
        """The projector's is another."""
        return "bench.bare_projector" if name == "projector" else name

    async def history_caught_up(self) -> None:
        """There is none to wait for."""


async def measure(number: int, options: Options) -> Figures:
    """Flood a plant without history and one with; in every other round the one with is first."""
    kinds = (_BarePlant, _HistoryPlant)
    floods = {kind: await _flood(kind, number, options) for kind in (kinds[::-1] if number % 2 else kinds)}
    return Figures(floods[_BarePlant], floods[_HistoryPlant])


async def _flood(kind: type[_HistoryPlant], number: int, options: Options) -> Flood:
    shape = Shape(run=f"h{number}", devices=options.devices)
    async with kind.open() as plant:
        load = Load(seconds=options.seconds, shape=shape)
        flooded = await flood(plant, load, settle=plant.history_caught_up)
    check("committed", flooded.counted.committed, flooded.sent.messages)
    return Flood(flooded.sent.messages / flooded.applied_s, flooded.cpu_us, flooded.peak_mb)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    before, after = median.without, median.beside
    cpu_before, cpu_after = _paid(before), _paid(after)
    cost = cpu_after / cpu_before - 1
    return [
        Line("into Redis without history", f"{before.projected_per_s:,.0f} messages/s"),
        Line("into Redis with history", f"{after.projected_per_s:,.0f} messages/s"),
        Line(
            "CPU for history, all processes together",
            f"{cpu_after - cpu_before:.1f} µs a message, {cost:.1%}",
            f"≤ {_TARGET:.0%}",
            cost <= _TARGET,
        ),
        Line(
            "peak memory of the projector",
            f"{before.peak_mb['projector']:.0f} and {after.peak_mb['projector']:.0f} MB",
        ),
    ]


def _paid(each: Flood) -> float:
    return sum(us for name, us in each.cpu_us.items() if name != "other")


def cpu(median: Figures) -> CpuByCase:
    """Both floods'."""
    return {"without history": median.without.cpu_us, "with history": median.beside.cpu_us}


SCENARIO: Scenario[Any] = Scenario(
    name="history",
    title="History",
    text="The flood of `ingest`, in turn through a projector without history and through the real one.",
    options=Options(),
    quick=Options(seconds=1.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
