"""What runs beside the path: held-back sightings, projected counts, the tables' bounds, the summary."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.dead_letters import REPLAY_STREAM
from gateway.retention import make_partitions, retire
from gateway.rollups import drop_history, make_history_partitions
from runtime.lifecycle import every
from runtime.postgres import keep_asking, load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from gateway.devices import DeviceTracker
    from gateway.ledger import Ledger
    from gateway.relay import Relay
    from gateway.store import Store
    from runtime.http import Health
    from runtime.logs import RateLimit

log = structlog.get_logger()
queries = load_queries("gateway")

_SUMMARY_INTERVAL_S = 10.0
_PROJECTED_INTERVAL_S = 1.0
_HOUSEKEEPING_INTERVAL_S = 60.0
_RETENTION_INTERVAL_S = 300.0
_PIECE_LETTERS = 5_000


class Upkeep:
    """Periodic work; none of it is on the path, and a failure of any waits for its next turn.

    Args:
        retention_s: age at which measurements are retired, None to keep them for ever.
        history_retention_s: the same of minutes, `1m`, and hours, `1h`; those not named are kept for ever.
        dead_letters_max: so many dead letters are kept,
        dead_letters_max_bytes: and so many bytes of them.

    Attributes:
        outbox_bytes: room that the outbox takes on disk, all streams and indexes; None before the first look.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        stream: int,
        dedup_window_s: float,
        outbox_retention_s: float,
        retention_s: float | None,
        history_retention_s: Mapping[str, float],
        dead_letters_max: int,
        dead_letters_max_bytes: int,
        store: Store,
        devices: DeviceTracker,
        relay: Relay,
        ledger: Ledger,
        rejected: RateLimit,
        health: Health,
    ) -> None:
        self.outbox_bytes: int | None = None
        self._pool = pool
        self._stream = stream
        self._dedup_window = timedelta(seconds=dedup_window_s)
        self._outbox_retention = timedelta(seconds=outbox_retention_s)
        self._retention = None if retention_s is None else timedelta(seconds=retention_s)
        self._history_retention = {
            rollup: timedelta(seconds=seconds) for rollup, seconds in history_retention_s.items()
        }
        self._dead_letters_max = dead_letters_max
        self._dead_letters_max_bytes = dead_letters_max_bytes
        self._store = store
        self._devices = devices
        self._relay = relay
        self._ledger = ledger
        self._rejected = rejected
        self._health = health
        self._last = ledger.line()

    async def run(self) -> None:
        """Run everything at its interval until cancelled."""
        stop = asyncio.Event()  # never set: whoever runs this cancels it
        turns = (
            ("projected", _PROJECTED_INTERVAL_S, self.note_projected),
            ("sightings", _PROJECTED_INTERVAL_S, self._write_sightings),
            ("housekeeping", _HOUSEKEEPING_INTERVAL_S, self.housekeep),
            ("retention", _RETENTION_INTERVAL_S, self._retire),
            ("summary", _SUMMARY_INTERVAL_S, self._summarize),
        )
        async with asyncio.TaskGroup() as tasks:
            for name, interval_s, turn in turns:
                tasks.create_task(
                    every(interval_s, partial(keep_asking, turn, self._health), stop=stop, name=name),
                    name=name,
                )

    async def note_projected(self) -> bool:
        """Ask how far the views have come; returns whether there are any."""
        n = await self._pool.fetchval(queries.projected, self._stream)
        self._ledger.project(n or 0)
        return n is not None

    async def housekeep(self) -> None:
        """Make partitions ahead, turn the dedup window when it is time, trim outbox and dead letters."""
        now = datetime.now(UTC)
        await make_partitions(self._pool, now, self._retention)
        await make_history_partitions(self._pool, now)
        if await self._pool.fetchval(queries.turn_dedup, self._dedup_window):
            log.info("dedup_window_turned")
        for stream in (self._stream, REPLAY_STREAM):
            await self._pool.execute(queries.trim_outbox, stream, self._outbox_retention)
        self.outbox_bytes = await self._pool.fetchval(queries.outbox_bytes)
        await self._evict_dead_letters()

    async def _evict_dead_letters(self) -> None:
        letters = size = 0
        bounds = self._dead_letters_max, self._dead_letters_max_bytes
        while (
            piece := await self._pool.fetchrow(queries.evict_dead_letters, *bounds, _PIECE_LETTERS)
        ) and piece["letters"]:
            letters += piece["letters"]
            size += piece["bytes"]
        if letters:
            self._ledger.evict(letters)
            log.warning("dead_letters_evicted", letters=letters, bytes=size)

    async def _retire(self) -> None:
        if self._retention is not None:
            await retire(self._pool, datetime.now(UTC), self._retention)
        await drop_history(self._pool, datetime.now(UTC), self._history_retention)

    async def _write_sightings(self) -> None:
        await self._store.write_sightings(self._devices.take_due(time.monotonic()))

    async def _summarize(self) -> None:
        self._rejected.flush()
        line = self._ledger.line()
        rates = {
            f"{name}_per_s": round((line[name] - self._last[name]) / _SUMMARY_INTERVAL_S, 1)
            for name in ("received", "committed", "projected")
        }
        self._last = line
        lag = {f"{step}_lag_ms": round(seconds * 1000, 1) for step, seconds in self._ledger.lag_s().items()}
        unkeyed = {"unkeyed": self._ledger.unkeyed} if self._ledger.unkeyed else {}
        log.info("summary", **line, **unkeyed, **rates, **lag, unpublished_rows=self._relay.behind)
