"""PostgreSQL stopped for a minute while devices go on at their own rate, and started again.

The load is open loop: message k comes k / rate seconds after the start, whatever happens. The backlog counts
as drained at the first look at which Redis lacks no more than a quarter of a second's worth of messages;
the time is taken from the moment when PostgreSQL answers again, the gateway's own wait included.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench import meter
from bench.flood import Moment
from bench.generator import Generator
from bench.ingest import memory_line
from bench.load import Load
from bench.packets import Shape
from bench.plant import PROCESSES, Plant, queries
from bench.scenario import PlantError, Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bench.load import Sent
    from bench.plant import Counters
    from bench.scenario import Result

_TARGET_S: Final = 15.0
_BEFORE_S: Final = 3.0
_DRAINED_S: Final = 0.25
_GIVE_UP_S: Final = 120.0
_POLL_S: Final = 0.1


class Options(msgspec.Struct, frozen=True):
    """How fast messages come, for how long PostgreSQL is away, and for how long they come afterwards."""

    rate: float = 2000.0
    away_s: float = 60.0
    after_s: float = 20.0
    devices: int = 1000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        messages: sent; as many rows with distinct keys were stored.
        backlog: messages that waited when PostgreSQL was back.
        drained_s: from then until they were in Redis, and all that had come meanwhile.
        waited_s: of that, until the gateway had tried again, each 15 s at least, and stored some.
        worked_s: the rest.
        away_s: for how long PostgreSQL did not answer.
        back_at_s: when it answered again, in seconds since the start.
        peak_mb: most resident memory (RSS), by process.
        course: one moment a second.
    """

    messages: int
    backlog: int
    drained_s: float
    waited_s: float
    worked_s: float
    away_s: float
    back_at_s: float
    peak_mb: dict[str, float]
    course: list[Moment]


async def measure(number: int, options: Options) -> Figures:
    """Take PostgreSQL away from a fresh plant, and check its books."""
    seconds = _BEFORE_S + options.away_s + options.after_s
    load = Load(rate=options.rate, seconds=seconds, shape=Shape(run=f"r{number}", devices=options.devices))
    async with Plant.open() as plant, Generator(plant.mqtt_port, load) as generator:
        watch = _Watch(plant, load)
        generator.go()
        watch.started = time.monotonic()
        sending = asyncio.create_task(generator.result(), name="load")
        await watch.until(_BEFORE_S)
        await plant.services.postgres.stop()
        gone_at = time.monotonic() - watch.started
        await watch.until(_BEFORE_S + options.away_s)
        await plant.services.postgres.start()
        back_at = time.monotonic() - watch.started
        backlog = await watch.lacking()
        stored_at, drained_at = await watch.until_drained()
        sent = await _finish(watch, sending)
        check("rows", await plant.fetch_count(queries.count_measurements), sent.messages)
        peak_mb = plant.peak_mb()
    return Figures(
        messages=sent.messages,
        backlog=backlog,
        drained_s=drained_at - back_at,
        waited_s=stored_at - back_at,
        worked_s=drained_at - stored_at,
        away_s=back_at - gone_at,
        back_at_s=back_at,
        peak_mb=peak_mb,
        course=watch.course,
    )


async def _finish(watch: _Watch, sending: asyncio.Task[Sent]) -> Sent:
    """Wait for the end of the load, and until all of it is in Redis."""
    while not sending.done():
        await watch.look()
    sent = sending.result()
    deadline = time.monotonic() + _GIVE_UP_S
    while (counted := await watch.look()).applied < sent.messages:
        if time.monotonic() > deadline:
            raise PlantError(f"{sent.messages:,} sent, but only {counted}")
    check("committed", counted.committed, sent.messages)
    return sent


class _Watch:
    """Looks at the plant ten times a second and keeps a moment of each second."""

    def __init__(self, plant: Plant, load: Load) -> None:
        self.started = 0.0
        self.course: list[Moment] = []
        self._plant = plant
        self._load = load

    async def look(self) -> Counters:
        """Wait a moment, and read what the processes have counted."""
        await asyncio.sleep(_POLL_S)
        counters = await self._plant.counters()
        elapsed = time.monotonic() - self.started
        if elapsed >= len(self.course):
            rss: dict[str, float] = {name: meter.rss_mb(self._plant.pid(name)) for name in PROCESSES}
            self.course.append(Moment(elapsed, counters.settled, counters.applied, rss))
        self._plant.check()
        return counters

    async def until(self, s: float) -> None:
        """Look until so many seconds after the start."""
        while time.monotonic() - self.started < s:
            await self.look()

    async def lacking(self) -> int:
        """Messages that were due and are not in Redis."""
        counters = await self.look()
        elapsed = min(counters.at - self.started, self._load.seconds)
        return int(elapsed * self._load.rate) - counters.applied

    async def until_drained(self) -> tuple[float, float]:
        """Look until Redis has what was due.

        Returns:
            When the first of it was stored, and when Redis had all, in seconds since the start.
        """
        deadline = time.monotonic() + _GIVE_UP_S
        before = (await self.look()).settled
        while (await self.look()).settled == before:
            if time.monotonic() > deadline:
                raise PlantError(f"nothing was stored within {_GIVE_UP_S:g} s")
        stored_at = time.monotonic() - self.started
        while await self.lacking() > self._load.rate * _DRAINED_S:
            if time.monotonic() > deadline:
                raise PlantError(f"the backlog was not drained within {_GIVE_UP_S:g} s")
        return stored_at, time.monotonic() - self.started


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line(
            f"backlog of {median.backlog:,} messages drained, new ones coming",
            f"{median.drained_s:.1f} s",
            f"≤ {_TARGET_S:g}",
            median.drained_s <= _TARGET_S,
        ),
        Line(
            "stored, of those sent",
            f"{median.messages:,} of {median.messages:,}",
            "all, once",
            met=True,  # a round that lost or doubled one raises
        ),
        memory_line("peak memory", median.peak_mb),
    ]


def plot_course(result: Result[Figures], axes: Axes) -> None:
    """What was sent and what was in Redis, in the first round."""
    first = result.rounds[0]
    rate = result.options["rate"]
    times = [moment.s for moment in first.course]
    axes.axvspan(first.back_at_s - first.away_s, first.back_at_s, alpha=0.15, label="PostgreSQL away")
    axes.plot(times, [min(s * rate, first.messages) for s in times], label="sent")
    axes.plot(times, [moment.applied for moment in first.course], label="in Redis")
    axes.set(xlabel="seconds", ylabel="messages", ylim=(0, None))
    axes.legend()


SCENARIO: Scenario[Any] = Scenario(
    name="backlog",
    title="Backlog",
    text="PostgreSQL stopped for 60 s while 2,000 messages/s come in by schedule, then started again.",
    options=Options(),
    quick=Options(rate=500.0, away_s=2.0, after_s=3.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
    plots={"course": plot_course},
)

if __name__ == "__main__":
    run_alone(SCENARIO)
