"""Keeps the door as the registry says: reads all of it at the start, and each second what has changed.

What changed is found by the transactions that changed it (`devices.changed`): those that had not ended in the
snapshot of one look are the next one's. Nobody waits for a lock, no message for an answer. Where that may be
another history of the table, and each ten minutes, because a row that was removed leaves no trace, everything
is read anew.

While PostgreSQL is away the door stays as it is: nothing is stored meanwhile either.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from gateway.door import mend, refusal
from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from gateway.door import Door
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PAGE: Final = 10_000
_ANEW_S: Final = 600.0
_TOLD: Final = 20  # a turn


class Doorman:
    """Follows the registry for one door.

    Attributes:
        let_in_at: when somebody was last let in who may have been refused before, by a monotonic clock.
    """

    def __init__(self, door: Door, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._monotonic = monotonic
        self._history = ""
        self._snapshot = ""
        self._read_at = 0.0
        self._is_full = False
        self.let_in_at = monotonic()

    async def turn(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Tell who was refused, and look what has changed."""
        for device_id, reason, topic in self._door.take_news(_TOLD):
            log.warning(
                "device_refused",
                device=device_id,
                reason=reason,
                topic=topic,
                mend=mend(reason, [device_id]),
            )
        await self.look(pool)

    async def look(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Bring the door up to date."""
        async with lent(pool) as connection:
            await self._look(connection)

    async def _look(self, connection: Connection) -> None:
        row = await connection.fetchrow(queries.registry_snapshot)
        assert row is not None
        now = self._monotonic()
        if row["history"] != self._history or now - self._read_at >= _ANEW_S:
            await self._read_all(connection)
            if not self._history:
                log.info("registry_read", devices=len(self._door), holds=self._door.holds)
            self._history, self._read_at = row["history"], now
            self.let_in_at = now
        elif row["snapshot"] != self._snapshot:  # else no transaction has ended since
            await self._read_changes(connection)
        self._snapshot = row["snapshot"]
        if self._door.is_full and not self._is_full:
            log.warning("registry_too_large", holds=False, kept=len(self._door))
        self._is_full = self._door.is_full

    async def _read_all(self, connection: Connection) -> None:
        door = self._door.begin()
        states = ["active", "blocked"] if door.holds else ["blocked"]
        after = ""
        while not door.is_full and (
            page := await connection.fetch(queries.registry_states, after, states, _PAGE)
        ):
            for device_id, state in page:
                door.take(device_id, state)
            after = page[-1]["device_id"]
        self._door.replace(door)

    async def _read_changes(self, connection: Connection) -> None:
        place = "0", ""
        while page := await connection.fetch(queries.registry_changes, self._snapshot, *place, _PAGE):
            for device_id, state, _ in page:
                self._door.take(device_id, state)
                if refusal(state, holds=self._door.holds) is None:
                    self.let_in_at = self._monotonic()
            place = page[-1]["changed"], page[-1]["device_id"]
