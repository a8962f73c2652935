"""What the gateway and the projector cost while little happens: CPU a message, and how often they wake up.

A wake-up is a voluntary context switch (`/proc/PID/task/*/status`): a thread that had nothing to do was given
something. CPU is what the kernel's scheduler has counted in nanoseconds (`/proc/PID/task/*/schedstat`).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench.flood import flood
from bench.generator import Generator
from bench.load import Load
from bench.packets import Shape
from bench.plant import PROCESSES, Plant
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.plant import Process

_WARM_UP: Final = Load(messages=20_000, shape=Shape(run="warm"))
_TARGET_RATE: Final = 1000
_TARGET_US: Final[dict[str, float]] = {"gateway": 60.0, "projector": 40.0}
_TARGET_IDLE: Final[dict[str, float]] = {"gateway": 5.0}
_SETTLE_S: Final = 3.0
_NS: Final = 1e9


class Options(msgspec.Struct, frozen=True):
    """Messages a second, and for how long at each rate; none at all always comes first."""

    rates: tuple[int, ...] = (100, 1000)
    seconds: float = 20.0


class Use(msgspec.Struct, frozen=True):
    """What one process has used.

    Attributes:
        cpu_us: of CPU a message; a second where nothing was sent.
        wake_ups: a second.
    """

    cpu_us: float
    wake_ups: float


class Figures(msgspec.Struct, frozen=True):
    """One round: by messages a second, then by process; 0 is idle."""

    rates: dict[str, dict[str, Use]]


async def measure(_number: int, options: Options) -> Figures:
    """Measure every rate on one fresh plant that has been warmed up."""
    async with Plant.open() as plant:
        await flood(plant, _WARM_UP)
        found = {}
        for rate in (0, *options.rates):
            await asyncio.sleep(_SETTLE_S)
            found[str(rate)] = await _at_rate(plant, rate, options.seconds)
        return Figures(found)


async def _at_rate(plant: Plant, rate: int, seconds: float) -> dict[str, Use]:
    load = Load(rate=rate, seconds=seconds, shape=Shape(run=f"at{rate}"))
    before = await plant.counters()
    started, used = time.monotonic(), _used(plant)
    if rate:
        async with Generator(plant.mqtt_port, load) as generator:
            started, used = time.monotonic(), _used(plant)
            generator.go()
            sent = (await generator.result()).messages
    else:
        sent = 0
        await asyncio.sleep(seconds)
    took, after = time.monotonic() - started, _used(plant)
    await asyncio.sleep(1)
    check("committed", (await plant.counters()).since(before).committed, sent)
    return {
        name: Use(
            (after[name][0] - used[name][0]) / _NS * 1e6 / (sent or took),
            (after[name][1] - used[name][1]) / took,
        )
        for name in PROCESSES
    }


def _used(plant: Plant) -> dict[Process, tuple[int, int]]:
    """Nanoseconds of CPU and wake-ups so far."""
    return {name: used(plant.pid(name)) for name in PROCESSES}


def used(pid: int) -> tuple[int, int]:
    """Nanoseconds of CPU and wake-ups of a process so far, of all its threads."""
    cpu = woken = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        status = (task / "status").read_text(encoding="ascii")
        woken += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return cpu, woken


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    found = []
    for rate, uses in median.rates.items():
        for name, use in uses.items():
            if rate == "0":
                target = _TARGET_IDLE.get(name)
                text = f"{use.wake_ups:.1f} wake-ups a second, {use.cpu_us / 1e4:.2f} % of a core"
                wanted = "" if target is None else f"≤ {target:.0f} a second"
                met = None if target is None else use.wake_ups <= target
                found.append(Line(f"{name}, idle", text, wanted, met))
                continue
            target = _TARGET_US[name] if int(rate) == _TARGET_RATE else None
            text = f"{use.cpu_us:.0f} µs a message, {use.wake_ups:.0f} wake-ups a second"
            wanted = "" if target is None else f"≤ {target:.0f} µs"
            found.append(
                Line(
                    f"{name}, {int(rate):,} messages/s",
                    text,
                    wanted,
                    None if target is None else use.cpu_us <= target,
                )
            )
    return found


SCENARIO: Scenario[Any] = Scenario(
    name="quiet",
    title="Quiet",
    text="An open-loop load that is small, and none at all: CPU and wake-ups of gateway and projector.",
    options=Options(),
    quick=Options(rates=(200,), seconds=1.0),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
