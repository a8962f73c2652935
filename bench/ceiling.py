"""What the load generator can do by itself: the flood into mosquitto with nobody subscribed.

Whatever a scenario measures below this figure, the load was not its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bench import meter
from bench.generator import Generator
from bench.load import Load
from bench.packets import Shape
from bench.scenario import Scenario, run_alone
from bench.tables import Line
from deploy.local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase

_US = 1e6


class Options(msgspec.Struct, frozen=True):
    """How long to flood, and over how many connections."""

    seconds: float = 5.0
    connections: int = Load().connections


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        messages_per_s: acknowledged by the broker.
        cpu_us: µs of CPU a message, by process.
    """

    messages_per_s: float
    cpu_us: dict[str, float]


async def measure(number: int, options: Options) -> Figures:
    """Flood a fresh broker."""
    async with LocalServices(["mosquitto"], environ={}) as services:
        shape = Shape(run=f"r{number}")
        load = Load(seconds=options.seconds, connections=options.connections, shape=shape)
        async with Generator(services.mqtt_port, load) as generator:
            before = meter.cpu_s(services.pids()["mosquitto"])
            generator.go()
            sent = await generator.result()
            used = meter.cpu_s(services.pids()["mosquitto"]) - before
    return Figures(
        sent.messages / sent.seconds,
        {"mosquitto": used / sent.messages * _US, "load": sent.cpu_s / sent.messages * _US},
    )


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [Line("the load alone, nobody subscribed", f"{median.messages_per_s:,.0f} messages/s")]


def cpu(median: Figures) -> CpuByCase:
    """Broker and load."""
    return {"a message": median.cpu_us}


SCENARIO: Scenario[Any] = Scenario(
    name="ceiling",
    title="Ceiling of the load",
    text="The load generator into mosquitto with nobody subscribed. Below it, the load was not what limited.",
    options=Options(),
    quick=Options(seconds=0.5),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
