"""Which way a batch had better go: as one call, or as a transaction with COPY, by how many readings it has.

Both go to the same private PostgreSQL in turns, new readings each, one batch after the other. What is printed
is of a reading: CPU of the client and of the server, and of a batch: how long it took. The trip is that of a
local socket. `gateway/trip.py` has what follows from it.

    python -m bench.crossover --rows 1 20 100 500 1000
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple

from bench import meter
from bench.tables import table
from deploy.local.services import LocalServices
from gateway.decode import Decoder, Limits, Received
from gateway.decode.examples import Message
from gateway.decode.reading import Reading
from gateway.decode.routes import compile_routes
from gateway.devices import DeviceTracker
from gateway.lease import Lease
from gateway.migrate import migrate
from gateway.slot import Slot
from gateway.store import SESSION_SETTINGS, Store
from runtime import logs
from runtime.http import Health
from runtime.postgres import open_pool
from runtime.settings import Route

_US: Final = 1e6
_FIGURES: Final = ("client µs", "server µs", "ms a batch")
_READINGS: Final = 20_000  # of a round, each way


class Cost(NamedTuple):
    """Of one way at one size.

    Attributes:
        client_us: of CPU a reading.
        server_us: the same of PostgreSQL with all its processes.
        batch_ms: from one batch to the next.
    """

    client_us: float
    server_us: float
    batch_ms: float


class Bench:
    """A store, and readings without end."""

    def __init__(self, services: LocalServices, store: Store, now: datetime) -> None:
        self._services = services
        self._store = store
        self._decoder = Decoder(compile_routes([Route()]), Limits())
        self._received = Received.of(now)
        self._last = 0

    async def measure(self, rows: int, *, calls: bool) -> Cost:
        """Store batches of so many readings by one way."""
        self._store.in_one_call = lambda _: calls
        batches = [self._batch(rows) for _ in range(max(10, min(1000, _READINGS // rows)))]
        for warm_up in batches[:5]:
            await self._store.commit(warm_up, [])
        measured = batches[5:]
        client, server, began = time.process_time(), self._server_s(), time.monotonic()
        for batch in measured:
            await self._store.commit(batch, [])
        took = time.monotonic() - began
        readings = rows * len(measured)
        client_us = (time.process_time() - client) / readings * _US
        server_us = (self._server_s() - server) / readings * _US
        return Cost(client_us, server_us, took / len(measured) * 1000)

    def _batch(self, rows: int) -> list[Reading]:
        found = []
        for number in range(self._last, self._last + rows):
            payload = (
                b'{"id":"%09d","ts":"2026-11-23T09:00:00.250Z","region":"north",'
                b'"temperature":21.5,"humidity":40.25}' % number
            )
            topic = f"devices/d{number % 1000:06d}/telemetry"
            items = self._decoder.decode(Message(topic, payload), self._received)
            found += [item for item in items if isinstance(item, Reading)]
        self._last += rows
        return found

    def _server_s(self) -> float:
        return meter.cpu_s(self._services.pids()["postgres"])


async def compare(rows: list[int], rounds: int) -> dict[int, tuple[Cost, Cost]]:
    """Medians by size: as one call, and by COPY."""
    async with LocalServices(["postgres"], environ={}) as services:
        dsn = services.postgres_dsn
        await migrate(dsn)
        health = Health()
        lease = Lease(dsn, slot=Slot(0, "bench", ""), health=health)
        await lease.acquire()
        async with await open_pool(dsn, name="bench", settings=SESSION_SETTINGS) as pool:
            store = Store(pool, lease=lease, devices=DeviceTracker(30.0), health=health)
            bench = Bench(services, store, datetime.now(UTC))
            found: dict[int, tuple[list[Cost], list[Cost]]] = {size: ([], []) for size in rows}
            for _ in range(rounds):
                for size, (calls, copies) in found.items():
                    calls.append(await bench.measure(size, calls=True))
                    copies.append(await bench.measure(size, calls=False))
        await lease.release()
    return {size: (_median(calls), _median(copies)) for size, (calls, copies) in found.items()}


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))


def main() -> None:
    """Print a Markdown table, a row a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 5, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logs.configure("json", "warning")
    found = asyncio.run(compare(options.rows, options.rounds))
    head = ["readings", *(f"{way}, {what}" for way in ("call", "COPY") for what in _FIGURES)]
    lines = [
        [str(size), *(f"{figure:.1f}" for cost in both for figure in cost)] for size, both in found.items()
    ]
    print(table(head, lines, numbers=True))


if __name__ == "__main__":
    main()
