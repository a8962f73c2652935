"""Storing a batch, whatever happens to PostgreSQL meanwhile (promises 1, 2 and 5).

PostgreSQL is authoritative. A batch that is small, or far from the server, goes there as one call
(`gateway/one_call.py`); any other, and what a call leaves, by the transaction of `gateway/transaction.py`.
`gateway/committing.py` has what becomes of both when server, network or stream fail. This is what happens
when rows are refused: the batch is bisected to the readings that are, which become dead letters at its end;
the rest commits, in order. When nothing at all of a batch was taken, a plain row is tried. If that is refused
too, it is the table and no message that is at fault: the process stops, and nothing was acknowledged.

Devices are noted once a batch is stored, and written by a turn of their own: a row of `devices` that somebody
holds must not hold up a batch. Whether they are online is decided with the batch (`gateway/presence.py`), in
a table that nobody else holds, and brought to `devices` where that row is free.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway import transaction
from gateway.committing import Committing
from gateway.decode.limits import MAX_LETTERS
from gateway.one_call import OneCall
from gateway.presence import Presence
from gateway.spool.places import Place
from gateway.transaction import Outcome, RowsRefused
from gateway.turns import Turns
from runtime.errors import Stop
from runtime.postgres import keep_asking, lent, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from gateway.beside import Beside, Change
    from gateway.decode import Reading, Rejection
    from gateway.devices import DeviceSighting, DeviceTracker
    from gateway.lease import Lease
    from gateway.one_call import Called
    from gateway.presence import Standing
    from gateway.turns import Turn
    from runtime.http import Health
    from runtime.postgres import Connection

queries = load_queries("gateway")

_SIGHTINGS_S = 5.0
_AT_ONCE = 10_000  # sightings, in a second or so

# Settings of the pool's connections. The planner must look keys up one by one even while its statistics say
# that their table is still small. A gateway frozen in a transaction must not keep its locks from others. And
# what waits for somebody's lock does not notice that its client has given up, as that does after 30 s: each
# attempt would leave a session behind, until the server has none left. A COMMIT is never broken off by it.
SESSION_SETTINGS = {
    "statement_timeout": "35s",
    "idle_in_transaction_session_timeout": "10s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


class Store:
    """Writes batches. Several may be under way at once, each on its own connection of the pool.

    Args:
        presence: what is known of devices being online.
        keeper: writes what else a batch changes; None where nothing can be.
        went_back: called with the end of the stream when a failover has lost its last rows.

    Attributes:
        turns: in which batches commit.
        trip: to the server and back.
        in_one_call: whether so many readings had better be one call.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        devices: DeviceTracker,
        health: Health,
        presence: Presence | None = None,
        keeper: Beside | None = None,
        went_back: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.turns = Turns()
        self.trip = lease.trip
        self.in_one_call: Callable[[int], bool] = lease.trip.is_worth_a_call
        self._pool = pool
        self._devices = devices
        self._presence = Presence() if presence is None else presence
        self._keeper = keeper
        self._health = health
        self._committing = Committing(pool, lease=lease, health=health, went_back=went_back)

    @property
    def next_n(self) -> int:
        """The number of the stream's next row, as far as is known."""
        return self._committing.position(0).n

    async def commit(
        self,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
        turn: Turn | None = None,
        *,
        last: bool = True,
        changes: Sequence[Change] = (),
    ) -> list[Outcome]:
        """Store what a batch holds, however long PostgreSQL takes.

        Args:
            readings: to store.
            rejections: to keep as dead letters.
            turn: of the batch, which the caller ends; without one this is a batch by itself.
            last: whether nothing more of the batch comes.
            changes: what else the batch has changed, which is written with the last of it.

        Returns:
            One outcome, or several when the batch had to be bisected; together they cover every reading and
            rejection.

        Raises:
            Stop: the stream belongs to another gateway now, or PostgreSQL refuses whatever the batch holds.
        """
        if turn is None:
            turn = self.turns.take()
            outcomes = await self.commit(readings, rejections, turn, changes=changes)
            turn.end()
            return outcomes
        called = None
        places = [each for each in changes if isinstance(each, Place)]
        if readings and len(places) == len(changes) and self.in_one_call(len(readings)):
            called = await self._call(turn, readings, rejections, last=last, places=places if last else [])
        if called is None:
            return await self._commit_in_pieces(turn, readings, rejections, last=last, changes=changes)
        if not called.left and not called.letters_left:
            return [called.outcome]
        rest = await self._commit_in_pieces(
            turn, called.left, called.letters_left, last=last, changes=changes
        )
        return _together(called.outcome, rest)

    async def write_sightings(self, sightings: Sequence[DeviceSighting]) -> None:
        """Write when devices were heard. Those whose rows somebody holds are given back."""
        await write_sightings(self._pool, self._devices, sightings, self._presence)

    async def _commit_in_pieces(
        self,
        turn: Turn,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
        *,
        last: bool,
        changes: Sequence[Change],
    ) -> list[Outcome]:
        """Store by transactions: one, unless rows are refused."""
        outcomes = []
        pieces = [readings]
        tried: Reading | None = None
        refused: list[Rejection] = []
        sharing: Counter[str] = Counter()
        while pieces:
            piece = pieces.pop(0)
            final = not (pieces or refused)
            letters = rejections if final else ()
            try:
                beside = changes if last and final else ()
                outcomes.append(
                    await self._commit_whole(turn, piece, letters, last=last and final, beside=beside)
                )
            except RowsRefused as error:
                if len(piece) > 1:
                    half = len(piece) // 2
                    pieces[:0] = piece[:half], piece[half:]
                elif piece[0] is not tried:
                    tried = piece[0]
                    pieces.insert(0, piece)  # its day's partition may just have been made
                else:
                    refused.append(_refused(piece[0], str(error), sharing))
        if refused:
            if not any(outcome.committed for outcome in outcomes):
                await self._probe()
            letters = [*rejections, *refused]
            outcomes.append(
                await self._commit_whole(turn, [], letters, last=last, beside=changes if last else ())
            )
        return outcomes

    async def _call(
        self,
        turn: Turn,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
        *,
        last: bool,
        places: Sequence[Place],
    ) -> Called | None:
        """Store by one call; None when a row or a place is refused, and nothing was stored."""
        noted = partial(self._keeper.noted, places) if places and self._keeper is not None else None
        call = OneCall(readings, rejections, self._presence, noted)
        try:
            called = await self._committing.call(turn, call, last=last)
        except RowsRefused:
            return None
        self._devices.note(reading.event for reading in called.known)
        self._presence.settle(called.standings)
        return called

    async def _commit_whole(
        self,
        turn: Turn,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
        *,
        last: bool,
        beside: Sequence[Change],
    ) -> Outcome:
        known: Sequence[Reading] = ()
        standings: list[Standing] = []

        async def write(connection: Connection) -> Outcome:
            nonlocal known, standings
            generation = self._committing.generation
            new, duplicates, conflicts, known = await transaction.claim(connection, generation, readings)
            if last:
                turn.claim()
            if new:
                await transaction.insert_measurements(connection, new)
            letters, evidence = await transaction.bury(connection, [*rejections, *conflicts])
            await turn.may_append()
            appended, standings = None, []
            if beside and self._keeper is not None:
                await self._keeper.write(connection, beside)
            if new:
                new, standings = await self._presence.note(connection, new)
                position = self._committing.position(generation)
                appended, evidence = await transaction.append(connection, position, new)
            unkeyed = [reading.keyed for reading in new].count(False)
            return Outcome(appended, len(new), duplicates, unkeyed, letters, evidence)

        outcome = await self._committing.run(turn, write)
        self._devices.note(reading.event for reading in known)
        self._presence.settle(standings)
        return outcome

    async def _probe(self) -> None:
        """Make sure that the table takes anything at all.

        Raises:
            Stop: it does not.
        """

        async def probe() -> None:
            async with lent(self._pool) as connection:
                await transaction.probe_measurements(connection)

        try:
            await keep_asking(probe, self._health)
        except RowsRefused as error:
            raise Stop(f"measurements refuses a plain row too, so no message is at fault: {error}") from error


def _together(called: Outcome, rest: list[Outcome]) -> list[Outcome]:
    """What became of a batch by a call, and of what that left."""
    if len(rest) > 1 or rest[0].appended is not None:
        return [called, *rest]
    left = rest[0]
    return [
        replace(
            called,
            duplicates=called.duplicates + left.duplicates,
            dead_letters=[*called.dead_letters, *left.dead_letters],
        )
    ]


def _refused(reading: Reading, error: str, sharing: Counter[str]) -> Rejection:
    """A letter of a reading; a payload that many share is in some of their letters, not in thousands.

    Args:
        reading: it.
        error: why.
        sharing: how many letters there are of each such payload; takes this one.
    """
    letter = reading.reject("refused_by_database", error)
    sharing[reading.digest] += 1
    if not reading.digest or sharing[reading.digest] <= MAX_LETTERS:
        return letter
    return letter._replace(
        payload=b"", error=f"{error}; its bytes are in the letters before it, of {letter.topic}"
    )


async def write_sightings(
    pool: asyncpg.Pool[asyncpg.Record],
    devices: DeviceTracker,
    sightings: Sequence[DeviceSighting],
    presence: Presence,
) -> None:
    """Write when devices were heard; what cannot be written now is given back to the tracker.

    Some at a time: after an outage, or when a broker begins, all of a fleet speak at once.
    """
    left = list(sightings)
    passed_over: list[DeviceSighting] = []
    try:
        while left:
            some = left[:_AT_ONCE]
            held = await _write_some(pool, some, presence)
            passed_over += [seen for seen in some if seen.device_id in held]
            del left[:_AT_ONCE]
    finally:
        devices.give_back([*passed_over, *left])


async def _write_some(
    pool: asyncpg.Pool[asyncpg.Record], sightings: Sequence[DeviceSighting], presence: Presence
) -> set[str]:
    """Write them; returns the devices whose rows somebody holds."""
    ids = [seen.device_id for seen in sightings]
    async with lent(pool) as connection:
        rows = await connection.fetch(
            queries.write_sightings,
            ids,
            [seen.region for seen in sightings],
            [seen.first_seen for seen in sightings],
            [seen.last_seen for seen in sightings],
            timeout=_SIGHTINGS_S,
        )
        said = await connection.fetch(queries.mirror_presence, ids, timeout=_SIGHTINGS_S)
    presence.learn((row["device_id"], row["said_at"]) for row in said if row["said_at"])
    return {row["device_id"] for row in rows} | {row["device_id"] for row in said if row["behind"]}
