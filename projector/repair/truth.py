"""What the views should hold: everything stored, read from one snapshot of PostgreSQL.

A measurement is stored in the transaction that appends its outbox row. So in one snapshot the visible
measurements are the events of all rows up to the head of every stream: no more, and none is missing. A fold
over them is what views must hold whose cursors are those heads. That is why a rebuild reads `measurements`
and needs none of the outbox's rows up to there, which may have been trimmed long ago. Days that retention
has dropped are in `retired_statistics` instead, since the same transaction.

Days that the gateway has settled (`gateway/settling.py`) need not be read either: what their measurements
amount to is in `settled_statistics`, but for late ones, of which there are copies, and in no snapshot is
anything of that in two places. A rebuild goes by that. A verification reads the measurements, and tells where
they are not as many as was settled; what each amounts to it does not add up again.

Memory is bounded: the rows are taken a page at a time, and while a page is worked on, PostgreSQL waits.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from contract.events import Event, Scalar
from projector.outbox import answering, as_position, queries
from projector.repair.gather import Gathered
from projector.views.retired import Retired, merged, parts
from runtime.errors import Retry
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    import asyncpg

    from projector.outbox import Position
    from runtime.postgres import Connection

T = TypeVar("T")

PAGE_BYTES: Final = 1_000_000  # of JSON: about 5,000 measurements
GATHERED_METRICS: Final = 300_000  # of devices, held at once: some 75 MB
ROWS_A_PART: Final = 1500  # applied in one run, each a metric of a device
STALL_S: Final = 60.0  # a server that is silent for so long is taken for dead
SORT_S: Final = 3600.0  # but for one that sorts: of a year and a large fleet, hundreds of millions of rows
_NO_TIMEOUT_S: Final = 30 * 86_400.0  # of the whole COPY; what ends it is a stall


class _Measurement(Event, frozen=True, array_like=True, gc=False):
    """An event as `read_measurements` gives it: jsonb writes doubles such as 1e20 with all their digits."""

    metrics: dict[str, Scalar]


_measurements = msgspec.json.Decoder(list[_Measurement])
_retired = msgspec.json.Decoder(list[Retired])


class Truth:
    """Everything stored, in one snapshot.

    Attributes:
        positions: where each stream stood in it.
        settled: how many measurements are read as what their days amount to.
        estimate: about how many measurements there are; 0 when nobody knows.
        miscounted: settled days that were read as their measurements: how many these were, and how many were
            settled, where that differs.
    """

    def __init__(
        self,
        connection: Connection,
        positions: dict[int, Position],
        *,
        days: list[str],
        settled: int,
        estimate: int,
    ) -> None:
        self.positions = positions
        self.settled = settled
        self.estimate = estimate
        self.miscounted: dict[str, tuple[int, int]] = {}
        self._connection = connection
        self._days = days

    async def read(
        self, take: Callable[[list[Retired]], Awaitable[None]], progress: Callable[[int, int], None]
    ) -> int:
        """Read all of it, as statistics that may be applied in any order.

        Args:
            take: called with no more than `ROWS_A_PART` rows.
            progress: called with the number of measurements so far and `estimate`.

        Returns:
            How many measurements there were, those of settled days too.

        Raises:
            Retry: PostgreSQL is away, or holds a row that is no event; it says which.
        """
        gathered = Gathered()

        async def take_rows(rows: Iterable[Retired]) -> None:
            for part in parts(rows, ROWS_A_PART):
                await take(part)

        async def take_statistics(rows: list[Retired]) -> None:
            await take_rows(merged(rows))

        async def take_measurements(events: list[_Measurement]) -> None:
            gathered.add(events)
            progress(self.settled + gathered.events, self.estimate)
            if gathered.size > GATHERED_METRICS:
                await take_rows(gathered.take())

        with answering():
            statements = await self._connection.fetch(queries.read_measurements, self._days)
        await self._pages(_retired, take_statistics, queries.read_statistics, self._days, silent_s=SORT_S)
        for statement, day, settled in statements:
            before = gathered.events
            await self._pages(_measurements, take_measurements, statement)
            if settled is not None and (read := gathered.events - before) != settled:
                self.miscounted[day] = read, settled
        await take_rows(gathered.take())
        await self._pages(_retired, take_rows, queries.read_presence)
        return self.settled + gathered.events

    async def _pages(
        self,
        decoder: msgspec.json.Decoder[list[T]],
        take: Callable[[list[T]], Awaitable[None]],
        query: str,
        *arguments: object,
        silent_s: float | None = None,
    ) -> None:
        """Take what a query yields; its first line may be `silent_s` away."""
        page = bytearray()
        loop = asyncio.get_running_loop()

        async def turn(size: int) -> None:
            lines = bytes(page[:size])
            del page[:size]
            stall.reschedule(None)
            await take(_decode(decoder, lines))
            stall.reschedule(loop.time() + STALL_S)

        async def grow(block: bytes) -> None:
            stall.reschedule(loop.time() + STALL_S)
            page.extend(block)
            if len(page) >= PAGE_BYTES and (size := page.rfind(b"\n") + 1):
                await turn(size)

        try:
            async with asyncio.timeout(silent_s or STALL_S) as stall:
                with answering():
                    await self._connection.copy_from_query(
                        query, *arguments, output=grow, timeout=_NO_TIMEOUT_S
                    )
                if page:
                    await turn(len(page))
        except TimeoutError as error:
            raise Retry("postgres", f"has sent nothing for {STALL_S:g} s") from error


@asynccontextmanager
async def open_truth(pool: asyncpg.Pool[asyncpg.Record], *, settled: bool) -> AsyncIterator[Truth]:
    """Hold a snapshot for as long as the body runs.

    Args:
        pool: one connection of it is used.
        settled: whether settled days are read as what they amount to, or as their measurements.

    Meanwhile retention drops nothing, and no new partition is attached: both try again a while later.

    Raises:
        Retry: PostgreSQL is away.
    """
    with answering():
        async with (
            lent(pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(queries.lock_truth)
            records = await connection.fetch(queries.read_positions)
            positions = {record["stream"]: as_position(record) for record in records}
            added_up = await connection.fetchrow(queries.added_up, settled)
            assert added_up is not None
            days, known = added_up
            estimate = await connection.fetchval(queries.estimate_measurements, days)
            yield Truth(
                connection, positions, days=days, settled=known, estimate=estimate and known + estimate
            )


def _decode(decoder: msgspec.json.Decoder[list[Any]], lines: bytes) -> list[Any]:
    """Decode lines of a COPY, each a JSON array. COPY doubles backslashes and escapes nothing else there."""
    if b"\\" in lines:
        lines = lines.replace(b"\\\\", b"\\")
    try:
        return decoder.decode(b"[%s]" % lines[:-1].replace(b"\n", b","))
    except msgspec.DecodeError as error:
        raise Retry("postgres", f"a measurement is no event: {error}") from error
