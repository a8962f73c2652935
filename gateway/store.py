"""Storing a batch, whatever happens to PostgreSQL meanwhile (promises 1, 2 and 5).

PostgreSQL is authoritative. `gateway/transaction.py` has the transaction; this is what its failures lead to:

- The server is away, or refuses for a while: nothing was kept of the batch, and it is replayed until it
  commits.
- COMMIT got no answer: its outcome is unknown. The server is asked for the fate of that very transaction, so
  that a batch that did commit is not taken for a repeat of itself. When the server has forgotten it, the
  batch is replayed and dedup resolves it.
- The dedup window turned meanwhile: the append is refused, and the batch is replayed in the new generation.
- Another gateway owns the stream: the append is refused, and the process stops.
- The data is refused: the batch is bisected to the reading that is, which becomes a dead letter; the rest
  commits, in order.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg
import structlog

from gateway import transaction
from gateway.transaction import AppendRefused, Outcome, Position
from runtime import faults
from runtime.errors import Retry, Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import ERRORS, is_data_error, keep_asking, lent, load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg.transaction import Transaction

    from gateway.decode import Reading, Rejection
    from gateway.devices import DeviceSighting, DeviceTracker
    from gateway.lease import Lease
    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

# Settings of the pool's connections. The planner must look keys up one by one even while its statistics say
# that their table is still small. A gateway frozen in a transaction must not keep its locks from others.
SESSION_SETTINGS = {
    "idle_in_transaction_session_timeout": "10s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


class _Unanswered(Retry):
    """COMMIT was sent and its answer was lost."""

    def __init__(self, reason: str, outcome: Outcome) -> None:
        super().__init__("postgres", reason)
        self.outcome = outcome


class Store:
    """Writes batches. Several may be under way at once, each on its own connection of the pool."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        devices: DeviceTracker,
        health: Health,
        published: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._devices = devices
        self._health = health
        self._published = published
        self._monotonic = monotonic
        self._generation = 0

    async def commit(
        self, readings: Sequence[Reading], rejections: Sequence[Rejection], *, again: bool = False
    ) -> list[Outcome]:
        """Store what a batch holds, however long PostgreSQL takes.

        Args:
            readings: to store.
            rejections: to keep as dead letters.
            again: whether the only reading was refused once before.

        Returns:
            One outcome, or several when the batch had to be bisected; together they cover every reading and
            rejection.

        Raises:
            Stop: the stream belongs to another gateway now, or the schema is not ours.
        """
        try:
            return [await self._commit_whole(readings, rejections)]
        except asyncpg.PostgresError as error:
            if not (readings and is_data_error(error)):
                raise Stop(f"postgres refuses to store, whatever the batch holds: {error}") from error
            if len(readings) == 1:
                if not again:  # its day's partition may just have been made
                    return await self.commit(readings, rejections, again=True)
                refused = readings[0].reject("refused_by_database", str(error))
                return await self.commit([], [*rejections, refused])
        half = len(readings) // 2
        first = await self.commit(readings[:half], [])
        return first + await self.commit(readings[half:], rejections)

    async def write_sightings(self, sightings: Sequence[DeviceSighting]) -> None:
        """Write sightings that no batch took along."""
        if not sightings:
            return
        try:
            async with lent(self._pool) as connection:
                await transaction.touch_devices(connection, sightings)
        except BaseException:
            self._devices.give_back(sightings)
            raise

    async def _commit_whole(self, readings: Sequence[Reading], rejections: Sequence[Rejection]) -> Outcome:
        unanswered: list[Outcome] = []

        async def attempt() -> Outcome:
            try:
                with retryable():
                    async with lent(self._pool) as connection:
                        if unanswered and await transaction.took_effect(
                            connection, unanswered[-1].transaction_id
                        ):
                            return unanswered[-1]
                        unanswered.clear()
                        return await self._transact(connection, readings, rejections)
            except _Unanswered as lost:
                unanswered.append(lost.outcome)
                raise

        while True:
            try:
                return await keep_trying("postgres", attempt, self._health)
            except AppendRefused:
                await self._refresh()

    async def _transact(
        self, connection: Connection, readings: Sequence[Reading], rejections: Sequence[Rejection]
    ) -> Outcome:
        sightings: list[DeviceSighting] = []
        generation = self._generation
        begun = connection.transaction()
        try:
            await begun.start()
            new, duplicates, conflicts = await transaction.claim(connection, generation, readings)
            if new:
                await transaction.insert_measurements(connection, new)
                sightings = self._devices.take((reading.event for reading in new), self._monotonic())
                await transaction.touch_devices(connection, sightings)
            letters, transaction_id = await transaction.bury(connection, [*rejections, *conflicts])
            appended = None
            if new:
                position = Position(self._lease.stream, self._lease.owner, generation, self._published())
                appended, transaction_id = await transaction.append(connection, position, new)
        except BaseException as error:
            self._devices.give_back(sightings)
            await _roll_back(connection, begun, error)
            raise
        unkeyed = [reading.keyed for reading in new].count(False)
        outcome = Outcome(appended, len(new), duplicates, unkeyed, letters, transaction_id)
        faults.point("before_commit")
        try:
            await begun.commit()
        except ERRORS as error:
            self._devices.give_back(sightings)
            _discard(connection)
            raise _Unanswered(f"COMMIT got no answer: {error}", outcome) from error
        faults.point("after_commit")
        return outcome

    async def _refresh(self) -> None:
        """Learn why an append was refused.

        Raises:
            Stop: another gateway owns the stream.
        """
        row = await keep_asking(
            lambda: self._pool.fetchrow(queries.stream_owner, self._lease.stream), self._health
        )
        assert row is not None
        if row["owner"] != self._lease.owner:
            raise Stop(
                f"stream {self._lease.stream} was taken over by {row['owner_name'] or 'another gateway'}: "
                f"give each gateway its own gateway.stream and broker.client_id"
            )
        self._generation = row["generation"]
        log.info("dedup_generation", generation=self._generation)


async def _roll_back(connection: Connection, begun: Transaction, error: BaseException) -> None:
    """Roll back where the connection is known to be whole; any other is not used again."""
    if isinstance(error, (AppendRefused, asyncpg.PostgresError)):
        try:
            await begun.rollback()
        except ERRORS:
            _discard(connection)
    else:
        _discard(connection)


def _discard(connection: Connection) -> None:
    """Close a connection so that the pool makes a new one; the server rolls back what was open on it."""
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken it back already
        connection.terminate()
