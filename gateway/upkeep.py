"""The gateway's chores: its own, and those that one gateway at a time does for the whole site.

A site's chores (partitions, the dedup window, outbox, dead letters, retention, settling) go by what
`gateway/site.py` says is in force. Whoever comes first does a turn under a lock of that chore; the others
find it taken. They have connections of their own, so that a long one keeps no batch from the path's, and give
up a lock after 100 ms.

Before intake there is nothing to wait for: rows of a day without a partition go to the default one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gateway import site as sites
from gateway.bounds import evict_dead_letters, trim_outbox, turn_dedup
from gateway.chores import Chore, Chores
from gateway.dead_letters.release import release
from gateway.dead_letters.run import ReplayUnderWay
from gateway.migrate import refuse_encoding
from gateway.partitions import make_partitions
from gateway.retention import retire
from gateway.rollups import drop_history
from gateway.settling import settle
from gateway.sparkplug.keeper import forget
from runtime.closing import closing
from runtime.lifecycle import keep_trying
from runtime.postgres import lent, load_queries, open_pool
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from gateway.devices import DeviceTracker
    from gateway.doorman import Doorman
    from gateway.ledger import Ledger
    from gateway.relay import Relay
    from gateway.site import Site
    from gateway.store import Store
    from runtime.http import Health
    from runtime.logs import RateLimit
    from runtime.postgres import Connection
    from runtime.settings import Settings

log = structlog.get_logger()
queries = load_queries("gateway")

_SUMMARY_INTERVAL_S: Final = 10.0
_MOMENT_S: Final = 2.0
_PAUSE_S: Final = 0.1
_HOUR_S: Final = 3600.0
_HELD_INTERVAL_S: Final = 5.0
_LATE_S: Final = 60.0
_NAMED: Final = 10
_CHORE_SETTINGS: Final = {
    "statement_timeout": "0",  # each is given up here when it has taken too long for what it is
    "lock_timeout": "100ms",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
}


class Upkeep:
    """Periodic work; none of it is on the path.

    Attributes:
        outbox_bytes: room that the outbox takes on disk, all streams and indexes; None before the first look.
        database_bytes: room that the database takes on disk, likewise.
        abandoned: sessions of gateways that are no more, which the broker may keep, likewise.
        retention_s: of measurements, 0 when they are kept for ever, likewise.
        dedup_window_s: of the window in force; None before the first look.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        settings: Settings,
        *,
        store: Store,
        devices: DeviceTracker,
        relay: Relay,
        ledger: Ledger,
        rejected: RateLimit,
        health: Health,
        doorman: Doorman,
    ) -> None:
        self.outbox_bytes: int | None = None
        self.database_bytes: int | None = None
        self.abandoned: int | None = None
        self.retention_s: float | None = None
        self.dedup_window_s: float | None = None
        self._dedup_age_s = 0.0
        self._dedup_looked_at = 0.0
        self._pool = pool
        self._settings = settings
        self._max_ahead = timedelta(seconds=duration_s(settings.gateway.max_ahead))
        self._store = store
        self._devices = devices
        self._relay = relay
        self._ledger = ledger
        self._rejected = rejected
        self._health = health
        self._doorman = doorman
        self._released_at = 0.0
        self._last, self._last_at = ledger.line(), time.monotonic()
        self._declared = False
        self._declaring = asyncio.Lock()
        self._sighting = asyncio.Lock()
        self._own: asyncpg.Pool[asyncpg.Record] | None = None
        self._chores = (
            Chore("projected", 1.0, 10.0, self._note_projected),
            Chore("sightings", 1.0, 30.0, self._write_sightings),
            Chore("registry", 1.0, 30.0, self._look_at_registry),
            Chore("summary", _SUMMARY_INTERVAL_S, 10.0, self._summarize),
            self._site_chore("partitions", 60.0, 6 * _HOUR_S, self._make_partitions),
            self._site_chore("dedup", 60.0, 30.0, self._turn_dedup),
            self._site_chore("outbox", 60.0, _HOUR_S, self._trim_outbox),
            Chore("sizes", 60.0, 30.0, self._measure, at_once=True),
            self._site_chore("dead_letters", 10.0, _HOUR_S, self._evict_dead_letters),
            self._site_chore("held", _HELD_INTERVAL_S, _HOUR_S, self._release_held),
            self._site_chore("retention", 300.0, 24 * _HOUR_S, self._retire),
            self._site_chore("settling", 300.0, 24 * _HOUR_S, self._settle),
            self._site_chore("history", 300.0, _HOUR_S, self._drop_history),
            self._site_chore("sparkplug_births", _HOUR_S, _HOUR_S, lambda connection, _: forget(connection)),
        )
        self.chores = Chores(self._chores, health)

    @property
    def dedup_age_s(self) -> float:
        """For how long the current generation of message keys has been filled."""
        return self._dedup_age_s + time.monotonic() - self._dedup_looked_at

    async def prepare(self) -> None:
        """What intake needs: a database that holds every text, and today's partition if it takes a moment.

        Raises:
            Stop: it cannot.
        """
        async with lent(self._pool) as connection:
            refuse_encoding(connection.get_settings().server_encoding)
        with contextlib.suppress(Exception):  # the chore says what is the matter
            async with asyncio.timeout(_MOMENT_S):
                while not await self._take_turn(self._pool, "partitions", self._make_first_partitions):  # noqa: ASYNC110  # a lock of the server
                    await asyncio.sleep(_PAUSE_S)

    def reload(self, settings: Settings) -> None:
        """Go by another configuration from the next turn on, and put what all share in force."""
        self._settings = settings
        self._declared = False

    async def run(self) -> None:
        """Do everything at its interval until cancelled."""
        dsn, name = self._settings.postgres.dsn, f"{self._settings.broker.client_id}-chores"
        self._own = await keep_trying(
            "postgres",
            lambda: open_pool(dsn, name=name, max_size=len(self._chores), settings=_CHORE_SETTINGS),
            self._health,
        )
        async with closing(self._own):
            await self.chores.run()

    async def write_sightings(self) -> None:
        """Write all that are held back, after those that are being written: these may come back."""
        async with self._sighting:
            await self._store.write_sightings(self._devices.take_all())

    async def _note_projected(self) -> None:
        if self._ledger.projected < self._ledger.committed:  # else nothing is waited for
            await self.note_projected()

    async def note_projected(self) -> bool:
        """Ask how far the views have come; returns whether there are any."""
        n = await self._pool.fetchval(queries.projected, self._settings.gateway.stream)
        self._ledger.project(n or 0)
        return n is not None

    def _site_chore(
        self,
        name: str,
        interval_s: float,
        timeout_s: float,
        work: Callable[[Connection, Site], Awaitable[object]],
    ) -> Chore:
        return Chore(name, interval_s, timeout_s, partial(self._for_the_site, name, work), at_once=True)

    async def _for_the_site(self, name: str, work: Callable[[Connection, Site], Awaitable[object]]) -> None:
        assert self._own is not None

        async def turn(connection: Connection) -> None:
            names, values = list(_CHORE_SETTINGS), list(_CHORE_SETTINGS.values())
            await connection.execute(queries.settings_of_chores, names, values)
            await work(connection, await self._site(connection))

        await self._take_turn(self._own, name, turn)

    @staticmethod
    async def _take_turn(
        pool: asyncpg.Pool[asyncpg.Record], name: str, turn: Callable[[Connection], Awaitable[object]]
    ) -> bool:
        """Do it, and tell so, unless another gateway is at it."""
        async with lent(pool) as connection:
            if not await connection.fetchval(queries.take_chore, name):
                return False
            try:
                await turn(connection)
                await connection.execute(queries.let_chore_go, name)
            except BaseException:
                connection.terminate()  # and the lock with it, whatever state it is in
                raise
        return True

    async def _site(self, connection: Connection) -> Site:
        async with self._declaring:
            if not self._declared:
                who = self._settings.broker.client_id
                await sites.declare(connection, self._settings.gateway, who)
                self._declared = True
        return await sites.read(connection, self._settings.gateway)

    async def _make_first_partitions(self, connection: Connection) -> None:
        await self._make_partitions(connection, sites.configured(self._settings.gateway))

    async def _make_partitions(self, connection: Connection, site: Site) -> None:
        now = datetime.now(UTC)
        await make_partitions(connection, now, max_ahead=self._max_ahead, retention=site.retention)

    async def _turn_dedup(self, connection: Connection, site: Site) -> None:
        await turn_dedup(connection, site.dedup_window)
        self._dedup_age_s = await connection.fetchval(queries.dedup_age)
        self._dedup_looked_at = time.monotonic()
        self.dedup_window_s = site.dedup_window.total_seconds()

    async def _trim_outbox(self, connection: Connection, site: Site) -> None:
        await trim_outbox(connection, site.outbox_retention)
        self.outbox_bytes = await connection.fetchval(queries.outbox_bytes)

    async def _measure(self) -> None:
        """What fills the disk, and what the broker queues for nobody."""
        assert self._own is not None
        self.database_bytes = await self._own.fetchval(queries.database_bytes)
        abandoned = [row["client_id"] for row in await self._own.fetch(queries.abandoned_sessions)]
        if len(abandoned) > (self.abandoned or 0):
            log.warning(
                "sessions_abandoned",
                client_ids=abandoned[:_NAMED],
                detail="the broker may queue for these, and count what it drops: gateway retire CLIENT_ID",
            )
        self.abandoned = len(abandoned)
        async with lent(self._own) as connection:
            site = await self._site(connection)
        self.retention_s = site.retention.total_seconds() if site.retention else 0.0

    async def _evict_dead_letters(self, connection: Connection, site: Site) -> None:
        evicted = await evict_dead_letters(connection, site.dead_letters_max, site.dead_letters_max_bytes)
        self._ledger.evict(evicted.letters)

    async def _look_at_registry(self) -> None:
        assert self._own is not None
        await self._doorman.turn(self._own)

    async def _release_held(self, _connection: Connection, _site: Site) -> None:
        """Store what was held for who is let in now, for a while after anybody was.

        For a while: what this gateway held before it knew may still be on its way to the table.
        """
        if self._settings.gateway.unknown_devices != "hold":
            return
        began = time.monotonic()
        if self._released_at > self._doorman.let_in_at + _LATE_S:
            return
        assert self._own is not None
        with contextlib.suppress(ReplayUnderWay):  # looked at again
            tally = await release(self._own, self._settings)
            self._released_at = began
            if tally.done:
                log.info("held_released", letters=tally.replayed, stored=tally.stored, failing=tally.failing)

    async def _retire(self, connection: Connection, site: Site) -> None:
        await retire(connection, datetime.now(UTC), site.retention)

    async def _settle(self, connection: Connection, site: Site) -> None:
        await settle(connection, datetime.now(UTC), site.retention)

    async def _drop_history(self, connection: Connection, site: Site) -> None:
        await drop_history(connection, datetime.now(UTC), site.history)

    async def _write_sightings(self) -> None:
        async with self._sighting:
            await self._store.write_sightings(self._devices.take_due(time.monotonic()))

    async def _summarize(self) -> None:
        self._rejected.flush()
        line, now = self._ledger.line(), time.monotonic()
        rates = {
            f"{name}_per_s": round((line[name] - self._last[name]) / (now - self._last_at), 1)
            for name in ("received", "committed", "projected")
        }
        self._last, self._last_at = line, now
        lag = {f"{step}_lag_ms": round(seconds * 1000, 1) for step, seconds in self._ledger.lag_s().items()}
        unkeyed = {"unkeyed": self._ledger.unkeyed} if self._ledger.unkeyed else {}
        log.info("summary", **line, **unkeyed, **rates, **lag, unpublished_rows=self._relay.behind)
