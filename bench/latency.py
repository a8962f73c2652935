"""How long a message takes, at several rates: until it is committed, and until it is visible in Redis.

The load is open loop, and each message carries the time at which it was *due*: when the load, the broker or
anything behind it is slow, the wait counts (no coordinated omission).

Both ends are looked at from outside, as a reader would. Two watchers ask over and over, one PostgreSQL for
the head of the stream, one Redis for the projector's cursor, and note when they first got an answer of n or
more. From one look to the next it is 2 ms of rest, the query, and whatever keeps the watcher from a core.
What n consists of is read from the outbox afterwards, with when it was due and received. The head is written
by the transaction that stores the messages and is seen once that has committed; the cursor by the script that
changes the views, in the same instant.

The error goes one way: a figure is too long by up to one interval, the answer's way back included, and never
too short. The intervals themselves are measured and reported, and the watchers' CPU is part of the machine's
load. All clocks are the machine's own real-time clock.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from redis.asyncio import Redis

from bench.flood import cpu_us, flood
from bench.generator import Generator
from bench.ingest import memory_line
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from contract.events import decode_events
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from matplotlib.axes import Axes

    from bench.scenario import Result
    from bench.tables import CpuByCase

EVERY_S: Final = 0.002
_TARGET_RATE: Final = 5000
_TARGET_P50_MS: Final = 25.0
_TARGET_P99_MS: Final = 100.0
_WARM_UP: Final = Load(messages=20_000, shape=Shape(run="warm"))
_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05
_MS: Final = 1000.0

queries = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """Messages a second, and for how long at each rate."""

    rates: tuple[int, ...] = (100, 1000, 5000, 10_000)
    seconds: float = 20.0


class Times(msgspec.Struct, frozen=True):
    """Milliseconds, by share of messages that needed no longer."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class AtRate(msgspec.Struct, frozen=True):
    """One rate.

    Attributes:
        messages: how many were sent, all of which arrived.
        committed: from due to committed.
        visible: from due to visible in Redis.
        commit_watch: between one look at PostgreSQL and the next: by so much `committed` may be too long.
        view_watch: the same of Redis and `visible`.
        late_ms: how late the load sent the message that it sent latest; that is part of the times.
        received: from due to received by the gateway: what load and broker have of the times.
        cpu_us: µs of CPU a message, by process, watchers and all.
    """

    messages: int
    committed: Times
    visible: Times
    commit_watch: Times
    view_watch: Times
    late_ms: float
    received: Times | None = None
    cpu_us: dict[str, float] = {}


class Figures(msgspec.Struct, frozen=True):
    """One round, a rate after the other.

    Attributes:
        rates: by messages a second.
        peak_mb: most resident memory (RSS), by process.
    """

    rates: dict[str, AtRate]
    peak_mb: dict[str, float]


async def measure(_number: int, options: Options) -> Figures:
    """Measure every rate on one fresh plant that has been warmed up."""
    async with Plant.open() as plant:
        await flood(plant, _WARM_UP)
        rates = {str(rate): await _at_rate(plant, rate, options.seconds) for rate in options.rates}
        return Figures(rates, plant.peak_mb())


class Watch:
    """Notes when a position was first seen.

    Attributes:
        seen: (position, when) in ascending order of both.
        gaps_s: from one answer to the next.
        begun: set after the first answer: what comes before it has no position to be counted from.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self.seen: list[tuple[int, float]] = []
        self.gaps_s: list[float] = []
        self.begun = asyncio.Event()
        self._ask = ask
        self._ended = False

    def end(self) -> None:
        """Look no more. Cancelling `run` would not do: a client of Redis may swallow that on Python 3.11."""
        self._ended = True

    async def run(self) -> None:
        """Look until the end."""
        last, answered = -1, time.time()
        while not self._ended:
            n = int(await self._ask() or 0)  # type: ignore[call-overload]  # a number, or its digits
            now = time.time()
            self.gaps_s.append(now - answered)
            answered = now
            if n > last:
                self.seen.append((n, now))
                last = n
            self.begun.set()
            await asyncio.sleep(EVERY_S)

    @property
    def position(self) -> int:
        """The last one seen."""
        return self.seen[-1][0] if self.seen else -1

    def at(self, n: int) -> float:
        """When position n was first seen or passed."""
        return self.seen[bisect_left(self.seen, (n, 0.0))][1]


@asynccontextmanager
async def _watches(plant: Plant) -> AsyncIterator[tuple[Watch, Watch]]:
    connection = await asyncpg.connect(plant.dsn)
    async with Redis.from_url(plant.redis_url) as redis:
        commits = Watch(lambda: connection.fetchval(queries.stream_head))
        views = Watch(lambda: redis.hget("projector:cursor", "0"))
        tasks = [asyncio.create_task(watch.run()) for watch in (commits, views)]
        try:
            await asyncio.gather(commits.begun.wait(), views.begun.wait())
            yield commits, views
        finally:
            for watch in (commits, views):
                watch.end()
            await asyncio.wait(tasks)
            await connection.close()


async def _at_rate(plant: Plant, rate: int, seconds: float) -> AtRate:
    before, cpu_before = await plant.counters(), plant.cpu_s()
    load = Load(rate=rate, seconds=seconds, shape=Shape(run=f"at-{rate}"))
    async with (
        Generator(plant.mqtt_port, load) as generator,
        _watches(plant) as (commits, views),
        asyncio.timeout(seconds + _TIMEOUT_S),
    ):
        generator.go()
        sent = await generator.result()
        while (await plant.counters()).since(
            before
        ).applied < sent.messages or views.position < commits.position:
            plant.check()
            await asyncio.sleep(_POLL_S)
        cpu = plant.cpu_s()
    received, committed, visible = [], [], []
    for n, due, received_at in await _due_times(plant, commits.seen[0][0], commits.position):
        received.append(received_at - due)
        committed.append(commits.at(n) - due)
        visible.append(views.at(n) - due)
    check("timed", len(committed), sent.messages)
    return AtRate(
        sent.messages,
        _times(committed),
        _times(visible),
        _times(commits.gaps_s),
        _times(views.gaps_s),
        sent.late_ms,
        _times(received),
        cpu_us(cpu_before, cpu, sent),
    )


async def _due_times(plant: Plant, after: int, through: int) -> list[tuple[int, float, float]]:
    """Of each message the position, when it was due, and when it was received."""
    connection = await asyncpg.connect(plant.dsn)
    rows = await connection.fetch(queries.outbox_rows, after, through)
    await connection.close()
    return [
        (row["n"], _seconds(event.ts), _seconds(event.received_at))
        for row in rows
        for event in decode_events(row["payload"])
    ]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _times(seconds: Iterable[float]) -> Times:
    ordered = sorted(seconds)
    p50, p99, p999 = (ordered[int(share * len(ordered))] * _MS for share in (0.5, 0.99, 0.999))
    return Times(p50, p99, p999, ordered[-1] * _MS)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    found = []
    for rate, at in median.rates.items():
        if at.received is not None:
            found.append(Line(f"{int(rate):,} messages/s, due → received", _text(at.received)))
        found.append(Line(f"{int(rate):,} messages/s, due → committed", _text(at.committed)))
        what = f"{int(rate):,} messages/s, due → Redis"
        if int(rate) == _TARGET_RATE:
            met = at.visible.p50_ms <= _TARGET_P50_MS and at.visible.p99_ms <= _TARGET_P99_MS
            target = f"p50 ≤ {_TARGET_P50_MS:.0f} ms, p99 ≤ {_TARGET_P99_MS:.0f} ms"
            found.append(Line(what, _text(at.visible), target, met))
        else:
            found.append(Line(what, _text(at.visible)))
    return [*found, *map(_honesty, median.rates.items()), memory_line("peak memory", median.peak_mb)]


def cpu(median: Figures) -> CpuByCase:
    """By rate."""
    return {f"{int(rate):,} messages/s, each": at.cpu_us for rate, at in median.rates.items() if at.cpu_us}


def _honesty(rate_at: tuple[str, AtRate]) -> Line:
    """By how much the times may be too long, and how much of them is the load's own."""
    rate, at = rate_at
    looks = f"PostgreSQL {at.commit_watch.p99_ms:.1f} ms, Redis {at.view_watch.p99_ms:.1f} ms"
    what = f"{int(rate):,} messages/s, between looks, p99; the load late by at most"
    return Line(what, f"{looks}; {at.late_ms:.1f} ms")


def _text(times: Times) -> str:
    return f"p50 {times.p50_ms:.1f} ms, p99 {times.p99_ms:.1f} ms, p99.9 {times.p999_ms:.1f} ms"


def plot_times(result: Result[Figures], axes: Axes) -> None:
    """Medians of p50 and p99 into Redis, by rate."""
    rates = result.median.rates
    for name in ("p50_ms", "p99_ms", "p999_ms"):
        label = name.removesuffix("_ms").replace("p999", "p99.9")
        axes.plot(
            [int(rate) for rate in rates],
            [getattr(at.visible, name) for at in rates.values()],
            label=label,
            marker="o",
        )
    axes.set(xlabel="messages/s", ylabel="ms from due to Redis", xscale="log", ylim=(0, None))
    axes.legend()


SCENARIO: Scenario[Any] = Scenario(
    name="latency",
    title="Latency",
    text="An open-loop load; from when a message was due until it was committed, and until it was visible in "
    "Redis. Watched from outside, so a figure may be too long by the time between two looks: 2 ms, a query "
    "and the wait for a core; the table says how long that was.",
    options=Options(),
    quick=Options(rates=(500,), seconds=1.0),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
    plots={"times": plot_times},
)

if __name__ == "__main__":
    run_alone(SCENARIO)
