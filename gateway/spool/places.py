"""How far each run of a spool is drained, as PostgreSQL knows it: written in the transaction that stores.

So what a gateway drained and had not yet removed from its spool when it was killed is not drained twice,
whether or not its messages have keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.events import decode_events, format_time
from gateway.spool.chunks import Drained
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from runtime.postgres import Connection

queries = load_queries("gateway")

_LOOKED_AT: Final = 50  # rows of a stream, more than can have been under way


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


@dataclass(slots=True)
class Left:
    """What is still at the site, for those who only see PostgreSQL.

    Attributes:
        messages: in the spool.
        oldest: when the first of them came, ISO 8601; empty when there is none.
        drains_in_s: about; None when nobody can tell.
    """

    messages: int = 0
    oldest: str = ""
    drains_in_s: float | None = None


async def note_places(connection: Connection, stream: int, places: Sequence[Place], left: Left) -> None:
    """Note them, in the transaction that stores what lies before them."""
    await connection.execute(
        queries.note_spool_places,
        [place.run for place in places],
        [place.place for place in places],
        [place.last or None for place in places],
        stream,
        left.messages,
        left.oldest or None,
        left.drains_in_s,
    )


async def read_places(pool: asyncpg.Pool[asyncpg.Record], runs: Sequence[str]) -> dict[str, Place]:
    """How far runs are drained, by name; none for those of which nothing is."""
    rows = await pool.fetch(queries.spool_places, runs)
    return {
        row["run"]: Place(row["run"], row["place"], format_time(row["last"]) if row["last"] else "")
        for row in rows
    }


async def is_stored(
    pool: asyncpg.Pool[asyncpg.Record], stream: int, since: int, after: str, until: str
) -> bool:
    """Whether rows of a stream from one on have anything that came after one time, until another."""
    rows = await pool.fetch(queries.outbox_rows_since, stream, since, _LOOKED_AT)
    return any(after < event.received_at <= until for row in rows for event in decode_events(row["payload"]))


def places_of(chunks: Iterable[object]) -> list[Place]:
    """How far a batch with these chunks drains each run, in its order."""
    places = {
        chunk.run: Place(chunk.run, chunk.place, chunk.last) for chunk in chunks if isinstance(chunk, Drained)
    }
    return list(places.values())
