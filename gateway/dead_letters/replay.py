"""Replay: dead letters through the path that they came by once more, each stored once.

A page of letters is one transaction of the same steps as a batch from the broker (`gateway/transaction.py`):
keys, measurements, an outbox row, and with them `replayed_at` of the letters; and it is carried to its end in
the same way (`gateway/committing.py`). So a replay can be killed at any instant and repeated: what it
committed is marked, what it did not is as it was. Letters are locked while they are replayed, and their keys
are claimed like any other's, so neither a second replay nor the device itself, sending again, stores one
twice.

A replay is a writer like any gateway and needs a stream of its own: one that no gateway can have, held by a
lease with its fencing token. Nobody publishes that stream to the internal topic; projectors find its rows in
the outbox within two seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from contract.events import format_time
from gateway import transaction
from gateway.committing import Committing
from gateway.dead_letters.tally import Page, Tally
from gateway.dead_letters.verdicts import Kept, Verdicts, decode, judge, turn_away
from gateway.decode import Rejection
from gateway.devices import DeviceTracker
from gateway.presence import Presence
from gateway.store import write_sightings
from gateway.transaction import RowsRefused
from gateway.turns import Turns
from runtime.postgres import keep_asking, lent, load_queries

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    import asyncpg

    from gateway.dead_letters.selection import Selection
    from gateway.decode import Decoder, Reading
    from gateway.decode.routes import CompiledRoute
    from gateway.lease import Lease
    from gateway.sparkplug.replayed import NamingDecoder
    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")


class _Refused(Exception):  # noqa: N818  # no error yet: the page is halved
    """The database refuses something in these letters."""

    def __init__(self, letters: Sequence[Kept], error: str) -> None:
        super().__init__(error)
        self.letters = letters


class Replay:
    """Replays letters.

    Args:
        pool: connections with the settings of `gateway.store`.
        lease: of the stream that the outbox rows go to.
        page_letters: most letters a transaction,
        page_bytes: and bytes of them.
        holds: whether letters of devices that are not active stay.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        routes: Sequence[CompiledRoute],
        decoder: Decoder | NamingDecoder,
        health: Health,
        page_letters: int,
        page_bytes: int,
        holds: bool = False,
    ) -> None:
        self._pool = pool
        self._devices = DeviceTracker(0)
        self._presence = Presence()
        self._committing = Committing(pool, lease=lease, health=health)
        self._routes = routes
        self._decoder = decoder
        self._health = health
        self._page_letters = page_letters
        self._page_bytes = page_bytes
        self._holds = holds

    async def run(
        self,
        selection: Selection,
        *,
        limit: int | None,
        stop: asyncio.Event,
        progress: Callable[[Tally], None],
    ) -> Tally:
        """Replay what is selected, in order of receipt, however long PostgreSQL takes.

        Args:
            selection: which letters.
            limit: at most so many, the oldest.
            stop: ends it after the page under way.
            progress: called after each page.

        Raises:
            Stop: the stream belongs to another replay now.
        """
        row = await self._ask(queries.count_dead_letters, *selection)
        letters = row["letters"] if limit is None else min(limit, row["letters"])
        tally = Tally(letters, row["others"])
        progress(tally)
        after, size = 0, self._page_letters
        while tally.done < tally.selected:
            if stop.is_set():
                tally.stopped = True
                break
            size = min(size, tally.selected - tally.done)
            try:
                page = await self._page(selection, after, row["last_id"], size)
            except _Refused as refused:
                size = len(refused.letters) // 2
                if size:
                    continue
                page = await self._keep(refused.letters[0], str(refused))
            if page is None:
                break
            tally.add(page)
            log.debug("letters_replayed", letters=len(page.verdicts.replayed), stored=page.stored)
            progress(tally)
            after, size = page.last_id, self._page_letters
        return tally

    async def _page(self, selection: Selection, after: int, last_id: int, size: int) -> Page | None:
        """Replay the next letters; None when there are none."""
        letters: list[Kept] = []
        known: Sequence[Reading] = ()

        async def write(connection: Connection) -> Page:
            nonlocal letters, known
            rows = await connection.fetch(
                queries.lock_dead_letters, *selection, after, last_id, size, self._page_bytes
            )
            letters = [Kept(**row) for row in rows]
            attempts = [decode(letter, self._decoder, self._routes) for letter in letters]
            ids = {reading.event.device_id for attempt in attempts for reading in attempt.readings}
            states = dict(map(tuple, await connection.fetch(queries.states_of, list(ids))))
            turn_away(attempts, states, holds=self._holds)
            readings = [reading for attempt in attempts for reading in attempt.readings]
            generation = self._committing.generation
            claimed = await transaction.claim(connection, generation, readings)
            new, known = claimed.new, claimed.known
            if new:
                await transaction.insert_measurements(connection, new)
            verdicts = judge(attempts, claimed)
            await transaction.bury(connection, verdicts.orphans)
            await _mark_failing(connection, verdicts)
            evidence = await transaction.mark_replayed(connection, verdicts.replayed)
            appended = None
            if new:
                new, _ = await self._presence.note(connection, new)
                position = self._committing.position(generation)
                appended, evidence = await transaction.append(connection, position, new)
            return Page(letters[-1].id if letters else after, len(new), verdicts, appended, evidence)

        try:
            page = await self._committing.run(Turns().take(), write)
        except RowsRefused as refused:
            raise _Refused(letters, str(refused)) from refused
        await self._note(known)
        return page if letters else None

    async def _note(self, readings: Sequence[Reading]) -> None:
        self._devices.note(reading.event for reading in readings)
        due = self._devices.take_due(0)
        await keep_asking(
            lambda: write_sightings(self._pool, self._devices, due, self._presence), self._health
        )

    async def _keep(self, letter: Kept, error: str) -> Page:
        """Leave a letter that the database refuses."""
        received_at = format_time(letter.received_at)
        refused = Rejection(received_at, letter.topic, None, "refused_by_database", error, letter.payload)
        page = Page(letter.id, 0, Verdicts([], [(letter, refused)], [], 0))

        async def mark() -> None:
            async with lent(self._pool) as connection:
                await _mark_failing(connection, page.verdicts)

        await keep_asking(mark, self._health)
        return page

    async def _ask(self, query: str, *arguments: object) -> asyncpg.Record:
        """Ask PostgreSQL for one row, for as long as it is away."""
        row = await keep_asking(lambda: self._pool.fetchrow(query, *arguments), self._health)
        assert row is not None
        return row


async def _mark_failing(connection: Connection, verdicts: Verdicts) -> None:
    waiting = [(letter.id, found) for letter, found in verdicts.failing if not letter.replayed]
    await connection.execute(
        queries.mark_still_failing,
        [id_ for id_, _ in waiting],
        [found.reason for _, found in waiting],
        [found.error.replace("\x00", "\ufffd") for _, found in waiting],
        [found.device_id for _, found in waiting],
        [transaction.joined(found.stands_for) if len(found.stands_for) > 1 else None for _, found in waiting],
    )
