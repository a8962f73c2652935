"""Replay: dead letters through the path that they came by once more, each stored once.

A page of letters is one transaction of the same steps as a batch from the broker (`gateway/transaction.py`):
keys, measurements, devices, an outbox row, and with them `replayed_at` of the letters. So a replay can be
killed at any instant and repeated: what it committed is marked, what it did not is as it was. Letters are
locked while they are replayed, and their keys are claimed like any other's, so neither a second replay nor
the device itself, sending again, stores one twice.

A replay is a writer like any gateway and needs a stream of its own: one that no gateway can have, held by a
lease with its fencing token. Nobody publishes that stream to the internal topic; projectors find its rows in
the outbox within two seconds.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg
import structlog

from contract.events import format_time
from gateway import transaction
from gateway.dead_letters.tally import Page, Tally
from gateway.dead_letters.verdicts import Kept, Verdicts, decode, judge
from gateway.decode import Rejection
from gateway.devices import DeviceTracker
from gateway.transaction import AppendRefused, Position
from runtime.errors import Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import is_data_error, keep_asking, lent, load_queries, retryable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from gateway.dead_letters.selection import Selection
    from gateway.decode import Decoder
    from gateway.decode.routes import CompiledRoute
    from gateway.lease import Lease
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
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        routes: Sequence[CompiledRoute],
        decoder: Decoder,
        health: Health,
        page_letters: int,
        page_bytes: int,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._routes = routes
        self._decoder = decoder
        self._health = health
        self._page_letters = page_letters
        self._page_bytes = page_bytes
        self._generation = 0

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
        tally = Tally(row["letters"] if limit is None else min(limit, row["letters"]))
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
        unanswered: list[Page] = []

        async def attempt() -> Page | None:
            with retryable():
                async with lent(self._pool) as connection:
                    if unanswered and await transaction.took_effect(
                        connection, unanswered[-1].transaction_id
                    ):
                        return unanswered[-1]
                    unanswered.clear()
                    begun = connection.transaction()
                    await begun.start()
                    try:
                        page = await self._transact(
                            connection, (*selection, after, last_id, size, self._page_bytes)
                        )
                        if page is not None:
                            unanswered.append(page)
                        await begun.commit()
                    except BaseException:
                        with contextlib.suppress(asyncpg.InterfaceError):  # the pool took it back already
                            connection.terminate()  # whatever state it is in; the server rolls back
                        raise
                    return page

        while True:
            try:
                return await keep_trying("postgres", attempt, self._health)
            except AppendRefused:
                await self._refresh()

    async def _transact(self, connection: Connection, arguments: tuple[object, ...]) -> Page | None:
        letters = [Kept(**row) for row in await connection.fetch(queries.lock_dead_letters, *arguments)]
        if not letters:
            return None
        attempts = [decode(letter, self._decoder, self._routes) for letter in letters]
        readings = [reading for attempt in attempts for reading in attempt.readings]
        try:
            claimed = await transaction.claim(connection, self._generation, readings)
            if claimed.new:
                await transaction.insert_measurements(connection, claimed.new)
                sightings = DeviceTracker(0).take((reading.event for reading in claimed.new), 0)
                await transaction.touch_devices(connection, sightings)
            verdicts = judge(attempts, claimed)
            await transaction.bury(connection, verdicts.orphans)
            await _mark_failing(connection, verdicts)
            transaction_id = await connection.fetchval(queries.mark_replayed, verdicts.replayed)
            if claimed.new:
                position = Position(self._lease.stream, self._lease.owner, self._generation, 0)
                await transaction.append(connection, position, claimed.new)
        except asyncpg.PostgresError as error:
            if is_data_error(error):
                raise _Refused(letters, str(error)) from error
            raise
        return Page(letters[-1].id, len(claimed.new), verdicts, transaction_id or "")

    async def _keep(self, letter: Kept, error: str) -> Page:
        """Leave a letter that the database refuses."""
        received_at = format_time(letter.received_at)
        refused = Rejection(received_at, letter.topic, None, "refused_by_database", error, letter.payload)
        page = Page(letter.id, 0, Verdicts([], [(letter, refused)], [], 0), "")

        async def mark() -> None:
            with retryable():
                async with lent(self._pool) as connection:
                    await _mark_failing(connection, page.verdicts)

        await keep_trying("postgres", mark, self._health)
        return page

    async def _refresh(self) -> None:
        """Learn why an append was refused.

        Raises:
            Stop: another replay owns the stream.
        """
        row = await self._ask(queries.stream_owner, self._lease.stream)
        if row["owner"] != self._lease.owner:
            raise Stop(f"another replay took over: {row['owner_name']}")
        self._generation = row["generation"]

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
    )
