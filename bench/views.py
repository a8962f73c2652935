"""The read side alone: rows of the outbox into the views of a real Redis, without broker and PostgreSQL.

`python -m bench.views --devices 1000 100000 --run 3500 10000` prints, for each number of devices and of
events applied in one run, the CPU per event of each step and for how long a call keeps Redis from others;
before that, what applying costs the projector for a few shapes of events. It is where a change to the views
is tried first.
"""

from __future__ import annotations

import argparse
import random
import time
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import uvloop

from bench.tables import table
from contract.events import Event, RawEvent, encode_events, format_time, unwrap, wrap
from deploy.local.services import LocalServices
from projector.views import Keys, Run, Views
from runtime.redis import open_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio import Redis

    from contract.events import Scalar

_ROW_EVENTS = 500
_SHAPE_EVENTS = 5000
_NOW = datetime(2026, 11, 23, tzinfo=UTC)
_TS = format_time(_NOW)
_SHAPES: dict[str, Callable[[int], tuple[str, dict[str, Scalar]]]] = {
    "two metrics, 50 devices": lambda i: (f"d{i % 50}", {"temperature": i / 10, "humidity": 40.5}),
    "two metrics, a device each": lambda i: (f"d{i}", {"temperature": i / 10, "humidity": 40.5}),
    "thirty metrics": lambda i: (f"d{i % 50}", {f"m{n}": i / 10 for n in range(30)}),
    "256 metrics, all of their own": lambda i: ("d", {f"m{i}-{n}": i / 10 for n in range(256)}),
    "texts": lambda i: (f"d{i % 50}", {"state": f"s{i}", "mode": "auto"}),
}
"""Device and metrics of the i-th event."""


class Cost(NamedTuple):
    """CPU of one measurement, in seconds, but for `calls`."""

    decode: float
    apply: float
    redis: float
    calls: int


async def measure(redis: Redis, devices: int, events: int, run_events: int) -> Cost:
    """Bring so many events into views that know all devices already."""
    views = Views(redis, Keys(f"{devices}:{run_events}:"))
    n = 0
    for part in _chunks(list(_rows(devices, devices, start=0)), 4):
        n = await _apply(views, part, n)
    rows = list(_rows(devices, events, start=devices))
    decode = applying = 0.0
    calls, redis_before = await _calls(redis), await _redis_s(redis)
    for part in _chunks(rows, max(1, run_events // _ROW_EVENTS)):
        t0 = time.process_time()
        batches = [unwrap(row) for row in part]
        t1 = time.process_time()
        brought = list(chain.from_iterable(batch.events for batch in batches))
        await views.apply(Run(0, "e", n + 1, n + len(part), brought), _NOW)
        t2 = time.process_time()
        n += len(part)
        decode, applying = decode + t1 - t0, applying + t2 - t1
    return Cost(decode, applying, await _redis_s(redis) - redis_before, await _calls(redis) - calls)


async def _apply(views: Views, rows: list[bytes], n: int) -> int:
    events = list(chain.from_iterable(unwrap(row).events for row in rows))
    await views.apply(Run(0, "e", n + 1, n + len(rows), events), _NOW)
    return n + len(rows)


async def _redis_s(redis: Redis) -> float:
    info = await redis.info("cpu")
    return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])


async def _calls(redis: Redis) -> int:
    """How many scripts Redis has run."""
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


def _rows(devices: int, events: int, *, start: int) -> Iterator[bytes]:
    """Messages of the internal topic; the first `devices` events are one of each device."""
    pick = random.Random(devices)  # noqa: S311  # the same load every time
    for first in range(start, start + events, _ROW_EVENTS):
        raw = []
        for i in range(first, min(first + _ROW_EVENTS, start + events)):
            device = i if i < devices else pick.randrange(devices)
            ts = format_time(_NOW + timedelta(milliseconds=i // 10))
            metrics = {"temperature": pick.randrange(400) / 10, "humidity": pick.randrange(80, 100) / 2}
            raw.append(
                RawEvent(
                    f"d{device:06d}",
                    f"r{device % 4}",
                    ts,
                    ts,
                    f"0-{i:07d}",
                    msgspec.Raw(msgspec.json.encode(metrics)),
                )
            )
        yield wrap(encode_events(raw), stream=0, n=first, epoch="e", created_at=_NOW)


def _chunks(rows: list[bytes], size: int) -> Iterator[list[bytes]]:
    for i in range(0, len(rows), size):
        yield rows[i : i + size]


async def apply_shapes(redis: Redis, events: int) -> list[list[str]]:
    """A row a shape: CPU here in µs an event and µs a value, `_ROW_EVENTS` applied at a time."""
    rows = []
    for shape, make in _SHAPES.items():
        made = [
            Event(device, f"r{i % 4}", _TS, _TS, f"{i}", metrics)
            for i, (device, metrics) in enumerate(map(make, range(events)))
        ]
        views = Views(redis, Keys(f"{shape}:"))
        begun = time.process_time()
        for n, part in enumerate(range(0, events, _ROW_EVENTS), 1):
            await views.apply(Run(0, "e", n, n, made[part : part + _ROW_EVENTS]), _NOW)
        spent = time.process_time() - begun
        values = sum(len(event.metrics) for event in made)
        rows.append([shape, f"{spent / events * 1e6:.1f}", f"{spent / values * 1e6:.1f}"])
    return rows


async def run(options: argparse.Namespace) -> None:
    """Print two Markdown tables."""
    async with LocalServices(["redis"], environ={}) as services, open_redis(services.redis.url()) as redis:
        shapes = await apply_shapes(redis, _SHAPE_EVENTS)
    print(table(["shape", "µs an event", "µs a value"], shapes, numbers=True), end="\n\n")
    print("| devices | events a run | decode | apply | Redis | a call keeps Redis |")
    print("|---|---|---|---|---|---|")
    async with LocalServices(["redis"], environ={}) as services, open_redis(services.redis.url()) as redis:
        for devices in options.devices:
            for run_events in options.run:
                cost = await measure(redis, devices, options.events, run_events)
                steps = " | ".join(f"{each / options.events * 1e6:.1f} µs" for each in cost[:3])
                print(f"| {devices:,} | {run_events:,} | {steps} | {cost.redis / cost.calls * 1e3:.1f} ms |")
                await redis.flushall()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--run", type=int, nargs="+", default=[1000, 3500, 10_000])
    parser.add_argument("--events", type=int, default=200_000)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
