"""What the dedup window costs: its room, a claim, a turn-over, by how many keys it holds.

The keys are in the tables of `gateway/migrations/`, half of them in either generation, as they are when a
turn-over is due. The first million are claimed as a gateway claims them: one connection with its settings, a
transaction a batch of 1,000. More are made on the server by the same `INSERT … ORDER BY … ON CONFLICT DO
NOTHING`, in sorted pieces of a tenth of what is there, with `full_page_writes` off for as long as that lasts.
Hashes are spread evenly, so pages split where a gateway's batches would split them; that the room per key
stays what it was at a million shows it.

Then new keys are claimed in the same way, twice. Right after a checkpoint every page that is touched for the
first time goes whole into the write-ahead log; later, here after a piece that touched them all, it does not.
A gateway is between the two.

    python -m bench.window --keys 1 10 100
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from bench import meter
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from gateway.store import SESSION_SETTINGS
from gateway.transaction import in_one
from runtime import logs
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncpg import Connection, Record

BATCH: Final = 1000
MEASURED: Final = 200_000
MILLION: Final = 1_000_000
_TOUCHES_ALL: Final = 25  # of so many keys one: a page of the index holds some 200

_gateway = load_queries("gateway")
_bench = load_queries("bench")


class Claims(msgspec.Struct, frozen=True):
    """What claiming new keys cost.

    Attributes:
        keys_s: keys a second, one connection.
        cpu_us: µs of PostgreSQL's CPU a key, its background processes included.
        wal_bytes: of write-ahead log a key.
    """

    keys_s: float
    cpu_us: float
    wal_bytes: float


class Window(msgspec.Struct, frozen=True):
    """The window at one fill.

    Attributes:
        keys: held in both generations together.
        fill_s: how long it took to make them.
        row_bytes: on disk a key, of the tables.
        index_bytes: on disk a key, of their indexes.
        after_checkpoint: claims while each page is still to be logged whole.
        later: claims when every page has been.
        turn_ms: the turn-over, which empties the older half.
    """

    keys: int
    fill_s: float
    row_bytes: float
    index_bytes: float
    after_checkpoint: Claims
    later: Claims
    turn_ms: float


class _Bench:
    """One PostgreSQL with a window in it."""

    def __init__(self, services: LocalServices, connection: Connection[Record]) -> None:
        self._services = services
        self._connection = connection
        self._fills = (_bench.fill_keys_0, _bench.fill_keys_1)
        self._last = 0

    async def fill(self, generation: int, keys: int) -> None:
        """Bring an empty generation to so many keys."""
        filled = min(keys, MILLION // 2)
        await self._claim(generation, filled)
        while filled < keys:
            filled += await self.fill_piece(generation, min(keys - filled, filled // 10))

    async def fill_piece(self, generation: int, keys: int) -> int:
        """Add one sorted piece; returns its size."""
        first, self._last = self._last, self._last + keys
        await self._connection.execute(self._fills[generation], first, self._last)
        return keys

    async def change(self, setting: str) -> None:
        """Change a setting of the server by this statement, at once."""
        await self._connection.execute(setting)
        await self._connection.execute(_bench.reload_settings)

    async def room(self) -> tuple[int, int]:
        """Bytes of the tables and of their indexes."""
        row = await self._connection.fetchrow(_bench.window_bytes)
        assert row is not None
        return row["rows"], row["index"]

    async def checkpoint(self) -> None:
        """Make every page's next change be logged whole."""
        await self._connection.execute(_bench.checkpoint)

    async def measure(self) -> Claims:
        """Claim new keys in the current generation."""
        wal, cpu, started = await self._wal(), self._cpu_s(), time.monotonic()
        await self._claim(0, MEASURED)
        took_s = time.monotonic() - started
        cpu_s, wal_bytes = self._cpu_s() - cpu, await self._wal() - wal
        return Claims(MEASURED / took_s, cpu_s / MEASURED * 1e6, wal_bytes / MEASURED)

    async def turn(self) -> float:
        """Turn the window over; returns how many ms it took."""
        started = time.monotonic()
        turned = await self._connection.fetchval(_gateway.turn_dedup, timedelta(0))
        assert turned
        return (time.monotonic() - started) * 1000

    async def _claim(self, generation: int, keys: int) -> None:
        for identities, contents in _batches(self._last, keys):
            async with self._connection.transaction():
                short = await self._connection.fetchval(
                    _gateway.claim_keys, generation, in_one(identities), in_one(contents), len(identities)
                )
            assert short is None, short
        self._last += keys

    async def _wal(self) -> int:
        return int(await self._connection.fetchval(_bench.wal_written))

    def _cpu_s(self) -> float:
        return meter.cpu_s(self._services.pids()["postgres"])


async def measure(keys: int) -> Window:
    """Measure the window at one fill, on a fresh server.

    Args:
        keys: in both generations together.
    """
    async with LocalServices(["postgres"], environ={}) as services:
        await migrate(services.postgres_dsn)
        connection = await asyncpg.connect(services.postgres_dsn, server_settings=SESSION_SETTINGS)
        bench = _Bench(services, connection)
        started = time.monotonic()
        await bench.change(_bench.log_no_full_pages)
        for generation in (1, 0):
            await bench.fill(generation, keys // 2)
        await bench.change(_bench.log_full_pages)
        fill_s = time.monotonic() - started
        print(f"{keys:,} keys filled in {fill_s:.0f} s", file=sys.stderr, flush=True)
        rows, index = await bench.room()
        await bench.checkpoint()
        after_checkpoint = await bench.measure()
        await bench.fill_piece(0, keys // 2 // _TOUCHES_ALL)
        later = await bench.measure()
        turn_ms = await bench.turn()
        await connection.close()
    return Window(keys, fill_s, rows / keys, index / keys, after_checkpoint, later, turn_ms)


def _batches(first: int, keys: int) -> Iterator[tuple[list[str], list[str]]]:
    """Identities and contents such as `gateway/decode/decoder.py` makes them, a batch at a time."""
    when = "2026-11-23 09:00:00.250000+00"
    for start in range(first, first + keys, BATCH):
        numbers = range(start, min(start + BATCH, first + keys))
        identities = [f"d{i % 1000:06d}\x1f{i:09d}" for i in numbers]
        metrics = '{"temperature":21.5,"humidity":40.25}'
        yield identities, [f"{when}\t{identity}\tnorth\t{metrics}" for identity in identities]


def main() -> None:
    """Print a Markdown table, a row a fill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[1, 10], metavar="MILLIONS")
    options = parser.parse_args()
    logs.configure("json", "warning")
    print("| keys held | bytes a key: row + index | claim, later | claim, after a checkpoint | turn-over |")
    print("|---|---|---|---|---|", flush=True)
    for millions in options.keys:
        print(_row(asyncio.run(measure(millions * MILLION))), flush=True)


def _row(window: Window) -> str:
    claims = (
        f"{each.keys_s:,.0f} keys/s, {each.cpu_us:.1f} µs, {each.wal_bytes:,.0f} bytes of log"
        for each in (window.later, window.after_checkpoint)
    )
    room = f"{window.row_bytes:.0f} + {window.index_bytes:.0f}"
    return f"| {window.keys:,} | {room} | {' | '.join(claims)} | {window.turn_ms:.0f} ms |"


if __name__ == "__main__":
    main()
