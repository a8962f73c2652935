"""What appending costs while somebody's snapshot is open: a dump, a report, a retirement.

One connection appends rows, a transaction each, while another has a snapshot open all the time; once as the
gateway does it, with the stream's row locked, and once with the row changed besides. The times are those of a
transaction in the first and in the last tenth. COMMIT does not wait for the disk here, which would hide it.

    python -m bench.snapshot --appends 10000
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import uuid
from typing import TYPE_CHECKING, Final

import asyncpg

from deploy.local.services import LocalServices
from gateway.migrate import migrate
from gateway.store import SESSION_SETTINGS
from runtime import logs
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAMS: Final = {"locked": 0, "changed": 1}

_gateway = load_queries("gateway")
_bench = load_queries("bench")


async def measure(dsn: str, kind: str, appends: int) -> list[float]:
    """Milliseconds of each of so many transactions that append a row."""
    stream, owner = STREAMS[kind], uuid.uuid4()
    writer = await asyncpg.connect(dsn, server_settings={**SESSION_SETTINGS, "synchronous_commit": "off"})
    reader = await asyncpg.connect(dsn)
    await writer.execute(_gateway.claim_stream, stream, owner, "bench")
    took_ms = []
    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetch(_bench.open_snapshot)
        for n in range(1, appends + 1):
            began = time.perf_counter()
            async with writer.transaction():
                if kind == "changed":
                    await writer.execute(_bench.change_stream, stream)
                row = await writer.fetchrow(_gateway.append_outbox, stream, owner, 0, b"[]", 0, n)
            took_ms.append(1000 * (time.perf_counter() - began))
            assert row is not None
    await reader.close()
    await writer.close()
    return took_ms


def told(kind: str, took_ms: Sequence[float]) -> str:
    """The first and the last tenth beside each other."""
    tenth = len(took_ms) // 10
    first, last = statistics.median(took_ms[:tenth]), statistics.median(took_ms[-tenth:])
    return f"{kind:8} {first:8.2f} ms {last:8.2f} ms {last / first:8.2f}"


async def main(appends: int) -> None:
    """Measure both and print."""
    async with LocalServices(["postgres"], environ={}) as services:
        await migrate(services.postgres_dsn)
        print(f"{'row':8} {'first':>11} {'last':>11} {'ratio':>8}   of {appends:,} appends", flush=True)
        for kind in STREAMS:
            print(told(kind, await measure(services.postgres_dsn, kind, appends)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--appends", type=int, default=10_000)
    logs.configure("json", "warning")
    asyncio.run(main(parser.parse_args().appends))
