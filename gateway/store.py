"""The transaction: keys, measurements, devices, dead letters, an outbox row; or nothing (promises 1, 2, 5).

PostgreSQL is authoritative. A batch is claimed key by key first; what was not claimed is a repeat, or a
conflict when its content differs from what holds the key. The outbox row comes last, so that its position
follows commit order.

- The server is away, or refuses for a while: the batch is replayed until it commits; nothing of it was kept.
- COMMIT got no answer: its outcome is unknown. The server is asked for the fate of that very transaction, so
  that a batch that did commit is not taken for a repeat of itself. When the server has forgotten, the batch
  is replayed and dedup resolves it.
- The dedup window turned meanwhile: the append is refused by generation, and the batch is replayed against
  the new one.
- Another gateway owns the stream: the append is refused by owner. The process stops.
- The data is refused: the batch is bisected to the reading that is, which becomes a dead letter; the rest
  commits, in order.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import structlog

from contract.events import encode_events
from gateway.decode import Reading, Rejection
from runtime.errors import Retry, Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import ERRORS, is_data_error, lent, load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from asyncpg.transaction import Transaction

    from gateway.devices import DeviceSighting, DeviceTracker
    from gateway.lease import Lease
    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_COLUMNS = ("ts", "device_id", "message_key", "region", "metrics", "received_at")

# Settings of the pool's connections: keys are looked up one by one even while statistics say that their table
# is small.
SESSION_SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Appended:
    """One committed outbox row.

    Attributes:
        payload: the encoded events, as the table holds them.
    """

    n: int
    events: int
    payload: bytes
    created_at: datetime


class DeadLetter(NamedTuple):
    """A rejection with the id it was stored under."""

    id: int
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch, or of a part of it.

    Attributes:
        appended: None when nothing of it was new.
        committed: readings stored now.
        duplicates: readings that were stored before.
        unkeyed: of the stored ones, those whose key was made here.
    """

    appended: Appended | None
    committed: int
    duplicates: int
    unkeyed: int
    dead_letters: list[DeadLetter]


class _Refused(Exception):  # noqa: N818  # not an error: the batch is replayed
    """The append found another generation or owner than the batch was written for."""


class _Unanswered(Retry):
    """COMMIT was sent and its answer was lost."""

    def __init__(self, reason: str, outcome: Outcome, transaction_id: str) -> None:
        super().__init__("postgres", reason)
        self.outcome = outcome
        self.transaction_id = transaction_id


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

    async def commit(self, readings: Sequence[Reading], rejections: Sequence[Rejection]) -> list[Outcome]:
        """Store what a batch holds, however long PostgreSQL takes.

        Returns:
            One outcome, or several when the batch had to be bisected; together they cover every reading and
            rejection.

        Raises:
            Stop: the stream belongs to another gateway now.
        """
        try:
            return [await self._commit_whole(readings, rejections)]
        except asyncpg.PostgresError as error:
            if not (readings and is_data_error(error)):
                raise Stop(f"postgres refuses to store, whatever the batch holds: {error}") from error
            if len(readings) == 1:
                log.warning("reading_refused", error=str(error), device=readings[0].event.device_id)
                return await self.commit([], [*rejections, _refused_by_database(readings[0], error)])
        half = len(readings) // 2
        first = await self.commit(readings[:half], [])
        return first + await self.commit(readings[half:], rejections)

    async def write_sightings(self, sightings: Sequence[DeviceSighting]) -> None:
        """Write sightings that no batch took along."""
        if not sightings:
            return
        try:
            async with lent(self._pool) as connection:
                await self._touch_devices(connection, sightings)
        except BaseException:
            self._devices.give_back(sightings)
            raise

    async def _commit_whole(self, readings: Sequence[Reading], rejections: Sequence[Rejection]) -> Outcome:
        unanswered: list[_Unanswered] = []

        async def attempt() -> Outcome:
            try:
                with retryable():
                    async with lent(self._pool) as connection:
                        if unanswered and (outcome := await self._recover(connection, unanswered[-1])):
                            return outcome
                        unanswered.clear()
                        return await self._transact(connection, readings, rejections)
            except _Unanswered as lost:
                unanswered.append(lost)
                raise

        while True:
            try:
                return await keep_trying("postgres", attempt, self._health)
            except _Refused:
                await self._refresh()

    async def _transact(
        self,
        connection: Connection,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
    ) -> Outcome:
        sightings: list[DeviceSighting] = []
        transaction = connection.transaction()
        await transaction.start()
        try:
            new, duplicates, conflicts = await self._claim(connection, readings)
            if new:
                await connection.copy_to_table(
                    "measurements", source=_rows(new), columns=_COLUMNS, format="text"
                )
                sightings = self._devices.take((reading.event for reading in new), self._monotonic())
                await self._touch_devices(connection, sightings)
            dead_letters, transaction_id = await self._bury(connection, [*rejections, *conflicts])
            appended, transaction_id = await self._append(connection, new) if new else (None, transaction_id)
            outcome = Outcome(
                appended, len(new), duplicates, sum(not reading.keyed for reading in new), dead_letters
            )
        except BaseException as error:
            self._devices.give_back(sightings)
            await _roll_back(connection, transaction, error)
            raise
        try:
            await transaction.commit()
        except ERRORS as error:
            self._devices.give_back(sightings)
            _discard(connection)
            reason = f"COMMIT got no answer: {error}"
            raise _Unanswered(reason, outcome, transaction_id) from error
        return outcome

    async def _claim(
        self, connection: Connection, readings: Sequence[Reading]
    ) -> tuple[Sequence[Reading], int, list[Rejection]]:
        """Claim the keys; return the new readings, the count of repeats, and the conflicts as rejections."""
        if not readings:
            return [], 0, []
        claim = queries.claim_keys_1 if self._generation else queries.claim_keys_0
        identities = [reading.identity for reading in readings]
        contents = [reading.content for reading in readings]
        status = await connection.execute(claim, identities, contents)
        if int(status.rpartition(" ")[2]) == len(readings):
            return readings, 0, []
        repeats = {
            row["ord"] - 1: row["conflict"]
            for row in await connection.fetch(queries.find_repeats, identities, contents)
        }
        new = [reading for i, reading in enumerate(readings) if i not in repeats]
        conflicts = [_conflict(readings[i]) for i, conflict in repeats.items() if conflict]
        return new, len(repeats) - len(conflicts), conflicts

    async def _touch_devices(self, connection: Connection, sightings: Sequence[DeviceSighting]) -> None:
        if sightings:
            await connection.execute(
                queries.touch_devices,
                [seen.device_id for seen in sightings],
                [seen.region for seen in sightings],
                [seen.first_seen for seen in sightings],
                [seen.last_seen for seen in sightings],
            )

    async def _bury(
        self, connection: Connection, rejections: Sequence[Rejection]
    ) -> tuple[list[DeadLetter], str]:
        if not rejections:
            return [], ""
        columns = list(zip(*map(_storable, rejections), strict=True))
        rows = await connection.fetch(queries.insert_dead_letters, *columns)
        dead_letters = [
            DeadLetter(row["id"], rejection) for row, rejection in zip(rows, rejections, strict=True)
        ]
        return dead_letters, rows[0]["transaction_id"]

    async def _append(self, connection: Connection, new: Sequence[Reading]) -> tuple[Appended, str]:
        payload = encode_events([reading.event for reading in new])
        row = await connection.fetchrow(
            queries.append_outbox,
            self._lease.stream,
            self._lease.owner,
            len(new),
            payload,
            self._published(),
            self._generation,
        )
        if row is None:
            raise _Refused
        return Appended(row["n"], len(new), payload, row["created_at"]), row["transaction_id"]

    async def _recover(self, connection: Connection, lost: _Unanswered) -> Outcome | None:
        """Return the outcome of a transaction that did commit, None for one that did not."""
        if not lost.transaction_id:
            return None  # it wrote nothing
        fate = await connection.fetchval(queries.transaction_outcome, lost.transaction_id)
        log.info("commit_resolved", outcome=fate or "forgotten")
        if fate == "in progress":
            raise lost
        return lost.outcome if fate == "committed" else None

    async def _refresh(self) -> None:
        """Learn why an append was refused.

        Raises:
            Stop: another gateway owns the stream.
        """

        async def ask() -> asyncpg.Record:
            with retryable():
                row = await self._pool.fetchrow(queries.stream_owner, self._lease.stream)
            assert row is not None
            return row

        row = await keep_trying("postgres", ask, self._health)
        if row["owner"] != self._lease.owner:
            raise Stop(
                f"stream {self._lease.stream} was taken over by {row['owner_name'] or 'another gateway'}: "
                f"give each gateway its own gateway.stream and broker.client_id"
            )
        self._generation = row["generation"]
        log.info("dedup_generation", generation=self._generation)


async def _roll_back(connection: Connection, transaction: Transaction, error: BaseException) -> None:
    """Roll back where the connection is known to be whole; any other is not used again."""
    if isinstance(error, (_Refused, asyncpg.PostgresError)):
        try:
            await transaction.rollback()
        except ERRORS:
            _discard(connection)
    else:
        _discard(connection)


def _discard(connection: Connection) -> None:
    """Close a connection so that the pool makes a new one; the server rolls back what was open on it."""
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken it back already
        connection.terminate()


async def _rows(readings: Sequence[Reading]) -> AsyncIterator[bytes]:
    yield "".join([f"{reading.line}\t{reading.event.received_at}\n" for reading in readings]).encode()


def _conflict(reading: Reading) -> Rejection:
    event = reading.event
    return Rejection(
        event.received_at,
        reading.source.delivery.topic,
        event.device_id,
        "conflict",
        f"key {event.key!r} is stored with other content; a device whose counter starts again needs "
        f'identity = "key+time" on its route',
        reading.source.payload(),
    )


def _refused_by_database(reading: Reading, error: Exception) -> Rejection:
    event = reading.event
    return Rejection(
        event.received_at,
        reading.source.delivery.topic,
        event.device_id,
        "refused_by_database",
        str(error),
        reading.source.payload(),
    )


def _storable(rejection: Rejection) -> tuple[str, str, str | None, str, str, bytes]:
    """The rejection as a row: PostgreSQL's text cannot hold NUL, which a hostile topic may have."""
    received_at, topic, device_id, reason, error, payload = rejection
    return (
        received_at,
        topic.replace("\x00", "\ufffd"),
        device_id,
        reason,
        error.replace("\x00", "\ufffd"),
        payload,
    )
