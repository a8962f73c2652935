"""How far each run of a spool is drained, as PostgreSQL knows it: written in the transaction that stores.

So what a gateway drained and had not yet removed from its spool when it was killed is not drained twice,
whether or not its messages have keys.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from contract.events import decode_events, format_time
from gateway.decode import Rejection
from gateway.spool.chunks import Drained
from runtime.postgres import keep_asking, load_queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from contract.events import Event
    from gateway.decode import Reading
    from gateway.spool.entry import Record
    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_AT_ONCE: Final = 50  # rows of a stream


class Place(NamedTuple):
    """How far a batch drains a run.

    Attributes:
        run: its name.
        place: of the last record.
        last: time of arrival that was given then, in the contract's form; empty when none ever was.
    """

    run: str
    place: int
    last: str


class Left(NamedTuple):
    """What is still at the site, for those who only see PostgreSQL.

    Attributes:
        messages: in the spool.
        oldest: when the first of them came, ISO 8601; empty when there is none.
        drains_in_s: about; None when nobody can tell.
    """

    messages: int = 0
    oldest: str = ""
    drains_in_s: float | None = None


def noted(places: Sequence[Place], left: Left) -> tuple[object, ...]:
    """What is noted of them, as `note_spool_places` and `store_batch` take it."""
    return (
        [place.run for place in places],
        [place.place for place in places],
        [place.last or None for place in places],
        left.messages,
        left.oldest or None,
        left.drains_in_s,
    )


async def note_places(connection: Connection, stream: int, places: Sequence[Place], left: Left) -> None:
    """Note them, in the transaction that stores what lies before them."""
    await connection.execute(queries.note_spool_places, stream, *noted(places, left))


class Stored:
    """What is stored of messages that were in flight when they went into the spool.

    Args:
        readings: time of arrival and device of each.
        letters: time of arrival and topic of each.
    """

    def __init__(
        self, readings: Iterable[tuple[str, str]] = (), letters: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._readings = frozenset(readings)
        self._letters = frozenset(letters)

    def __bool__(self) -> bool:
        return bool(self._readings or self._letters)

    def has(self, item: Reading | Rejection) -> bool:
        """Whether it is stored, as it is or as a dead letter."""
        if isinstance(item, Rejection):
            return (item.received_at, item.topic) in self._letters
        at = item.event.received_at
        return (at, item.event.device_id) in self._readings or (at, item.topic) in self._letters


class Known:
    """What PostgreSQL knows of messages that a process before has put into a spool; waits for it to answer.

    Args:
        stream: of the gateway.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], stream: int, health: Health) -> None:
        self._pool = pool
        self._stream = stream
        self._health = health

    async def begin(self) -> None:
        """What was left when this gateway ended is told anew, if it is there."""
        await keep_asking(lambda: self._pool.execute(queries.forget_left, self._stream), self._health)

    async def place(self, run: str) -> Place | None:
        """How far a run is drained; None when nothing of it is."""
        row = await keep_asking(lambda: self._pool.fetchrow(queries.spool_place, run), self._health)
        if row is None:
            return None
        return Place(run, row["place"], format_time(row["last"]) if row["last"] else "")

    async def stored(self, records: Sequence[Record]) -> Stored:
        """What is stored of those among records that were in flight when they went into the spool."""
        # Without a time of arrival nothing can be stored: none was given yet when it had been read.
        flown = [each for each in records if each.since is not None and each.after is not None and each.last]
        if not flown:
            return Stored()
        after, until = str(flown[0].after), max(each.last for each in flown)
        since = min(each.since for each in flown if each.since is not None)
        readings: list[tuple[str, str]] = []
        while rows := await keep_asking(partial(self._rows_from, since), self._health):
            found = [event for row in rows for event in self._events_of(row)]
            readings += [
                (each.received_at, each.device_id) for each in found if after < each.received_at <= until
            ]
            if found and found[-1].received_at > until:
                break
            since = rows[-1]["n"] + 1
        letters = await keep_asking(
            lambda: self._pool.fetch(queries.letters_between, after or "-infinity", until), self._health
        )
        return Stored(readings, ((format_time(row["received_at"]), row["topic"]) for row in letters))

    def _events_of(self, row: asyncpg.Record) -> list[Event]:
        try:
            return decode_events(row["payload"])
        except ValueError as error:  # somebody edited it by hand; msgspec's errors are ValueErrors too
            log.warning("outbox_row_unreadable", stream=self._stream, n=row["n"], detail=str(error))
            return []

    async def _rows_from(self, n: int) -> list[asyncpg.Record]:
        return await self._pool.fetch(queries.outbox_rows_since, self._stream, n, _AT_ONCE)


def places_of(chunks: Iterable[object]) -> list[Place]:
    """How far a batch with these chunks drains each run, in its order."""
    places = {
        chunk.run: Place(chunk.run, chunk.place, chunk.last or "")
        for chunk in chunks
        if isinstance(chunk, Drained)
    }
    return list(places.values())
