"""History's tables in PostgreSQL, and its cursor: moved by the transaction that adds what lies before it.

Whoever changes history locks it first, so that two projectors take turns and cannot deadlock. Which of them
adds a row is settled by the cursor: it moves only from where the one who moves it left it, and only for rows
that the database itself holds: one that was restored to an older state may have others in their places. An
answer to COMMIT that was lost leaves the outcome open; the caller looks at the cursor again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import msgspec

from projector.outbox import Outbox, answering, queries
from runtime import faults
from runtime.errors import Retry
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime

    from projector.history.minutes import Columns, Minutes
    from projector.views import Seen
    from runtime.postgres import Connection


LONGEST_S: Final = 600.0  # two hours of a hundred thousand devices take half a minute


class Stand(NamedTuple):
    """Where a stream stands in PostgreSQL, and history on it.

    Attributes:
        cursor: None where it has not begun.
        waiting_since: when the oldest row that it lacks was written; None without one.
    """

    epoch: str
    head: int
    cursor: int | None
    waiting_since: datetime | None


class Span(NamedTuple):
    """Rows of one stream and epoch, those after `after` up to and with `last`.

    Attributes:
        seen: the same rows, as they were when they were read.
    """

    stream: int
    epoch: str
    after: int
    last: int
    seen: Sequence[Seen]


class Mean(msgspec.Struct, frozen=True, gc=False):
    """The mean of a device's metric in a minute, as counted since 1970."""

    device_id: str
    metric: str
    minute: int
    mean: float


class Busy(Retry):
    """Somebody else is changing history, and has been for a while; nobody can until that is done."""

    def __init__(self) -> None:
        super().__init__("history", "another is changing it")


class Store:
    """Writes history."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def look(self) -> dict[int, Stand]:
        """Read where every stream stands.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            return await read_stands(self._pool)

    async def begin(self, stream: int) -> bool:
        """Begin a stream at its first row; False when that is not there any more, or somebody was faster.

        It takes a turn too: who is faster may have moved on from there, and would be put back.

        Raises:
            Busy: it is another's turn, and has been for long.
            Retry: PostgreSQL is away.
        """
        async with self._locked() as connection:
            return bool(await connection.fetchval(queries.begin_history, stream))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Connection]:
        """Take one's turn at changing history: what is done over the connection counts all or not at all.

        Raises:
            Busy: it is another's turn, and has been for long.
            Retry: PostgreSQL is away. Nothing has changed, except when the answer was lost.
        """
        async with self._locked() as connection:
            yield connection
            faults.point("before_history")
        faults.point("after_history")

    async def hours_due(self) -> bool:
        """Whether it is time to make hours.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            return bool(await self._pool.fetchval(queries.hours_due))

    async def make_hours(self, *, if_due: bool = False) -> None:
        """Make the hours that are open out of their minutes, for good those that are over.

        Args:
            if_due: unless another has meanwhile.

        Raises:
            Busy: it is another's turn, and has been for long.
            Retry: PostgreSQL is away.
        """
        async with self._locked() as connection:
            if not if_due or await connection.fetchval(queries.hours_due):
                await connection.execute(queries.make_hours, timeout=LONGEST_S)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Connection]:
        with answering():
            async with lent(self._pool) as connection, connection.transaction():
                await lock(connection)
                yield connection


async def lock(connection: Connection, *, patiently: bool = False) -> None:
    """Take one's turn at changing history, until the end of the transaction.

    Who is patient waits for as long as anything may take.

    Raises:
        Busy: it is another's turn, and has been for long.
    """
    if patiently:
        await connection.execute(queries.lock_history, timeout=LONGEST_S)
        return
    try:
        await connection.execute(queries.lock_history_soon)
    except asyncpg.LockNotAvailableError:
        raise Busy from None


async def read_stands(source: asyncpg.Pool[asyncpg.Record] | Connection) -> dict[int, Stand]:
    """Read where every stream stands, by its number."""
    return {
        row["stream"]: Stand(row["epoch"], row["head"], row["n"], row["waiting_since"])
        for row in await source.fetch(queries.look_at_history)
    }


async def add(connection: Connection, span: Span, minutes: Minutes) -> list[Mean] | None:
    """Add what the rows of a span amount to, when it is our turn.

    Returns:
        The minutes of the last hour that changed, as they are now; None when history is not where the span
        begins, or the database has other rows than the span's: then nothing was added.
    """
    stream, epoch, after, last, seen = span
    if await Outbox(connection, "history").replaced({stream: seen}):
        return None
    if not await connection.fetchval(queries.move_history, stream, after, last, epoch):
        return None
    means: list[Mean] = []
    numbers: dict[int, int] = {}  # one of each, and the texts that memory has: there may be 300,000 means
    async for piece in _beside(minutes.devices()):
        texts = {text: text for text in (*piece.ids, *piece.metrics)}
        for id_, name, minute, mean in await connection.fetch(queries.add_to_devices, *piece):
            means.append(Mean(texts[id_], texts[name], numbers.setdefault(minute, minute), mean))
    async for piece in _beside(minutes.regions()):
        await connection.execute(queries.add_to_regions, *piece)
    await merge_late(connection)
    return means


async def merge_late(connection: Connection) -> None:
    """Merge what came for hours that are packed, as the last part of a transaction."""
    if await connection.fetchval(queries.has_late_minutes):
        await connection.execute(queries.without_jit)
        await connection.execute(queries.merge_late_minutes, timeout=LONGEST_S)


async def _beside(pieces: Iterator[Columns]) -> AsyncIterator[Columns]:
    """Make pieces in a thread: what is added belongs to nobody else, and may take 200 ms to sum up."""
    while piece := await asyncio.to_thread(next, pieces, None):
        yield piece
