"""A flood through the whole plant, from the first message sent to the last one in Redis.

The load may be ahead of the gateway by a bounded number of readings: it waits for nobody, so the broker's
queue is never empty, and is never so long that mosquitto would begin to drop what it has acknowledged.
Rates are those of the whole flood: all readings, divided by the seconds from the first message until the
gateway had settled the last one, and until the projector had applied it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from bench import meter
from bench.generator import Generator
from bench.plant import PROCESSES
from bench.scenario import PlantError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bench.load import Load, Sent
    from bench.packets import Contents, Shape
    from bench.plant import Counters, Plant

AHEAD_READINGS: Final = 100_000

_POLL_S: Final = 0.2
_CLOSE_POLL_S: Final = 0.02
_STALLED_S: Final = 60.0
_US: Final = 1e6


class Moment(msgspec.Struct, frozen=True):
    """How far a flood was at one moment.

    Attributes:
        s: seconds since its start.
        settled: readings whose fate was stored.
        applied: readings in Redis.
        rss_mb: resident memory, by process.
    """

    s: float
    settled: int
    applied: int
    rss_mb: dict[str, float]


class Flooded(msgspec.Struct, frozen=True):
    """What became of a flood.

    Attributes:
        sent: what the load says that it sent.
        counted: what gateway and projector say that they did with it.
        settled_s: until everything was committed, a duplicate or a dead letter.
        applied_s: until everything committed was in Redis.
        cpu_us: µs of CPU a message, by process; `other` is what else the machine did, the kernel
            and this harness included.
        peak_mb: most resident memory since the start of the process, by process.
        course: moments of it, one each second.
    """

    sent: Sent
    counted: Counters
    settled_s: float
    applied_s: float
    cpu_us: dict[str, float]
    peak_mb: dict[str, float]
    course: list[Moment]


async def flood(plant: Plant, load: Load, *, settle: Callable[[], Awaitable[None]] | None = None) -> Flooded:
    """Flood a plant and wait until everything is where it belongs.

    Args:
        plant: quiet.
        load: a flood; its limit is set here.
        settle: waits for further work that the flood has caused; its CPU counts, its time does not.

    Raises:
        PlantError: nothing moves any more although something is missing.
    """
    load = msgspec.structs.replace(load, limit=int(AHEAD_READINGS / load.shape.readings_per_message))
    async with Generator(plant.mqtt_port, load) as generator:
        before, cpu_before = await plant.counters(), plant.cpu_s()
        watch = _Watch(plant, generator, before, load.shape)
        generator.go()
        sending = asyncio.create_task(generator.result(), name="load")
        await watch.until_applied(await watch.until_sent(sending))
        if settle is not None:
            await settle()
        cpu = plant.cpu_s()
    sent = sending.result()
    return Flooded(
        sent=sent,
        counted=watch.counted,
        settled_s=watch.settled_s,
        applied_s=watch.applied_s,
        cpu_us=cpu_us(cpu_before, cpu, sent),
        peak_mb=plant.peak_mb(),
        course=watch.course,
    )


def cpu_us(before: Mapping[str, float], after: Mapping[str, float], sent: Sent) -> dict[str, float]:
    """µs of CPU a message, by process; `other` is the rest of the machine, this harness included.

    Args:
        before: what `Plant.cpu_s` said.
        after: what it said later.
        sent: by the load meanwhile.
    """
    used = {name: after[name] - before[name] for name in after} | {"load": sent.cpu_s}
    machine = used.pop("machine")
    used["other"] = machine - sum(used.values())
    return {name: seconds / sent.messages * _US for name, seconds in used.items()}


class _Watch:
    """Follows a flood and keeps the load at its distance; the attributes are those of `Flooded`."""

    def __init__(self, plant: Plant, generator: Generator, before: Counters, shape: Shape) -> None:
        self.counted = before.since(before)
        self.settled_s = 0.0
        self.applied_s = 0.0
        self.course: list[Moment] = []
        self._plant = plant
        self._generator = generator
        self._before = before
        self._per_message = shape.readings_per_message
        self._started = time.monotonic()
        self._moved_at = self._started

    async def until_sent(self, sending: asyncio.Task[Sent]) -> Contents:
        """Let the load on as the gateway gets on, until all is sent."""
        while not sending.done():
            await self._look()
            settled = self.counted.settled + AHEAD_READINGS
            self._generator.limit(int(settled / self._per_message))
            await asyncio.wait((sending,), timeout=_POLL_S)
        return sending.result().contents

    async def until_applied(self, expected: Contents) -> None:
        """Wait for the last of what was sent."""
        while True:
            elapsed = await self._look()
            if not self.settled_s and self.counted.settled >= expected.readings:
                self.settled_s = elapsed
            if self.settled_s and self.counted.applied >= self.counted.committed:
                self.applied_s = elapsed
                return
            if time.monotonic() - self._moved_at > _STALLED_S:
                raise PlantError(f"nothing moves: sent {expected}, counted {self.counted}")
            speed = (self.counted.applied + 1) / elapsed
            left = expected.readings - min(self.counted.settled, self.counted.applied)
            await asyncio.sleep(_POLL_S if left / speed > 2 * _POLL_S else _CLOSE_POLL_S)

    async def _look(self) -> float:
        self._plant.check()
        counted = (await self._plant.counters()).since(self._before)
        elapsed = time.monotonic() - self._started
        if (counted.settled, counted.applied) != (self.counted.settled, self.counted.applied):
            self._moved_at = time.monotonic()
        self.counted = counted
        if elapsed >= len(self.course):
            rss: dict[str, float] = {name: meter.rss_mb(self._plant.pid(name)) for name in PROCESSES}
            self.course.append(Moment(elapsed, counted.settled, counted.applied, rss))
        return elapsed
