"""What runs beside the path: held-back sightings, projected counts, partitions, trimming, the summary."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from runtime.lifecycle import every
from runtime.postgres import load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from gateway.devices import DeviceTracker
    from gateway.ledger import Ledger
    from gateway.relay import Relay
    from gateway.store import Store
    from runtime.logs import RateLimit

log = structlog.get_logger()
queries = load_queries("gateway")

_SUMMARY_INTERVAL_S = 10.0
_PROJECTED_INTERVAL_S = 1.0
_HOUSEKEEPING_INTERVAL_S = 60.0


class Upkeep:
    """Periodic work; none of it is on the path, and a failure of any waits for its next turn."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        stream: int,
        dedup_window_s: float,
        outbox_retention_s: float,
        store: Store,
        devices: DeviceTracker,
        relay: Relay,
        ledger: Ledger,
        rejected: RateLimit,
    ) -> None:
        self._pool = pool
        self._stream = stream
        self._dedup_window = timedelta(seconds=dedup_window_s)
        self._outbox_retention = timedelta(seconds=outbox_retention_s)
        self._store = store
        self._devices = devices
        self._relay = relay
        self._ledger = ledger
        self._rejected = rejected
        self._last = ledger.line()

    async def run(self) -> None:
        """Run everything at its interval until cancelled."""
        stop = asyncio.Event()  # never set: whoever runs this cancels it
        turns = (
            ("projected", _PROJECTED_INTERVAL_S, self.note_projected),
            ("sightings", _PROJECTED_INTERVAL_S, self._write_sightings),
            ("housekeeping", _HOUSEKEEPING_INTERVAL_S, self.housekeep),
            ("summary", _SUMMARY_INTERVAL_S, self._summarize),
        )
        async with asyncio.TaskGroup() as tasks:
            for name, interval_s, turn in turns:
                tasks.create_task(every(interval_s, _retried(turn), stop=stop, name=name), name=name)

    async def note_projected(self) -> bool:
        """Ask how far the projections have come; returns whether there are any."""
        n = await self._pool.fetchval(queries.projected, self._stream)
        self._ledger.project(n or 0)
        return n is not None

    async def housekeep(self) -> None:
        """Make partitions ahead, turn the dedup window when it is time, trim the outbox."""
        await self._pool.execute(queries.create_partitions)
        if await self._pool.fetchval(queries.turn_dedup, self._dedup_window):
            log.info("dedup_window_turned")
        await self._pool.execute(queries.trim_outbox, self._stream, self._outbox_retention)

    async def _write_sightings(self) -> None:
        await self._store.write_sightings(self._devices.take_due(asyncio.get_running_loop().time()))

    async def _summarize(self) -> None:
        self._rejected.flush()
        line = self._ledger.line()
        rates = {
            f"{name}_per_s": round((line[name] - self._last[name]) / _SUMMARY_INTERVAL_S, 1)
            for name in ("received", "committed", "projected")
        }
        self._last = line
        lag = {f"{step}_lag_ms": round(seconds * 1000, 1) for step, seconds in self._ledger.lag_s.items()}
        log.info("summary", **line, **rates, **lag, unpublished_rows=self._relay.behind)


def _retried(turn: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Say errors of the database as the house does, so that a turn that failed for now is skipped."""

    async def run() -> None:
        with retryable():
            await turn()

    return run
