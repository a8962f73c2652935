"""The flood: as many QoS 1 messages as go in, from a device to the row and to Redis, for a minute on end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bench.flood import Moment, flood
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bench.scenario import Result
    from bench.tables import CpuByCase

_TARGET_PER_S = 30_000
_TARGET_CPU_US = 24.0
_TARGET_MB = 200.0


class Options(msgspec.Struct, frozen=True):
    """For how long devices flood, and how many there are."""

    seconds: float = 60.0
    devices: int = 1000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        committed_per_s: messages a second until all were committed.
        projected_per_s: messages a second until all were in Redis.
        cpu_us: µs of CPU a message, by process.
        peak_mb: most resident memory (RSS), by process.
        course: one moment a second.
    """

    messages: int
    committed_per_s: float
    projected_per_s: float
    cpu_us: dict[str, float]
    peak_mb: dict[str, float]
    course: list[Moment]


async def measure(number: int, options: Options) -> Figures:
    """Flood a fresh plant."""
    shape = Shape(run=f"r{number}", devices=options.devices)
    async with Plant.open() as plant:
        flooded = await flood(plant, Load(seconds=options.seconds, shape=shape))
    messages = flooded.sent.messages
    check("committed", flooded.counted.committed, messages)
    return Figures(
        messages=messages,
        committed_per_s=messages / flooded.settled_s,
        projected_per_s=messages / flooded.applied_s,
        cpu_us=flooded.cpu_us,
        peak_mb=flooded.peak_mb,
        course=flooded.course,
    )


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    own_us = median.cpu_us["gateway"] + median.cpu_us["projector"]
    return [
        Line("committed in PostgreSQL", f"{median.committed_per_s:,.0f} messages/s"),
        Line(
            "end to end into Redis",
            f"{median.projected_per_s:,.0f} messages/s",
            f"≥ {_TARGET_PER_S:,}",
            median.projected_per_s >= _TARGET_PER_S,
        ),
        Line(
            "CPU of gateway and projector",
            f"{own_us:.1f} µs a message",
            f"≤ {_TARGET_CPU_US:.0f}",
            own_us <= _TARGET_CPU_US,
        ),
        memory_line("peak memory", median.peak_mb),
    ]


def memory_line(what: str, peak_mb: dict[str, float]) -> Line:
    """A line on the peak memory of our processes."""
    measured = ", ".join(f"{name} {mb:.0f} MB" for name, mb in peak_mb.items())
    return Line(what, measured, f"≤ {_TARGET_MB:.0f} MB each", max(peak_mb.values()) <= _TARGET_MB)


def cpu(median: Figures) -> CpuByCase:
    """The flood's."""
    return {"a message": median.cpu_us}


def plot_course(result: Result[Figures], axes: Axes) -> None:
    """Messages a second into Redis over the flood, each round a line."""
    for number, each in enumerate(result.rounds, 1):
        pairs = list(zip(each.course, each.course[1:], strict=False))
        speeds = [(later.applied - earlier.applied) / (later.s - earlier.s) for earlier, later in pairs]
        axes.plot([later.s for _, later in pairs], speeds, label=f"round {number}")
    axes.set(xlabel="seconds", ylabel="messages/s into Redis", ylim=(0, None))
    axes.legend()


SCENARIO: Scenario[Any] = Scenario(
    name="ingest",
    title="Ingest",
    text="QoS 1 messages of about 105 bytes with two metrics, as fast as the whole path takes them.",
    options=Options(),
    quick=Options(seconds=1.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
    plots={"course": plot_course},
)

if __name__ == "__main__":
    run_alone(SCENARIO)
